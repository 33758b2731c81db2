# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make panoptic ground truth from masks that CVAT exports.

SRC is the unpacked archive. Its images lie in IMAGES, or in the archive if they were
exported with it. Labels of things keep their objects apart; all of a stuff label in an
image is one segment. 'background' becomes void without being listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdet_efficientps.structures.panoptic.colors import voc_color
from mmdet_efficientps.utils import ProblemList

from .class_choice import ClassChoice, ClassName
from .conversion import convert
from .folders import IMAGE_SUFFIXES, check_sources, find_tree
from .mask_pairs import (
    LabelValue,
    leave_unlabelled,
    pair_jobs,
    pair_split,
    read_label_values,
)
from .summary import ConversionReport

BACKGROUND = 'background'
LABEL_COLORS, LABEL_MAP = 'label_colors.txt', 'labelmap.txt'


def prepare_cvat_masks(
    src: str | Path,
    out: str | Path,
    image_dir: str | Path | None = None,
    things: Sequence[ClassName] = (),
    stuff: Sequence[ClassName] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Convert CVAT's "Segmentation mask" (the layout of Pascal VOC).

    ``labelmap.txt`` has a line ``name:R,G,B:parts:actions`` for each label;
    ``SegmentationClass/`` and ``SegmentationObject/`` have a PNG for each image.

    Args:
        src (str | Path): The unpacked archive.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix.
        image_dir (str | Path | None): Folder of the images. Defaults to None, which is
            JPEGImages of the archive.
        things (Sequence[ClassName]): Names of the thing classes, or mappings of a class
            to the labels that are joined in it. Defaults to ().
        stuff (Sequence[ClassName]): The same for the stuff classes. Defaults to ().
        ignore (Sequence[str]): Labels that become void. Defaults to ().
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One report.

    Raises:
        FileNotFoundError: If labels or images are missing.
        FileExistsError: If ``out`` has something else than panoptic labels.
        ValueError: If the lists of classes do not fit, or ``out`` is no json or would
            overwrite an input. Nothing is written then.
    """
    src, out = Path(src), Path(out)
    image_dir = Path(image_dir or src / 'JPEGImages')
    label_map = src / LABEL_MAP
    class_dir, object_dir = src / 'SegmentationClass', src / 'SegmentationObject'
    folders = [class_dir, image_dir]
    check_sources(out, folders=[src])
    check_sources(out, files=[label_map], searched=folders)
    values = {
        # A label map without colors means those of Pascal VOC.
        name: voc_color(value) if isinstance(value, int) else value
        for name, value in read_label_values(label_map).items()
    }
    choice = _choose(values, things, stuff, ignore)
    problems = ProblemList()
    images = find_tree(image_dir, '', IMAGE_SUFFIXES, problems)
    classes = find_tree(class_dir, '', ['.png'], problems)
    objects = None
    if object_dir.is_dir():
        folders.append(object_dir)
        objects = find_tree(object_dir, '', ['.png'], problems)
    notes = leave_unlabelled(images, classes)
    jobs = pair_jobs(images, image_dir, classes, objects, problems)
    split = pair_split(out, choice, values, jobs, problems, [label_map, *folders])
    split.notes += notes
    return convert([split], nproc)


def prepare_cvat_cityscapes(
    src: str | Path,
    out: str | Path,
    image_dir: str | Path | None = None,
    subset: str | None = None,
    things: Sequence[ClassName] = (),
    stuff: Sequence[ClassName] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Convert CVAT's "Cityscapes".

    ``label_colors.txt`` has a line ``R G B name`` for each label, in the order of their
    numbers. ``gtFine/<subset>/`` has ``_gtFine_labelIds.png`` with these numbers and
    ``_gtFine_instanceIds.png``: number * 1000 + object, or the number alone for what is
    no single object. CVAT writes the latter for shapes with the attribute is_crowd.

    Args:
        src (str | Path): The unpacked archive.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix.
        image_dir (str | Path | None): Folder of the images, with or without
            ``_leftImg8bit`` at the end of their names. Defaults to None, which is that
            of the archive: ``imgsFine/leftImg8bit/<subset>`` or
            ``leftImg8bit/<subset>``.
        subset (str | None): Which subset. Defaults to None: there is only one.
        things (Sequence[ClassName]): Names of the thing classes, or mappings of a class
            to the labels that are joined in it. Defaults to ().
        stuff (Sequence[ClassName]): The same for the stuff classes. Defaults to ().
        ignore (Sequence[str]): Labels that become void. Defaults to ().
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One report.

    Raises:
        FileNotFoundError: If labels or images are missing.
        FileExistsError: If ``out`` has something else than panoptic labels.
        ValueError: If the lists of classes do not fit, there are several subsets, or
            ``out`` is no json or would overwrite an input. Nothing is written then.
    """
    src, out = Path(src), Path(out)
    label_colors = src / LABEL_COLORS
    check_sources(out, folders=[src])
    check_sources(out, files=[label_colors], folders=[src / 'gtFine'])
    subset = subset or _only_subset(src / 'gtFine')
    label_dir = src / 'gtFine' / subset
    if image_dir is None:
        places = [
            src / name / subset for name in ('imgsFine/leftImg8bit', 'leftImg8bit')
        ]
        image_dir = next((p for p in places if p.is_dir()), places[0])
    image_dir = Path(image_dir)
    check_sources(out, searched=[label_dir, image_dir])
    values = _numbers_of(read_label_values(label_colors))
    choice = _choose(values, things, stuff, ignore)
    problems = ProblemList()
    # The same picture may be there with and without the ending.
    images = find_tree(image_dir, '', IMAGE_SUFFIXES, problems)
    images = {name.removesuffix('_leftImg8bit'): path for name, path in images.items()}
    classes, objects = (
        find_tree(label_dir, f'_gtFine_{kind}', ['.png'], problems)
        for kind in ('labelIds', 'instanceIds')
    )
    notes = leave_unlabelled(images, classes)
    jobs = pair_jobs(images, image_dir, classes, objects, problems)
    sources = [label_colors, label_dir, image_dir]
    split = pair_split(out, choice, values, jobs, problems, sources, first_object=1000)
    split.notes += notes
    return convert([split], nproc)


def _choose(
    values: Mapping[str, LabelValue],
    things: Sequence[ClassName],
    stuff: Sequence[ClassName],
    ignore: Sequence[str],
) -> ClassChoice:
    """Take the lists, and ignore the background that CVAT adds."""
    choice = ClassChoice.of(things, stuff, ignore)
    if BACKGROUND in values and BACKGROUND not in choice.labels:
        choice = ClassChoice.of(things, stuff, [*ignore, BACKGROUND])
    return choice


def _numbers_of(labels: dict[str, LabelValue]) -> dict[str, LabelValue]:
    """Give the numbers of labels: CVAT counts the lines, the background first."""
    first = [name for name, value in labels.items() if value == (0, 0, 0)]
    first = first or [BACKGROUND]
    names = [*first, *(name for name in labels if name not in first)]
    return {name: number for number, name in enumerate(names)}


def _only_subset(folder: Path) -> str:
    """Give the name of the only folder in a folder."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) != 1:
        raise ValueError(f'{folder} has the subsets {names}: name one with --subset')
    return names[0]
