# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make the panoptic ground truth of IDD with the 26 classes of level 3.

SRC is the folder with leftImg8bit/ and gtFine/ as IDD Segmentation (part I, part II or
both) from https://idd.insaan.iiit.ac.in unpacks: train/ and val/ with a folder for each
drive. The polygons are drawn at their own size and then brought to 1280x720 pixels,
the size of the evaluation; the images stay as they are and are resized when they are
loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mmdet_efficientps.datasets.label_table import load_classes, load_label_table
from mmdet_efficientps.structures.panoptic import VOID_ID, read_json
from mmdet_efficientps.structures.panoptic.annotations import (
    FLAG,
    LIST,
    SIZE,
    TEXT,
    Field,
    take_entry,
)
from mmdet_efficientps.utils import ProblemList

from .conversion import convert
from .folders import check_folders, find_files, pair_files, plan_links
from .jobs import BadInputError, Job, Panoptic, Split
from .masks import check_coordinates
from .readers import check_size, read_image_size
from .segments import collect_segments, resize_values
from .summary import ConversionReport

LABEL_SIZE = (1280, 720)
SPLITS = ('train', 'val')
DOWNLOAD = 'unpack IDD Segmentation from https://idd.insaan.iiit.ac.in there'
# Polygons are drawn at their own size; more pixels than that would fill the memory.
MAX_PIXELS = 2**28

TABLE = load_label_table('idd')
CLASS_OF = {name: label for label in TABLE['classes'] for name in label['members']}
FIELDS = {'imgWidth': SIZE, 'imgHeight': SIZE, 'objects': LIST}
OBJECT_FIELDS = {
    'label': TEXT,
    'polygon': LIST,
    'deleted': Field(FLAG.take, FLAG.wanted, 0),
}


def prepare_idd(
    src: str | Path,
    out: str | Path | None = None,
    size: tuple[int, int] = LABEL_SIZE,
    nproc: int = 1,
) -> list[ConversionReport]:
    """Write ``gtFine/idd_panoptic_<split>.json`` and the PNGs beside it.

    Args:
        src (str | Path): Folder with leftImg8bit/ and gtFine/.
        out (str | Path | None): Folder to write to; the images are linked into it.
            Defaults to None, which is ``src``.
        size (tuple[int, int]): Width and height of the ground truth in pixels.
            Defaults to (1280, 720), as in the official evaluation.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One for each split.

    Raises:
        OSError: As :func:`prepare_cityscapes`; nothing is written then.
        ValueError: If an input would be overwritten, or ``size`` is not positive;
            nothing is written then.
    """
    src, out = Path(src), Path(out or src)
    if min(size) < 1:
        raise ValueError(f'--size must be a width and a height in pixels, got {size}')
    kinds = ('leftImg8bit', 'gtFine')
    check_folders({src / k / split: DOWNLOAD for k in kinds for split in SPLITS})
    draw = partial(_draw, size=(size[0], size[1]))
    splits = [_find_split(src, out, split, draw) for split in SPLITS]
    return convert(splits, nproc, plan_links(src, out, ['leftImg8bit']))


def draw_polygons(
    objects: Iterable[Any],
    width: int,
    height: int,
    label_path: Path | str,
    problems: ProblemList,
) -> tuple[np.ndarray, dict[int, tuple[int, int]], int]:
    """Draw the labels of an image, the later ones over the earlier.

    Every thing is a region of its own. Each class of stuff is one region, and so are
    the crowds of a thing class ('cargroup'). Labels without a class, such as licence
    plates, hide what is under them.

    Args:
        objects (Iterable[Any]): Objects of a polygons.json: label, polygon (pixels),
            optionally deleted.
        width (int): Width of the image in pixels.
        height (int): Height of the image in pixels.
        label_path (Path | str): Where they are from, to be named.
        problems (ProblemList): Gets the objects that cannot be drawn.

    Returns:
        tuple[np.ndarray, dict[int, tuple[int, int]], int]: Numbers of the regions,
        shape (H, W), int32, 0 = void; category id and iscrowd of each number; the
        number of polygons of less than three points.

    Raises:
        BadInputError: If there are unknown labels.
    """
    picture = Image.new('I', (width, height), VOID_ID)
    drawer = ImageDraw.Draw(picture)
    regions: dict[int, tuple[int, int]] = {}
    number_of: dict[int, int] = {}
    unknown = set()
    num_dropped = 0
    left_out = 'object left out: '
    for place, raw in enumerate(objects):
        where = f'{label_path}: objects[{place}]'
        entry = take_entry(raw, OBJECT_FIELDS, 'an object', where, problems, left_out)
        if entry is None or entry['deleted']:
            continue
        name = entry['label']
        # polegroup is a label of its own: only what is no label can be a crowd.
        is_crowd = name not in CLASS_OF and name.removesuffix('group') in CLASS_OF
        label = CLASS_OF.get(name.removesuffix('group') if is_crowd else name)
        if len(entry['polygon']) < 3:
            num_dropped += 1
            continue
        if label is None and name not in TABLE['void']:
            unknown.add(name)
            continue
        try:
            corners = _check_corners(entry['polygon'], width, height)
        except ValueError as error:
            problems.add(f'{left_out}{error}', where)
            continue
        if label is None:
            number = VOID_ID
        elif label['isthing'] and not is_crowd:
            number = len(regions) + 1
            regions[number] = (label['id'], 0)
        else:
            number = number_of.setdefault(label['id'], len(regions) + 1)
            regions[number] = (label['id'], int(is_crowd and label['isthing']))
        drawer.polygon(corners, fill=number)
    if unknown:
        raise BadInputError(
            'unknown labels, not of IDD', f'{label_path}: {sorted(unknown)}'
        )
    return np.array(picture), regions, num_dropped


def _check_corners(polygon: list[Any], width: int, height: int) -> list[float]:
    """Give the coordinates of a list of corners (x, y) in one list."""
    if not all(isinstance(corner, list) and len(corner) == 2 for corner in polygon):
        raise ValueError('polygon must be a list of corners [x, y]')
    coordinates = [value for corner in polygon for value in corner]
    return check_coordinates(coordinates, width, height)


def _find_split(src: Path, out: Path, split: str, draw: partial[Panoptic]) -> Split:
    """List the images of a split."""
    problems = ProblemList()
    # Frames are numbered anew in every drive. Part I has PNGs, part II JPEGs.
    images, labels = (
        {
            f'{drive.name}/{frame}': path
            for drive in sorted((src / folder / split).iterdir())
            if drive.is_dir()
            for frame, path in find_files(
                drive.iterdir(), ending, suffixes, problems
            ).items()
        }
        for folder, ending, suffixes in (
            ('leftImg8bit', '_leftImg8bit', ['.png', '.jpg', '.jpeg']),
            ('gtFine', '_gtFine_polygons', ['.json']),
        )
    )
    if not labels:
        raise FileNotFoundError(
            f'{src / "gtFine" / split} has no <drive>/*_gtFine_polygons.json: '
            f'{DOWNLOAD}'
        )
    jobs = []
    for name in pair_files(images, labels, problems, DOWNLOAD):
        path = images[name]
        jobs.append(
            Job(
                image={
                    'id': name.replace('/', '_'),
                    'file_name': f'{path.parent.name}/{path.name}',
                },
                image_path=path,
                png_name=f'{name.replace("/", "_")}.png',
                label_path=labels[name],
            )
        )
    json_path = out / 'gtFine' / f'idd_panoptic_{split}.json'
    return Split(json_path, load_classes('idd'), jobs, draw, problems)


def _draw(job: Job, size: tuple[int, int]) -> Panoptic:
    """Make the labels of one image at the wanted size."""
    assert job.label_path
    image_size = read_image_size(job.image_path)
    problems = ProblemList()
    try:
        raw = read_json(job.label_path)
    except ValueError as error:
        raise BadInputError('polygons cannot be read', str(error)) from error
    content = take_entry(
        raw, FIELDS, 'the polygons of an image', str(job.label_path), problems
    )
    if content is None:
        raise BadInputError(problems=problems)
    label_size = content['imgWidth'], content['imgHeight']
    check_size(image_size, label_size, job.image_path, same_view=True)
    if label_size[0] * label_size[1] > MAX_PIXELS:
        raise BadInputError(
            'imgWidth and imgHeight are larger than those of a photograph',
            f'{job.label_path}: {label_size}',
        )
    numbers, regions, num_dropped = draw_polygons(
        content['objects'], *label_size, job.label_path, problems
    )

    def describe(number: int) -> tuple[int, int, int] | None:
        # The class is not the id: road is class 0, and id 0 is void.
        return (number, *regions[number]) if number != VOID_ID else None

    ids, segments = collect_segments(resize_values(numbers, size), describe)
    num_dropped += len(regions) - len(segments)
    return Panoptic(ids, segments, num_dropped, problems=problems)
