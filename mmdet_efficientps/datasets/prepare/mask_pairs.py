# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make panoptic ground truth from PNGs of classes and PNGs of objects.

For every image there is a PNG with its classes and, if there are things, a PNG of the
same name whose values tell the objects apart; the images lie in a folder of the same
tree. Classes are numbers (grey, or the index of a palette) or colors, objects are any
number or color, 0 or black for none; an object may have the number of one of another
class. PNGs of more than 8 bits, with a palette, and grey saved as color are taken.

LABELS says which number or color is which class: a YAML or json with ``name: 7`` or
``name: [R, G, B]``, or lines of text ``7 name``, ``R G B name`` or ``name:R,G,B``, or
``name`` alone, which are numbered from 0.

All of a stuff class in an image is one segment. Pixels of a thing class that belong to
no object are a crowd of it. What no class is listed for must be in ``--ignore``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmdet_efficientps.structures.panoptic.annotations import integer
from mmdet_efficientps.utils import ProblemList

from .class_choice import ClassChoice, ClassName, not_listed
from .conversion import convert
from .folders import (
    IMAGE_SUFFIXES,
    check_sources,
    find_tree,
    image_job,
    pair_files,
)
from .jobs import BadInputError, Job, Panoptic, Split
from .readers import check_size, read_image_size, read_plain_map
from .segments import collect_segments
from .summary import ConversionReport

# A number, or a color (R, G, B).
LabelValue = int | tuple[int, int, int]


def prepare_mask_pairs(
    class_dir: str | Path,
    image_dir: str | Path,
    labels: str | Path,
    out: str | Path,
    object_dir: str | Path | None = None,
    things: Sequence[ClassName] = (),
    stuff: Sequence[ClassName] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Convert pairs of PNGs.

    Args:
        class_dir (str | Path): Folder of the PNGs of classes.
        image_dir (str | Path): Folder of the images.
        labels (str | Path): File that says which value is which class.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix.
        object_dir (str | Path | None): Folder of the PNGs of objects. Defaults to None,
            for stuff alone.
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
        ValueError: If labels or lists of classes cannot be used, or ``out`` is no json
            or would overwrite an input. Nothing is written then.
    """
    class_dir, image_dir, out = Path(class_dir), Path(image_dir), Path(out)
    object_dir = None if object_dir is None else Path(object_dir)
    folders = [class_dir, image_dir] + ([object_dir] if object_dir else [])
    check_sources(out, files=[Path(labels)], searched=folders)
    choice = ClassChoice.of(things, stuff, ignore)
    values = read_label_values(labels)
    problems = ProblemList()
    images = find_tree(image_dir, '', IMAGE_SUFFIXES, problems)
    classes, objects = (
        find_tree(folder, '', ['.png'], problems) if folder else None
        for folder in (class_dir, object_dir)
    )
    notes = leave_unlabelled(images, classes or {})
    jobs = pair_jobs(images, image_dir, classes or {}, objects, problems)
    sources = [Path(labels), *folders]
    split = pair_split(out, choice, values, jobs, problems, sources)
    split.notes += notes
    return convert([split], nproc)


def leave_unlabelled(images: dict[str, Path], classes: Mapping[str, Path]) -> list[str]:
    """Take the images out that nobody has labelled yet: they have no PNGs.

    Args:
        images (dict[str, Path]): Images by name.
        classes (Mapping[str, Path]): PNGs of classes by name.

    Returns:
        list[str]: A note of how many there are, if any.
    """
    unlabelled = images.keys() - classes.keys()
    for name in unlabelled:
        del images[name]
    return [f'not labelled: {len(unlabelled)} images'] if unlabelled else []


def pair_jobs(
    images: Mapping[str, Path],
    image_dir: Path,
    classes: Mapping[str, Path],
    objects: Mapping[str, Path] | None,
    problems: ProblemList,
) -> list[Job]:
    """Match images with their PNGs.

    Args:
        images (Mapping[str, Path]): Images by name.
        image_dir (Path): Their folder.
        classes (Mapping[str, Path]): PNGs of classes by name.
        objects (Mapping[str, Path] | None): PNGs of objects by name; None without.
        problems (ProblemList): Gets what has no partner.

    Returns:
        list[Job]: The jobs.
    """
    hint = 'both need the same name and folder'
    names = pair_files(images, classes, problems, hint)
    if objects is not None:
        for name in sorted(set(names) - objects.keys()):
            problems.add('PNG of objects is missing, that of classes is there', name)
        names = [name for name in names if name in objects]
    jobs = []
    for name in names:
        object_path = objects[name] if objects is not None else None
        job = image_job(
            images[name], image_dir, problems, classes[name], object_path=object_path
        )
        if job is not None:
            jobs.append(job)
    return jobs


def pair_split(
    out: Path,
    choice: ClassChoice,
    values: Mapping[str, LabelValue],
    jobs: list[Job],
    problems: ProblemList,
    sources: list[Path],
    first_object: int = 1,
) -> Split:
    """Make a split of pairs of PNGs.

    Args:
        out (Path): Json to write.
        choice (ClassChoice): The classes wanted.
        values (Mapping[str, LabelValue]): Number or color of each label.
        jobs (list[Job]): The images.
        problems (ProblemList): Problems found while listing them.
        sources (list[Path]): Files and folders that were read.
        first_object (int): Smaller values of the PNGs of objects are no object.
            Defaults to 1.

    Returns:
        Split: The split.

    Raises:
        ValueError: If the classes are not among the labels, or some are things and
            there are no PNGs of objects.
    """
    # Numbers are the ids of the source; colors are none, and 0 is an id that other
    # tools take for no class.
    categories = [
        {'id': place, 'name': name, 'color': value}
        if isinstance(value, tuple)
        else {'id': value, 'name': name}
        for place, (name, value) in enumerate(values.items(), start=1)
    ]
    classes, category_of = choice.match(categories)
    if classes.things and jobs and jobs[0].object_path is None:
        raise ValueError(
            f'{list(classes.things)} are things, and there are no PNGs that tell '
            'objects apart: take them as stuff'
        )
    if not jobs:
        raise ValueError(f'no image has labels\n{problems.summary()}'.strip())
    draw = partial(
        _draw,
        label_of={_packed(value): name for name, value in values.items()},
        category_of=category_of,
        isthing={c.id: c.isthing for c in classes},
        by_color=any(isinstance(value, tuple) for value in values.values()),
        first_object=first_object,
    )
    return Split(out, classes, jobs, draw, problems, sources)


def read_label_values(path: str | Path) -> dict[str, LabelValue]:
    """Read which number or color is which label.

    Args:
        path (str | Path): YAML or json of ``name: 7`` or ``name: [R, G, B]``; or a text
            with a line ``7 name``, ``R G B name`` (as of CVAT's label_colors.txt) or
            ``name:R,G,B:parts:actions`` (as of its labelmap.txt) for each, or with
            nothing but names, which are then numbered from 0. Empty lines and those
            that begin with ``#`` are passed over.

    Returns:
        dict[str, LabelValue]: Number or color (R, G, B) of each label.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If something else is in it, if it has numbers and colors, or two
            labels of one name or value.
    """
    path = Path(path)
    text = path.read_bytes().decode('utf-8-sig', errors='replace')
    if path.suffix.lower() in ('.yaml', '.yml', '.json'):
        try:
            is_json = path.suffix.lower() == '.json'
            # Names are texts, also those that YAML takes for something else, like no.
            loaded = (
                json.loads(text) if is_json else yaml.load(text, Loader=yaml.BaseLoader)
            )
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f'{path} cannot be read: {error}') from error
        if not isinstance(loaded, dict):
            raise ValueError(f'{path} must have a number or a color for each name')
        pairs = [(str(name), value) for name, value in loaded.items()]
    else:
        lines = [line.strip() for line in text.splitlines()]
        pairs = [_split_line(line) for line in lines if line and line[0] != '#']
        if all(value is None for _, value in pairs):
            pairs = [(name, number) for number, (name, _) in enumerate(pairs)]
    found: dict[str, LabelValue] = {}
    for name, raw in pairs:
        value = _take_value(raw)
        if value is None:
            raise ValueError(
                f'{path}: {name!r} has {raw!r}, expected a number from 0 to 65535 or '
                'three from 0 to 255'
            )
        for other, taken in found.items():
            if name == other or value == taken:
                raise ValueError(f'{path}: {other!r} and {name!r} are {taken}, {value}')
        found[name] = value
    if not found:
        raise ValueError(f'{path} has no labels')
    if len({type(value) for value in found.values()}) > 1:
        raise ValueError(f'{path} has both numbers and colors: take one of them')
    return found


def _split_line(line: str) -> tuple[str, Any]:
    """Give name and value of a line of text."""
    if match := re.fullmatch(r'(.+?):\s*(\d+\s*,\s*\d+\s*,\s*\d+)\s*(:.*)?', line):
        return match[1].strip(), re.split(r'\s*,\s*', match[2])
    if match := re.fullmatch(r'(\d+)\s+(\d+)\s+(\d+)\s+(\S.*)', line):
        return match[4], list(match.groups()[:3])
    if match := re.fullmatch(r'(\d+)[\s:,]+(\S.*)', line):
        return match[2], match[1]
    # labelmap.txt has the colons without colors, too.
    return line.split(':')[0].strip(), None


def _take_value(raw: Any) -> LabelValue | None:
    """Take a number or a color; None if it is neither."""
    if isinstance(raw, list | tuple):
        channels = [integer(channel) for channel in raw]
        if len(channels) != 3:
            return None
        red, green, blue = (-1 if c is None else c for c in channels)
        fits = all(0 <= channel <= 255 for channel in (red, green, blue))
        return (red, green, blue) if fits else None
    number = integer(raw)
    return number if number is not None and 0 <= number <= 65535 else None


def _packed(value: LabelValue) -> int:
    """Give the number that a map has for a label."""
    if isinstance(value, int):
        return value
    red, green, blue = value
    return red + 256 * green + 65536 * blue


def _draw(
    job: Job,
    label_of: dict[int, str],
    category_of: dict[str, int | None],
    isthing: dict[int, bool],
    by_color: bool,
    first_object: int,
) -> Panoptic:
    """Make segments of a pair of PNGs."""
    assert job.label_path
    image_size = read_image_size(job.image_path)
    values = read_plain_map(job.label_path, by_color)
    check_size(image_size, values.shape[::-1], job.image_path)
    regions = values.astype(np.int64) << 24
    if job.object_path:
        objects = read_plain_map(job.object_path)
        check_size(image_size, objects.shape[::-1], job.image_path)
        regions += np.where(objects < first_object, 0, objects)
    unknown, unlisted = set(), set()
    number_of: dict[tuple[int, int], int] = {}

    def describe(region: int) -> tuple[int, int, int] | None:
        value, number = divmod(region, 1 << 24)
        label = label_of.get(value)
        if label is None:
            # Black, and 0, are what is left where nothing was drawn.
            if value:
                unknown.add(_unpacked(value) if by_color else value)
            return None
        if label not in category_of:
            unlisted.add(label)
            return None
        category = category_of[label]
        if category is None:
            return None
        key = category, number if isthing[category] else 0
        segment_id = number_of.setdefault(key, len(number_of) + 1)
        return segment_id, category, int(isthing[category] and not number)

    ids, segments = collect_segments(regions, describe)
    problems = ProblemList()
    if unknown:
        problems.add('values that no label has', f'{job.label_path}: {sorted(unknown)}')
    if unlisted:
        problems.add(not_listed(unlisted), job.label_path)
    if problems:
        raise BadInputError(problems=problems)
    return Panoptic(ids, segments)


def _unpacked(value: int) -> tuple[int, int, int]:
    """Give the color (R, G, B) of a number."""
    return value & 255, value >> 8 & 255, value >> 16
