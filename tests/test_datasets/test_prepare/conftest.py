# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A scene that is labelled in every format, and what has to come of it."""

import json

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.structures.panoptic import rgb2id

HEIGHT, WIDTH = 12, 20
CLASSES = {'things': ['person'], 'stuff': ['road', 'sky']}


class Scene:
    """Sky above, road below, two persons on it, and void between sky and road.

    Attributes:
        objects: Number of each pixel's object, 0 for void; 1 sky, 2 road, 3 and 4
            persons. The road is in two parts.
        boxes: x1, y1, x2, y2 of the parts of each object.
    """

    boxes = {
        1: [(0, 0, 20, 3)],
        2: [(0, 6, 9, 12), (11, 6, 20, 12)],
        3: [(2, 4, 5, 9)],
        4: [(13, 4, 16, 9)],
    }
    names = {1: 'sky', 2: 'road', 3: 'person', 4: 'person'}
    shape = HEIGHT, WIDTH

    def __init__(self):
        self.objects = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
        for number, boxes in self.boxes.items():
            for x1, y1, x2, y2 in boxes:
                self.objects[y1:y2, x1:x2] = number

    def polygons(self, number):
        """Corners of the parts of an object."""
        return [
            [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
            for x1, y1, x2, y2 in self.boxes[number]
        ]

    def look_up(self, values):
        """Give a map in which an object has the value of its name or number."""
        return np.array([values[k] for k in range(5)])[self.objects]

    @staticmethod
    def write_image(path, size=(WIDTH, HEIGHT), **kwargs):
        """Write a photograph."""
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, (90, 120, 90)).save(path, **kwargs)

    def check(self, out, number=0, crowds=()):
        """Compare an image of a json that was written with the scene."""
        content = json.loads(out.read_text())
        name_of = {c['id']: c['name'] for c in content['categories']}
        annotation = content['annotations'][number]
        path = out.with_suffix('') / annotation['file_name']
        ids = rgb2id(np.array(Image.open(path)))
        image = content['images'][number]
        assert (image['height'], image['width']) == ids.shape
        segments = {s['id']: s for s in annotation['segments_info']}
        assert sorted(np.unique(ids[ids > 0])) == sorted(segments)
        for object_number, name in self.names.items():
            (found,) = np.unique(ids[self.objects == object_number])
            assert name_of[segments[found]['category_id']] == name
            np.testing.assert_array_equal(ids == found, self.objects == object_number)
            assert segments[found]['area'] == (ids == found).sum()
            assert segments[found]['iscrowd'] == (name in crowds)
        assert len(segments) == len(self.names)
        return content


@pytest.fixture
def scene():
    """The scene."""
    return Scene()


def tree_of(folder):
    """Content of all files."""
    return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.fixture
def kept():
    """Call before and after: nothing that was there may have changed."""
    return tree_of
