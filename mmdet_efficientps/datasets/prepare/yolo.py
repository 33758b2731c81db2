# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make panoptic ground truth from labels of YOLO segmentation.

DATA.yaml names the classes and the images of each split: folders, or texts with a path
in each line. The labels of ``.../images/a.jpg`` are ``.../labels/a.txt``: a line
``class x1 y1 x2 y2 ...`` for each object, with coordinates as parts of width and
height. An image without such a file is not labelled, and left out; one with an empty
file has no objects. Boxes are named and left out: they do not say which pixels are the
object's.

Overlaps are resolved as for COCO polygons: things hide stuff, and the smaller polygon
hides the larger one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mmdet_efficientps.structures.panoptic.annotations import integer, number
from mmdet_efficientps.utils import ProblemList

from .class_choice import ClassChoice, ClassName, not_listed
from .coco_polygons import draw_panoptic
from .conversion import convert
from .folders import IMAGE_SUFFIXES, check_sources, find_tree, image_job
from .jobs import BadInputError, Job, Panoptic, Split
from .readers import read_image_size
from .summary import ConversionReport


def prepare_yolo(
    data: str | Path,
    out: str | Path,
    split: str = 'train',
    things: Sequence[ClassName] = (),
    stuff: Sequence[ClassName] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Convert labels of YOLO segmentation.

    Args:
        data (str | Path): YAML of the data set.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix.
        split (str): Name of the split in the YAML. Defaults to 'train'.
        things (Sequence[ClassName]): Names of the thing classes, or mappings of a class
            to the labels that are joined in it. Defaults to ().
        stuff (Sequence[ClassName]): The same for the stuff classes. Defaults to ().
        ignore (Sequence[str]): Labels that become void. Defaults to ().
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One report.

    Raises:
        FileNotFoundError: If the YAML, images or all labels are missing.
        FileExistsError: If ``out`` has something else than panoptic labels.
        ValueError: If YAML or lists of classes cannot be used, or ``out`` is no json or
            would overwrite an input. Nothing is written then.
    """
    data, out = Path(data), Path(out)
    check_sources(out, files=[data])
    names, places, base = _read_data(data, split)
    categories = [{'id': k, 'name': name} for k, name in names.items()]
    classes, category_of = ClassChoice.of(things, stuff, ignore).match(categories)
    problems = ProblemList()
    root, images = _find_images(places, base, out, problems)
    jobs, unlabelled = [], 0
    for path in images:
        label_path = _label_path(path)
        if not label_path.is_file():
            unlabelled += 1
            continue
        job = image_job(path, root, problems, label_path)
        if job is not None:
            jobs.append(job)
    if unlabelled == len(images):
        raise FileNotFoundError(
            f'none of the {len(images)} images of {data} has labels: those of '
            f'{images[0]} should be {_label_path(images[0])}'
        )
    notes = [f'file names of the json are relative to {root}']
    if unlabelled:
        notes.append(f'not labelled: {unlabelled} images')
    draw = partial(
        _draw,
        names=names,
        category_of=category_of,
        isthing={c.id: c.isthing for c in classes},
    )
    sources = [data, *{job.image_path.parent for job in jobs}]
    return convert([Split(out, classes, jobs, draw, problems, sources, notes)], nproc)


def _read_data(data: Path, split: str) -> tuple[dict[int, str], list[str], Path]:
    """Give the names of the classes, where the images are, and relative to what."""
    try:
        text = data.read_bytes()
        content = yaml.safe_load(text)
        # Names are texts, also those that YAML takes for something else, like no.
        texts = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(f'{data} is no YAML: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{data} has no keys')
    given = texts.get('names')
    pairs: list[tuple[int | None, Any]] = []
    if isinstance(given, list):
        pairs = list(enumerate(given))
    if isinstance(given, dict):
        pairs = [(integer(key), name) for key, name in given.items()]
    names = {key: str(name) for key, name in pairs if key is not None}
    if not names or len(names) < len(pairs) or len(set(names.values())) < len(names):
        raise ValueError(
            f'{data}: names must give every class a number and a name of its own'
        )
    places = content.get(split)
    places = [places] if isinstance(places, str) else places
    if not places or not all(isinstance(place, str) for place in places):
        others = [key for key in ('train', 'val', 'test') if content.get(key)]
        raise ValueError(f'{data} has no images for {split!r}, but for {others}')
    base = data.parent / str(content.get('path') or '.')
    return names, places, base if base.is_dir() else data.parent


def _find_images(
    places: list[str], base: Path, out: Path, problems: ProblemList
) -> tuple[Path, list[Path]]:
    """Give the images and the folder that all of them lie in."""
    found: list[Path] = []
    roots: list[Path] = []
    for place in places:
        path = _existing(place, [base])
        if path is None:
            raise FileNotFoundError(f'{base / place} does not exist')
        if path.is_dir():
            check_sources(out, searched=[path])
            roots.append(path)
            found += find_tree(path, '', IMAGE_SUFFIXES, problems).values()
            continue
        text = path.read_bytes().decode('utf-8-sig', errors='surrogateescape')
        for line in filter(None, map(str.strip, text.splitlines())):
            image = _existing(line, [base, path.parent])
            if image is None:
                problems.add(f'{path}: image is missing', line)
                continue
            found.append(image)
            roots.append(image.parent)
    if not found:
        raise FileNotFoundError(
            f'{places} have no images\n{problems.summary()}'.strip()
        )
    root = Path(os.path.commonpath([os.path.abspath(root) for root in roots]))
    unique = dict.fromkeys(Path(os.path.abspath(path)) for path in found)
    return root, list(unique)


def _existing(name: str, bases: Sequence[Path]) -> Path | None:
    """Find a path of a YAML or a list."""
    # Some tools write '../train' where the folder lies beside the YAML.
    names = [name, name.removeprefix('../')]
    return next((b / n for b in bases for n in names if (b / n).exists()), None)


def _label_path(image: Path) -> Path:
    """Say where the labels of an image are: in labels/ in the place of images/."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == 'images':
            parts[place] = 'labels'
            break
    return Path(*parts).with_suffix('.txt')


def _draw(
    job: Job,
    names: dict[int, str],
    category_of: dict[str, int | None],
    isthing: dict[int, bool],
) -> Panoptic:
    """Draw the polygons of one image."""
    assert job.label_path
    width, height = read_image_size(job.image_path)
    problems = ProblemList()
    annotations: list[dict[str, Any]] = []
    unlisted = set()
    for place, line in enumerate(_read_lines(job.label_path), start=1):
        where = f'{job.label_path}: line {place}'
        head, *rest = line.split()
        found = integer(number(head))
        label = names.get(-1 if found is None else found)
        if label is None:
            problems.add('line left out: class that the YAML does not have', where)
            continue
        if label not in category_of:
            unlisted.add(label)
            continue
        category = category_of[label]
        if category is None:
            continue
        values = [number(value) for value in rest]
        if len(values) == 4:
            problems.add('line left out: a box, not a polygon', where)
            continue
        if None in values:
            problems.add('line left out: coordinates that are no numbers', where)
            continue
        polygon = [
            value * (height if k % 2 else width)  # type: ignore[operator]
            for k, value in enumerate(values)
        ]
        annotations.append(
            {'id': place, 'category_id': category, 'segmentation': [polygon]}
        )
    if unlisted:
        problems.add(not_listed(unlisted), job.label_path)
        raise BadInputError(problems=problems)
    panoptic = draw_panoptic(annotations, height, width, isthing, str(job.label_path))
    panoptic.problems.extend(problems)
    return panoptic


def _read_lines(path: Path) -> list[str]:
    """Give the lines of a file of labels that are not empty."""
    text = path.read_bytes().decode('utf-8-sig', errors='replace')
    return [line for line in text.splitlines() if line.strip()]
