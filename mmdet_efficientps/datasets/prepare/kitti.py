# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make the panoptic ground truth of KITTI panoptic.

SRC is the unpacked KITTI-panoptic-segmentation-dataset from
http://panoptic.cs.uni-freiburg.de: training/ and validation/ with images/*.png and
annotations/*.png each. All labels are brought to 1280x384 pixels, the size of training
and evaluation; the images stay as they are and are resized when they are loaded.
"""

from __future__ import annotations

from pathlib import Path

from mmdet_efficientps.utils import ProblemList

from .cityscapes import CLASSES, draw_label_values
from .conversion import convert
from .folders import check_folders, find_files, pair_files, plan_links
from .jobs import Job, Panoptic, Split
from .readers import check_size, read_color_map, read_image_size
from .segments import resize_values
from .summary import ConversionReport

SIZE = (1280, 384)
SPLITS = ('training', 'validation')
DOWNLOAD = (
    'unpack KITTI-panoptic-segmentation-dataset from '
    'http://panoptic.cs.uni-freiburg.de and give the folder with training/ and '
    'validation/'
)


def prepare_kitti(
    src: str | Path, out: str | Path | None = None, nproc: int = 1
) -> list[ConversionReport]:
    """Write ``kitti_panoptic_<split>.json`` and the PNGs beside it.

    Args:
        src (str | Path): Folder with training/ and validation/.
        out (str | Path | None): Folder to write to; the images are linked into it.
            Defaults to None, which is ``src``.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One for each split.

    Raises:
        OSError: As :func:`prepare_cityscapes`; nothing is written then.
        ValueError: If an input would be overwritten; nothing is written then.
    """
    src, out = Path(src), Path(out or src)
    parts = [
        f'{split}/{kind}' for split in SPLITS for kind in ('images', 'annotations')
    ]
    check_folders({src / part: DOWNLOAD for part in parts})
    links = plan_links(src, out, [f'{split}/images' for split in SPLITS])
    return convert([_find_split(src, out, split) for split in SPLITS], nproc, links)


def _find_split(src: Path, out: Path, split: str) -> Split:
    """List the images of a split."""
    problems = ProblemList()
    images, annotations = (
        find_files((src / split / kind).iterdir(), '', ['.png'], problems)
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
    return Split(out / f'kitti_panoptic_{split}.json', CLASSES, jobs, _draw, problems)


def _draw(job: Job) -> Panoptic:
    """Make the labels of one image at the size of evaluation."""
    assert job.label_path
    image_size = read_image_size(job.image_path)
    values = read_color_map(job.label_path)
    check_size(image_size, values.shape[::-1], job.image_path, same_view=True)
    return draw_label_values(resize_values(values, SIZE), job.label_path)
