# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make the panoptic ground truth of Cityscapes.

SRC is the folder with leftImg8bit/ and gtFine/ as the two archives
leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from
https://www.cityscapes-dataset.com/downloads/ unpack. The result is that of
cityscapesscripts' createPanopticImgs, but for the images' file_name, which is
<city>/<city>_<sequence>_<frame>_leftImg8bit.png here.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import id2label, labels

from mmdet_efficientps.utils import ProblemList

from .conversion import (
    BadInputError,
    Job,
    Panoptic,
    Split,
    check_folders,
    check_same_size,
    collect_segments,
    convert,
    output_folder,
    pair_files,
    read_image_size,
    read_label_png,
)

DOWNLOAD = 'unpack {} from https://www.cityscapes-dataset.com/downloads/ there'
IMAGES = 'leftImg8bit_trainvaltest.zip'
LABELS = 'gtFine_trainvaltest.zip'
IMAGE_SUFFIX = '_leftImg8bit.png'
LABEL_SUFFIX = '_gtFine_instanceIds.png'
PNG_SUFFIX = '_gtFine_panoptic.png'

CATEGORIES = [
    {
        'id': label.id,
        'name': label.name,
        'color': list(label.color),
        'supercategory': label.category,
        'isthing': int(label.hasInstances),
    }
    for label in labels
    if not label.ignoreInEval
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line arguments."""
    parser.add_argument(
        '--splits',
        nargs='+',
        default=['train', 'val'],
        help='splits to prepare, by default train and val',
    )


def main(args: argparse.Namespace) -> None:
    """Prepare the data set."""
    prepare_cityscapes(args.src, args.out, args.splits, args.nproc)


def prepare_cityscapes(
    src: Path,
    out: Path | None = None,
    splits: Sequence[str] = ('train', 'val'),
    nproc: int = 1,
) -> None:
    """Write ``gtFine/cityscapes_panoptic_<split>.json`` and the PNGs beside it.

    Args:
        src (Path): Folder with leftImg8bit/ and gtFine/.
        out (Path | None): Folder to write to, by default ``src``.
        splits (Sequence[str]): Names of the splits.
        nproc (int): Number of processes.

    Raises:
        FileNotFoundError: If a folder is missing or empty; nothing is written then.
        SystemExit: With status 1 if images had to be left out.
    """
    folders = {}
    for split in splits:
        folders[src / 'leftImg8bit' / split] = DOWNLOAD.format(IMAGES)
        folders[src / 'gtFine' / split] = DOWNLOAD.format(LABELS)
    check_folders(folders)
    found = [_find_split(src, split) for split in splits]
    out = output_folder(src, out, ['leftImg8bit'])
    for split in found:
        split.json_path = out / split.json_path
    convert(found, nproc)


def draw_label_values(values: np.ndarray, label_path: Path) -> Panoptic:
    """Make segments of a map in the coding of instanceIds.

    A thing is ``label id * 1000 + n``; stuff and the group regions of things are the
    label id alone. The values stay as segment ids; ignored labels become void.

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
            ('unknown label ids, not of Cityscapes', f'{label_path}: {unknown}')
        )
    return Panoptic(ids, segments)


def _find_split(src: Path, split: str) -> Split:
    """List the images of a split; its json path is relative to the output."""
    problems = ProblemList()
    images, label_files = (
        {
            path.name.removesuffix(suffix): path
            for path in (src / folder / split).glob(f'*/*{suffix}')
        }
        for folder, suffix in (('leftImg8bit', IMAGE_SUFFIX), ('gtFine', LABEL_SUFFIX))
    )
    if not label_files:
        raise FileNotFoundError(
            f'{src / "gtFine" / split} has no <city>/*{LABEL_SUFFIX}: '
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
                png_name=f'{name}{PNG_SUFFIX}',
                label_path=label_files[name],
            )
        )
    json_path = Path('gtFine') / f'cityscapes_panoptic_{split}.json'
    return Split(json_path, CATEGORIES, jobs, _draw, problems)


def _draw(job: Job) -> Panoptic:
    """Make the labels of one image."""
    image_size = read_image_size(job.image_path)
    values = read_label_png(job.label_path, '16-bit')
    check_same_size(image_size, values.shape[::-1], job.image_path)
    return draw_label_values(values, job.label_path)
