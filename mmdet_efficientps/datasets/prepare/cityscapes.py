# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make the panoptic ground truth of Cityscapes.

SRC is the folder with leftImg8bit/ and gtFine/ as the two archives
leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from
https://www.cityscapes-dataset.com/downloads/ unpack. The result is that of
cityscapesscripts' createPanopticImgs, but for the images' file_name, which is
<city>/<city>_<sequence>_<frame>_leftImg8bit.png here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import id2label

from mmdet_efficientps.datasets.label_table import load_classes
from mmdet_efficientps.utils import ProblemList

from .conversion import convert
from .folders import check_folders, find_files, pair_files, plan_links
from .jobs import BadInputError, Job, Panoptic, Split
from .readers import check_size, read_image_size, read_instance_map
from .segments import collect_segments
from .summary import ConversionReport

DOWNLOAD = 'unpack {} from https://www.cityscapes-dataset.com/downloads/ there'
IMAGES = 'leftImg8bit_trainvaltest.zip'
LABELS = 'gtFine_trainvaltest.zip'
CLASSES = load_classes('cityscapes')


def prepare_cityscapes(
    src: str | Path,
    out: str | Path | None = None,
    splits: Sequence[str] = ('train', 'val'),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Write ``gtFine/cityscapes_panoptic_<split>.json`` and the PNGs beside it.

    Args:
        src (str | Path): Folder with leftImg8bit/ and gtFine/.
        out (str | Path | None): Folder to write to; the images are linked into it.
            Defaults to None, which is ``src``.
        splits (Sequence[str]): Names of the splits. Defaults to ('train', 'val').
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One for each split.

    Raises:
        FileNotFoundError: If a folder is missing or empty.
        FileExistsError: If ``out`` has something else in the places to write to.
        PermissionError: If ``out`` is read-only.
        ValueError: If an input would be overwritten. Nothing is written then, as with
            the other errors.
    """
    src, out = Path(src), Path(out or src)
    folders = {}
    for split in splits:
        folders[src / 'leftImg8bit' / split] = DOWNLOAD.format(IMAGES)
        folders[src / 'gtFine' / split] = DOWNLOAD.format(LABELS)
    check_folders(folders)
    found = [_find_split(src, out, split) for split in splits]
    return convert(found, nproc, plan_links(src, out, ['leftImg8bit']))


def draw_label_values(values: np.ndarray, label_path: Path) -> Panoptic:
    """Make segments of a map in the coding of instanceIds.

    A thing is ``label id * 1000 + n``; stuff and the crowds of things are the label id
    alone. The values stay as segment ids; ignored labels become void.

    Args:
        values (np.ndarray): Shape (H, W), integers.
        label_path (Path): Where they are from, to be named.

    Returns:
        Panoptic: The segments.

    Raises:
        BadInputError: If there is a label Cityscapes does not have.
    """
    unknown = []

    def describe(value: int) -> tuple[int, int, int] | None:
        is_region = value < 1000
        label = id2label.get(value if is_region else value // 1000)
        if label is None:
            unknown.append(value)
        if label is None or label.ignoreInEval:
            return None
        return value, label.id, int(is_region and label.hasInstances)

    ids, segments = collect_segments(values, describe)
    if unknown:
        raise BadInputError(
            'unknown label ids, not of Cityscapes', f'{label_path}: {unknown}'
        )
    return Panoptic(ids, segments)


def _find_split(src: Path, out: Path, split: str) -> Split:
    """List the images of a split."""
    problems = ProblemList()
    images, label_files = (
        find_files((src / folder / split).glob('*/*'), ending, ['.png'], problems)
        for folder, ending in (
            ('leftImg8bit', '_leftImg8bit'),
            ('gtFine', '_gtFine_instanceIds'),
        )
    )
    if not label_files:
        raise FileNotFoundError(
            f'{src / "gtFine" / split} has no <city>/*_gtFine_instanceIds.png: '
            f'{DOWNLOAD.format(LABELS)}'
        )
    hint = DOWNLOAD.format(f'{IMAGES} and {LABELS}')
    jobs = []
    for name in pair_files(images, label_files, problems, hint):
        path = images[name]
        jobs.append(
            Job(
                image={'id': name, 'file_name': f'{path.parent.name}/{path.name}'},
                image_path=path,
                png_name=f'{name}_gtFine_panoptic.png',
                label_path=label_files[name],
            )
        )
    json_path = out / 'gtFine' / f'cityscapes_panoptic_{split}.json'
    return Split(json_path, CLASSES, jobs, _draw, problems)


def _draw(job: Job) -> Panoptic:
    """Make the labels of one image."""
    assert job.label_path
    image_size = read_image_size(job.image_path)
    values = read_instance_map(job.label_path)
    check_size(image_size, values.shape[::-1], job.image_path)
    return draw_label_values(values, job.label_path)
