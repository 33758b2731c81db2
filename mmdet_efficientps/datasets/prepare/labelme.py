# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make panoptic ground truth from the jsons of LabelMe.

SRC is a folder with a json for each image, in folders below it too; the images lie
beside them, or in the same tree below IMAGES. Polygons, rectangles, circles, oriented
rectangles and masks are segments; lines and points have no area, and are named and left
out. Shapes of one label and one group_id are parts of one object.

Overlaps are resolved as for COCO polygons: things hide stuff, and the smaller shape
hides the larger one. Images without a json are not labelled, and left out.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from mmdet_efficientps.structures.panoptic import read_json
from mmdet_efficientps.structures.panoptic.annotations import (
    IMAGE_ID,
    LIST,
    SIZE,
    TEXT,
    Field,
    number,
    take_entry,
)
from mmdet_efficientps.structures.run_length_masks import crop_to_rle
from mmdet_efficientps.utils import ProblemList

from .class_choice import ClassChoice, ClassName, not_listed
from .coco_polygons import draw_panoptic
from .conversion import convert
from .folders import IMAGE_SUFFIXES, check_sources, find_tree, image_job
from .jobs import BadInputError, Job, Panoptic, Split
from .masks import check_coordinates, join_segmentations
from .readers import any_number_of_pixels, check_size, read_image_size
from .summary import ConversionReport

FIELDS = {
    'shapes': LIST,
    'imageWidth': Field(SIZE.take, SIZE.wanted, None),
    'imageHeight': Field(SIZE.take, SIZE.wanted, None),
}
SHAPE_FIELDS = {
    'label': TEXT,
    'points': LIST,
    # Before 2018 there were polygons only.
    'shape_type': Field(TEXT.take, TEXT.wanted, 'polygon'),
    'group_id': Field(IMAGE_ID.take, IMAGE_ID.wanted, None),
    'mask': Field(TEXT.take, TEXT.wanted, None),
}
POINTS = {'polygon': None, 'rectangle': 2, 'circle': 2, 'oriented_rectangle': 4}
# Pixels that the corners of a circle stay away from it.
CIRCLE_ERROR = 0.1


def prepare_labelme(
    src: str | Path,
    out: str | Path,
    image_dir: str | Path | None = None,
    things: Sequence[ClassName] = (),
    stuff: Sequence[ClassName] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Convert jsons of LabelMe.

    Args:
        src (str | Path): Folder of the jsons.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix.
        image_dir (str | Path | None): Folder of the images. Defaults to None, which is
            ``src``.
        things (Sequence[ClassName]): Names of the thing classes, or mappings of a class
            to the labels that are joined in it. Defaults to ().
        stuff (Sequence[ClassName]): The same for the stuff classes. Defaults to ().
        ignore (Sequence[str]): Labels that become void. Defaults to ().
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One report.

    Raises:
        FileNotFoundError: If there are no labels or no folder of images.
        FileExistsError: If ``out`` has something else than panoptic labels.
        ValueError: If the lists of classes cannot be used, or ``out`` is no json or
            would overwrite an input. Nothing is written then.
    """
    src, out = Path(src), Path(out)
    image_dir = Path(image_dir or src)
    check_sources(out, searched=[src, image_dir])
    classes, category_of = ClassChoice.of(things, stuff, ignore).match()
    problems = ProblemList()
    images = find_tree(image_dir, '', IMAGE_SUFFIXES, problems)
    paths = set(images.values())
    labels = find_tree(src, '', ['.json'], problems)
    if not labels:
        raise FileNotFoundError(f'{src} has no jsons of LabelMe')
    jobs: dict[Path, Job] = {}
    # The json of the same name goes before another one, such as a copy of it.
    for name, path in sorted(labels.items(), key=lambda item: item[0] not in images):
        image = images.get(name) or _image_of(path, image_dir, paths)
        if image is None:
            problems.add(
                'image is missing, its json is there: both need the same name', path
            )
        elif image in jobs:
            problems.add('json whose image another json has, too: remove one', path)
        elif job := image_job(image, image_dir, problems, path):
            jobs[image] = job
    unlabelled = len(paths - jobs.keys())
    notes = [f'not labelled: {unlabelled} images'] if unlabelled else []
    isthing = {c.id: c.isthing for c in classes}
    draw = partial(_draw, category_of=category_of, isthing=isthing)
    sources = [src, image_dir]
    split = Split(out, classes, list(jobs.values()), draw, problems, sources, notes)
    return convert([split], nproc)


def _image_of(path: Path, image_dir: Path, images: set[Path]) -> Path | None:
    """Find the image of a json that has another name, by what the json says."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    given = content.get('imagePath') if isinstance(content, dict) else None
    if not isinstance(given, str):
        return None
    # LabelMe writes paths from the json to the image, on Windows with backslashes.
    name = PureWindowsPath(given).name
    places = path.parent / name, image_dir / name
    return next((place for place in places if place in images), None)


def _draw(
    job: Job, category_of: dict[str, int | None], isthing: dict[int, bool]
) -> Panoptic:
    """Draw the shapes of one image."""
    assert job.label_path
    problems = ProblemList()
    try:
        raw = read_json(job.label_path)
    except ValueError as error:
        raise BadInputError('json cannot be read', str(error)) from error
    content = take_entry(
        raw, FIELDS, 'a json of LabelMe', str(job.label_path), problems
    )
    if content is None:
        raise BadInputError(problems=problems)
    width, height = read_image_size(job.image_path)
    size = content['imageWidth'] or width, content['imageHeight'] or height
    check_size((width, height), size, job.image_path)

    shapes: dict[tuple[Any, ...], tuple[int, list[Any]]] = {}
    unlisted = set()
    for place, raw_shape in enumerate(content['shapes']):
        where = f'{job.label_path}: shapes[{place}]'
        shape = take_entry(
            raw_shape, SHAPE_FIELDS, 'a shape', where, problems, 'shape left out: '
        )
        if shape is None:
            continue
        label, group = shape['label'], shape['group_id']
        if label not in category_of:
            unlisted.add(label)
            continue
        category = category_of[label]
        if category is None:
            continue
        try:
            segmentation = _segmentation(shape, height, width)
        except ValueError as error:
            problems.add(f'shape left out: {error}', where)
            continue
        key = (label, str(group)) if group is not None else (place,)
        shapes.setdefault(key, (category, []))[1].append(segmentation)
    if unlisted:
        problems.add(not_listed(unlisted), job.label_path)
        raise BadInputError(problems=problems)
    annotations = [
        {
            'category_id': category,
            'segmentation': join_segmentations(parts, height, width),
        }
        for category, parts in shapes.values()
    ]
    panoptic = draw_panoptic(annotations, height, width, isthing, str(job.label_path))
    panoptic.problems.extend(problems)
    return panoptic


def _segmentation(shape: dict[str, Any], height: int, width: int) -> Any:
    """Give the area of a shape as a COCO segmentation.

    Raises:
        ValueError: If it has none; says why.
    """
    kind = shape['shape_type']
    points: list[Any] = [
        [number(value) for value in point] if isinstance(point, list) else []
        for point in shape['points']
    ]
    if not all(len(point) == 2 and None not in point for point in points):
        raise ValueError('points must be a list of [x, y]')
    if kind == 'mask':
        return _mask_segmentation(shape['mask'], points, height, width)
    if kind not in POINTS:
        raise ValueError(f'{kind} has no area')
    if POINTS[kind] not in (None, len(points)):
        raise ValueError(f'{kind} with {len(points)} points')
    if kind == 'rectangle':
        (x1, y1), (x2, y2) = points
        points = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    elif kind == 'circle':
        centre, edge = points
        radius = math.dist(centre, edge)
        if radius > width + height:
            raise ValueError('circle that is larger than the image')
        sides = 16
        if radius > CIRCLE_ERROR:
            sides = max(
                sides, math.ceil(math.pi / math.acos(1 - CIRCLE_ERROR / radius))
            )
        angles = np.arange(sides) * 2 * math.pi / sides
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = (np.array(centre) + radius * directions).tolist()
    corners = [value for point in points for value in point]
    return [check_coordinates(corners, width, height)]


def _mask_segmentation(
    text: str | None, points: list[Any], height: int, width: int
) -> Any:
    """Give a mask, a PNG of the rectangle between two points, as run lengths."""
    if text is None or len(points) != 2:
        raise ValueError('mask without picture or without the two corners')
    try:
        content = base64.b64decode(text)
        with any_number_of_pixels(), Image.open(BytesIO(content)) as picture:
            crop = np.array(picture).astype(bool)
    except (binascii.Error, OSError, SyntaxError, ValueError) as error:
        raise ValueError('mask that is damaged') from error
    (left, top), _ = np.array(points).astype(int).tolist()
    if crop.ndim != 2:
        raise ValueError('mask that has colors')
    # What sticks out of the image is cut off.
    crop = crop[
        max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)
    ]
    left, top = max(left, 0), max(top, 0)
    if not crop.size:
        raise ValueError('mask outside of the image')
    return crop_to_rle(crop, top, left, (height, width))
