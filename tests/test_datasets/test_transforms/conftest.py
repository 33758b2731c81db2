# Licensed under the Apache License, Version 2.0. See LICENSE.
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.structures.panoptic import id2rgb


@pytest.fixture
def scene():
    """Ids of a small scene with a car, a group of persons, road and void.

    Classes are 0 person, 1 car, 2 road. The car has a pixel of its own at the right.
    """
    road, car, group = 70000, 26001, 24
    ids = [
        [0, 0, 0, 0, 0, 0],
        [road, car, car, road, road, road],
        [road, car, car, road, road, car],
        [group, group, road, road, 0, 0],
    ]
    return SimpleNamespace(ids=np.array(ids), road=road, car=car, group=group)


@pytest.fixture
def results(tmp_path, scene):
    """Result dict of an image of the scene, before anything is loaded."""
    image_path, png_path = tmp_path / 'image.png', tmp_path / 'label.png'
    shape = scene.ids.shape
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(image_path)
    Image.fromarray(id2rgb(scene.ids)).save(png_path)
    return {
        'img_path': str(image_path),
        'seg_map_path': str(png_path),
        'img_id': 1,
        'ori_shape': shape,
        'height': shape[0],
        'width': shape[1],
        'segments_info': [
            {'id': scene.road, 'category': 2, 'is_thing': False, 'iscrowd': 0},
            {'id': scene.group, 'category': 0, 'is_thing': False, 'iscrowd': 1},
            {'id': scene.car, 'category': 1, 'is_thing': True, 'iscrowd': 0},
        ],
        'instances': [
            # The box of the json is wrong on purpose.
            {'bbox_label': 0, 'ignore_flag': 1, 'segment_id': scene.group},
            {
                'bbox_label': 1,
                'ignore_flag': 0,
                'segment_id': scene.car,
                'bbox': [0, 0, 1, 1],
            },
        ],
    }
