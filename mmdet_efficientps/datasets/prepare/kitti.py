# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make the panoptic ground truth of KITTI panoptic.

SRC is the unpacked KITTI-panoptic-segmentation-dataset from
http://panoptic.cs.uni-freiburg.de: training/ and validation/ with images/*.png and
annotations/*.png each. All labels are brought to 1280x384 pixels, the size of training
and evaluation; the images stay as they are and are resized when they are loaded.
"""

import argparse
from pathlib import Path

from mmdet_efficientps.structures.panoptic import rgb2id
from mmdet_efficientps.utils import ProblemList

from .cityscapes import CATEGORIES, draw_label_values
from .conversion import (
    Job,
    Panoptic,
    Split,
    check_folders,
    check_same_view,
    convert,
    output_folder,
    pair_files,
    read_image_size,
    read_label_png,
    resize_values,
)

SIZE = (1280, 384)
SPLITS = ('training', 'validation')
DOWNLOAD = (
    'unpack KITTI-panoptic-segmentation-dataset from '
    'http://panoptic.cs.uni-freiburg.de and give the folder with training/ and '
    'validation/'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line arguments: none of its own."""


def main(args: argparse.Namespace) -> None:
    """Write ``kitti_panoptic_<split>.json`` and the PNGs beside it.

    Raises:
        FileNotFoundError: If a folder is missing or empty; nothing is written then.
        SystemExit: With status 1 if images had to be left out.
    """
    parts = [
        f'{split}/{kind}' for split in SPLITS for kind in ('images', 'annotations')
    ]
    check_folders({args.src / part: DOWNLOAD for part in parts})
    out = output_folder(args.src, args.out, [f'{split}/images' for split in SPLITS])
    convert([_find_split(args.src, out, split) for split in SPLITS], args.nproc)


def _find_split(src: Path, out: Path, split: str) -> Split:
    """List the images of a split."""
    problems = ProblemList()
    images, annotations = (
        {path.stem: path for path in (src / split / kind).glob('*.png')}
        for kind in ('images', 'annotations')
    )
    jobs = [
        Job(
            image={'id': name, 'file_name': images[name].name},
            image_path=images[name],
            png_name=f'{name}.png',
            label_path=annotations[name],
        )
        for name in pair_files(images, annotations, problems, DOWNLOAD)
    ]
    return Split(
        out / f'kitti_panoptic_{split}.json', CATEGORIES, jobs, _draw, problems
    )


def _draw(job: Job) -> Panoptic:
    """Make the labels of one image at the size of evaluation."""
    image_size = read_image_size(job.image_path)
    values = rgb2id(read_label_png(job.label_path, '8-bit RGB'))
    check_same_view(image_size, values.shape[::-1], job.image_path)
    return draw_label_values(resize_values(values, SIZE), job.label_path)
