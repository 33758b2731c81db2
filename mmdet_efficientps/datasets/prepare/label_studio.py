# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make panoptic ground truth from what Label Studio exports as "JSON".

Brush masks, polygons, rectangles and ellipses are segments. Of several annotations of a
task the last one that was not skipped counts. Tasks without any are not labelled, and
left out; predictions are nothing that a person has confirmed.

Overlaps are resolved as for COCO polygons: things hide stuff, and the smaller region
hides the larger one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from mmdet_efficientps.structures.brush_masks import decode_brush_mask
from mmdet_efficientps.structures.panoptic import read_json
from mmdet_efficientps.structures.panoptic.annotations import SIZE, number
from mmdet_efficientps.structures.run_length_masks import crop_to_rle
from mmdet_efficientps.utils import ProblemList

from .class_choice import ClassChoice, ClassName, not_listed
from .coco_polygons import draw_panoptic
from .conversion import convert
from .folders import IMAGE_SUFFIXES, check_sources, find_tree, image_job
from .jobs import BadInputError, Job, Panoptic, Split
from .readers import check_size, read_image_size
from .summary import ConversionReport

# What regions are drawn with, and where each has its labels, if not in 'labels' of
# another entry.
SHAPES = ('brush', 'polygon', 'rectangle', 'ellipse')
REGIONS = tuple(f'{shape}labels' for shape in SHAPES)
ELLIPSE_CORNERS = 128


def prepare_label_studio(
    src_json: str | Path,
    image_dir: str | Path,
    out: str | Path,
    things: Sequence[ClassName] = (),
    stuff: Sequence[ClassName] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Convert an export of Label Studio.

    Args:
        src_json (str | Path): The export, of the kind "JSON".
        image_dir (str | Path): Folder of the images: those that the tasks have by the
            end of their path, or, if they were uploaded, by the name without the eight
            characters that Label Studio puts before it.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix.
        things (Sequence[ClassName]): Names of the thing classes, or mappings of a class
            to the labels that are joined in it. Defaults to ().
        stuff (Sequence[ClassName]): The same for the stuff classes. Defaults to ().
        ignore (Sequence[str]): Labels that become void. Defaults to ().
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One report.

    Raises:
        FileNotFoundError: If the export or the images are missing.
        FileExistsError: If ``out`` has something else than panoptic labels.
        ValueError: If the export or the lists of classes cannot be used, or ``out`` is
            no json or would overwrite an input. Nothing is written then.
    """
    src_json, image_dir, out = Path(src_json), Path(image_dir), Path(out)
    check_sources(out, files=[src_json], searched=[image_dir])
    classes, category_of = ClassChoice.of(things, stuff, ignore).match()
    tasks = read_json(src_json)
    if not isinstance(tasks, list) or not all(
        isinstance(task, dict) and isinstance(task.get('data'), dict) for task in tasks
    ):
        raise ValueError(
            f'{src_json} is no list of tasks of Label Studio: export as "JSON"'
        )
    problems = ProblemList()
    found = find_tree(image_dir, '', IMAGE_SUFFIXES, problems)
    images = {path.relative_to(image_dir).as_posix(): path for path in found.values()}
    uploads: dict[str, list[Path]] = {}
    for name, image in images.items():
        uploads.setdefault(_stored(name), []).append(image)
    jobs: dict[Path, Job] = {}
    unlabelled = 0
    for place, task in enumerate(tasks):
        results = _results(task)
        if results is None:
            unlabelled += 1
            continue
        where = f'{src_json}: task {task.get("id", f"number {place}")}'
        path = _find_image(task, images, uploads)
        if path is None:
            problems.add(
                f'image of a task is not in {image_dir}, or several could be it', where
            )
        elif path in jobs:
            problems.add('task whose image another task has, too', where)
        elif job := image_job(path, image_dir, problems, labels=results):
            jobs[path] = job
    if not jobs:
        raise ValueError(
            f'{src_json} has no labelled image\n{problems.summary()}'.strip()
        )
    notes = [f'not labelled: {unlabelled} tasks'] if unlabelled else []
    isthing = {c.id: c.isthing for c in classes}
    draw = partial(_draw, category_of=category_of, isthing=isthing)
    sources = [src_json, image_dir]
    split = Split(out, classes, list(jobs.values()), draw, problems, sources, notes)
    return convert([split], nproc)


def _results(task: dict[str, Any]) -> list[Any] | None:
    """Give the regions of a task, None if nobody has labelled it."""
    annotations = task.get('annotations')
    done = [
        annotation['result']
        for annotation in (annotations if isinstance(annotations, list) else [])
        if isinstance(annotation, dict)
        and not annotation.get('was_cancelled')
        and isinstance(annotation.get('result'), list)
    ]
    return done[-1] if done else None


def _find_image(
    task: dict[str, Any],
    images: Mapping[str, Path],
    uploads: Mapping[str, Sequence[Path]],
) -> Path | None:
    """Find the image of a task by the end of one of the paths that it has.

    Args:
        task (dict[str, Any]): The task.
        images (Mapping[str, Path]): Images by their path below the folder.
        uploads (Mapping[str, Sequence[Path]]): Images by their :func:`_stored` name.

    Returns:
        Path | None: The image; None if there is none, or the name that an upload has
        been stored by is that of several.
    """
    given = [task.get('file_upload'), *task['data'].values()]
    for text in given:
        if not isinstance(text, str):
            continue
        address = urlsplit(text)
        # Files that a server has are /data/local-files/?d=path.
        inner = parse_qs(address.query).get('d')
        path = inner[0] if inner else unquote(address.path)
        # Names in a bucket are no addresses, and Windows has backslashes.
        for name in (path, text, path.replace('\\', '/')):
            parts = name.split('/')
            for place in range(len(parts)):
                if found := images.get('/'.join(parts[place:])):
                    return found
        if uploaded := re.fullmatch('(?:.*/)?[0-9a-f]{8}-([^/]+)', path):
            same = uploads.get(uploaded[1], ())
            if len(same) == 1:
                return same[0]
    return None


def _stored(name: str) -> str:
    """Give the name that Label Studio keeps an upload by, after its eight characters.

    Example::

        >>> _stored('IMG (1).jpg')
        'IMG_1.jpg'
    """
    kept = (c for c in name.replace(' ', '_') if c.isalnum() or c in '-_./')
    return ''.join(kept)


def _draw(
    job: Job, category_of: dict[str, int | None], isthing: dict[int, bool]
) -> Panoptic:
    """Draw the regions of one image."""
    width, height = read_image_size(job.image_path)
    problems = ProblemList()
    annotations = []
    unlisted = set()
    labelled = [
        result.get('id')
        for result in job.labels
        if isinstance(result, dict) and result.get('type') == 'labels'
    ]
    for place, result in enumerate(job.labels):
        where = f'{job.image_path}: region number {place}'
        if not isinstance(result, dict) or not isinstance(result.get('value'), dict):
            # Such as relations between regions.
            continue
        value = result['value']
        kind = str(result.get('type', '')).lower()
        if kind in SHAPES and result.get('id') not in labelled:
            problems.add('region left out: without a label', where)
        if kind.endswith('labels') and kind not in (*REGIONS, 'labels'):
            problems.add(f'region left out: {kind} are not read', where)
        if kind not in (*REGIONS, 'labels'):
            continue
        labels = value.get(kind) or value.get('labels')
        if not isinstance(labels, list) or not all(isinstance(x, str) for x in labels):
            problems.add('region left out: without a label', where)
            continue
        if len(labels) > 1:
            problems.add('region left out: with several labels', where)
            continue
        if labels[0] not in category_of:
            unlisted.add(labels[0])
            continue
        category = category_of[labels[0]]
        if category is None:
            continue
        size = (
            SIZE.take(result.get('original_width')),
            SIZE.take(result.get('original_height')),
        )
        if None not in size:
            check_size((width, height), size, job.image_path)
        try:
            if result.get('image_rotation'):
                raise ValueError('the image was turned in Label Studio')
            segmentation = _segmentation(value, height, width)
        except ValueError as error:
            problems.add(f'region left out: {error}', where)
            continue
        annotations.append(
            {'id': place, 'category_id': category, 'segmentation': segmentation}
        )
    if unlisted:
        problems.add(not_listed(unlisted), job.image_path)
        raise BadInputError(problems=problems)
    panoptic = draw_panoptic(annotations, height, width, isthing, str(job.image_path))
    panoptic.problems.extend(problems)
    return panoptic


def _segmentation(value: dict[str, Any], height: int, width: int) -> Any:
    """Give the area of a region as a COCO segmentation.

    Coordinates are parts of width and height in percent.

    Raises:
        ValueError: If it has none; says why.
    """
    if 'rle' in value:
        mask = decode_brush_mask(value['rle'], height, width)
        if not mask.any():
            raise ValueError('brush mask without a pixel')
        return crop_to_rle(mask, 0, 0, (height, width))
    corners: np.ndarray
    if 'points' in value:
        points = value['points']
        if not isinstance(points, list) or not all(
            isinstance(point, list) and len(point) == 2 for point in points
        ):
            raise ValueError('coordinates that are no numbers')
        corners = _numbers([side for point in points for side in point]).reshape(-1, 2)
    elif 'radiusX' in value:
        x, y, a, b = _numbers([value.get(k) for k in ('x', 'y', 'radiusX', 'radiusY')])
        angles = np.arange(ELLIPSE_CORNERS) * 2 * math.pi / ELLIPSE_CORNERS
        corners = np.stack([x + a * np.cos(angles), y + b * np.sin(angles)], axis=1)
        corners = _turned(corners, np.array([x, y]), value, height, width)
    else:
        x, y, w, h = _numbers([value.get(k) for k in ('x', 'y', 'width', 'height')])
        corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
        corners = _turned(corners, np.array([x, y]), value, height, width)
    pixels = corners * (width / 100, height / 100)
    return [pixels.ravel().tolist()]


def _numbers(given: list[Any]) -> np.ndarray:
    """Take a list of numbers."""
    taken = [number(value) for value in given]
    if not taken or None in taken:
        raise ValueError('coordinates that are no numbers')
    return np.array(taken, dtype=float)


def _turned(
    corners: np.ndarray,
    centre: np.ndarray,
    value: dict[str, Any],
    height: int,
    width: int,
) -> np.ndarray:
    """Turn corners, in percent, by the rotation of a region, clockwise in degrees."""
    angle = math.radians(number(value.get('rotation')) or 0)
    scale = np.array([width, height])
    matrix = np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    )
    return centre + (corners - centre) * scale @ matrix / scale
