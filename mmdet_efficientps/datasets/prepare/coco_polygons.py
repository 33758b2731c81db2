# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make panoptic ground truth from instance labels in the COCO format.

Reads COCO polygons or run-length masks and writes a COCO-panoptic json and a folder
of PNGs beside it; the images stay where they are.

Every annotation of a thing class is a segment. The annotations of a stuff class, and
the crowd annotations of a thing class, make one segment per image. Where annotations
overlap, things hide crowds and crowds hide stuff, and within each of the three the
smaller annotation hides the larger one. Pixels without any label are void (id 0).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mmdet_efficientps.structures.panoptic import PanopticClasses, read_json
from mmdet_efficientps.structures.panoptic.annotations import (
    CATEGORY_FIELDS,
    FLAG,
    IMAGE_FIELDS,
    IMAGE_ID,
    INTEGER,
    Field,
    take_entry,
)
from mmdet_efficientps.utils import ProblemList

from .conversion import convert
from .jobs import BadInputError, Job, Panoptic, Split
from .masks import paint_runs, segmentation_runs
from .readers import check_size, read_image_size
from .segments import collect_segments
from .summary import ConversionReport

STUFF, CROWD, THING = range(3)
# Bytes, of a temporary file too.
LONGEST_NAME = 230


def _optional(rule: Field, default: Any = None) -> Field:
    """Let a field be missing."""
    return Field(rule.take, rule.wanted, default)


FIELDS = {
    'images': IMAGE_FIELDS
    | {key: _optional(IMAGE_FIELDS[key]) for key in ('width', 'height')},
    'annotations': {
        'id': _optional(IMAGE_ID),
        'image_id': IMAGE_ID,
        'category_id': INTEGER,
        'iscrowd': _optional(FLAG, 0),
    },
    'categories': {
        'id': CATEGORY_FIELDS['id'],
        'name': CATEGORY_FIELDS['name'],
        'supercategory': CATEGORY_FIELDS['supercategory'],
        # Labelling tools write colors in many ways; those of another get a new one.
        'color': Field(
            lambda color: CATEGORY_FIELDS['color'].take(color) or (), '', ()
        ),
    },
}


def prepare_coco_polygons(
    src_json: str | Path,
    image_dir: str | Path,
    out: str | Path,
    things: Sequence[str] = (),
    stuff: Sequence[str] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Convert labels in the COCO format.

    Args:
        src_json (str | Path): Labels in the COCO format, polygons or run-length masks.
        image_dir (str | Path): Folder that the file names in it refer to.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix, under the name of the image with suffix .png.
        things (Sequence[str]): Names of the thing classes.
        stuff (Sequence[str]): Names of the stuff classes.
        ignore (Sequence[str]): Names of categories that are not drawn.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One report.

    Raises:
        FileNotFoundError: If the labels or the image folder are missing.
        FileExistsError: If ``out`` has something else than panoptic labels.
        ValueError: If the lists of classes do not fit the labels, or ``out`` is no
            json or would overwrite an input. Nothing is written then.
    """
    src_json, image_dir, out = Path(src_json), Path(image_dir), Path(out)
    if not src_json.is_file():
        raise FileNotFoundError(f'labels {src_json} do not exist')
    if not image_dir.is_dir():
        raise FileNotFoundError(f'image folder {image_dir} does not exist')
    if out.suffix != '.json':
        raise ValueError(f'--out must be a .json file, got {out}')
    problems = ProblemList()
    source = _read_source(src_json, problems)
    classes, unused = _select_classes(source, things, stuff, ignore)
    ignored = {c['id'] for c in source['categories'] if c['name'] in ignore}

    annotations: dict[str, list[dict[str, Any]]] = {
        str(image['id']): [] for image in source['images']
    }
    # An image that is left out takes its annotations with it.
    known = annotations.keys() | {str(id_) for id_ in source['ids']}
    for annotation in source['annotations']:
        key = str(annotation['image_id'])
        if key not in known:
            problems.add(
                f'{src_json}: annotation of an image that is not in images',
                f'annotation {annotation["id"]} of image {key}',
            )
        elif key in annotations and annotation['category_id'] not in ignored:
            annotations[key].append(annotation)
    jobs = []
    for image in source['images']:
        png_name = _png_name(image['file_name'])
        if png_name is None:
            problems.add(
                f'{src_json}: file_name that no file can have',
                f'image {image["id"]}: {image["file_name"]!r}',
            )
            continue
        jobs.append(
            Job(
                image=image,
                image_path=image_dir / image['file_name'],
                png_name=png_name,
                labels=annotations[str(image['id'])],
            )
        )
    draw = partial(_draw, isthing={c.id: c.isthing for c in classes})
    sources = [src_json, image_dir]
    notes = [f'not listed, without annotations: {", ".join(unused)}'] if unused else []
    split = Split(out, classes, jobs, draw, problems, sources, notes)
    return convert([split], nproc)


def read_class_lists(path: str | Path) -> dict[str, list[str]]:
    """Read the lists of classes from a YAML file.

    Args:
        path (str | Path): The file, with the lists things, stuff and ignore; each may
            be missing.

    Returns:
        dict[str, list[str]]: The three lists.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has anything else.
    """
    lists: dict[str, list[str]] = {'things': [], 'stuff': [], 'ignore': []}
    try:
        loaded = yaml.safe_load(Path(path).read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is no YAML: {error}') from error
    if not isinstance(loaded, dict):
        raise ValueError(f'{path} has no keys things, stuff or ignore')
    unknown = sorted(map(str, loaded.keys() - lists.keys()))
    if unknown:
        raise ValueError(
            f'{path}: unknown keys {unknown}, expected things, stuff and ignore'
        )
    for key, names in loaded.items():
        if not isinstance(names, list | None):
            raise ValueError(f'{path}: {key} must be a list of names, got {names!r}')
        lists[key] = names or []
    return lists


def _read_source(src_json: Path, problems: ProblemList) -> dict[str, list[Any]]:
    """Read the labels.

    Args:
        src_json (Path): Labels in the COCO format.
        problems (ProblemList): Gets entries that cannot be used.

    Returns:
        dict[str, list[Any]]: The usable entries of images, annotations and categories,
        and ``ids``, those of all images.

    Raises:
        ValueError: If the file is of another form, lists no image, or ids of images or
            categories occur twice.
    """
    content = read_json(src_json)
    lists = content if isinstance(content, dict) else {}
    missing = [name for name in FIELDS if not isinstance(lists.get(name), list)]
    if missing:
        raise ValueError(f'{src_json} is not in the COCO format: it lacks {missing}')
    source: dict[str, list[Any]] = {}
    for name, fields in FIELDS.items():
        what = f'an entry of {name}'
        source[name] = []
        for place, raw in enumerate(lists[name]):
            given = raw.get('id') if isinstance(raw, dict) else None
            where = f'{name}[{place}]' if given is None else f'id {given}'
            entry = take_entry(raw, fields, what, where, problems, f'{src_json}: ')
            if entry:
                source[name].append(entry)
    source['ids'] = [i.get('id') for i in lists['images'] if isinstance(i, dict)]
    if not source['images']:
        raise ValueError(f'{src_json} lists no images\n{problems.summary()}'.strip())
    for name in ('images', 'categories'):
        if repeated := _repeated(source[name]):
            raise ValueError(f'{src_json}: ids of {name} that occur twice: {repeated}')
    for image in source['images']:
        for key in ('width', 'height'):
            if image[key] is None:
                del image[key]
    return source


def _png_name(file_name: str) -> str | None:
    """Name the PNG of an image; None if no image can have that name.

    Labelling tools also write absolute paths, those of Windows, and some that go up:
    what leads out of a folder is left away.
    """
    parts = [
        part
        for part in re.split(r'[/\\]', file_name)
        if part not in ('', '.', '..') and not re.fullmatch('[A-Za-z]:', part)
    ]
    try:
        is_possible = parts and max(len(os.fsencode(p)) for p in parts) <= LONGEST_NAME
    except UnicodeEncodeError:
        return None
    if not is_possible or '\0' in file_name:
        return None
    return Path(*parts).with_suffix('.png').as_posix()


def _repeated(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Give the ids that several entries have."""
    times = Counter(str(e['id']) for e in entries if e['id'] is not None)
    return [id_ for id_, count in times.items() if count > 1]


def _select_classes(
    source: dict[str, list[Any]],
    things: Sequence[str],
    stuff: Sequence[str],
    ignore: Sequence[str],
) -> tuple[PanopticClasses, list[str]]:
    """Make the classes of the panoptic json, things first.

    Args:
        source (dict[str, list[Any]]): Labels in the COCO format.
        things (Sequence[str]): Names of the thing classes.
        stuff (Sequence[str]): Names of the stuff classes.
        ignore (Sequence[str]): Names of categories that are not drawn.

    Returns:
        tuple[PanopticClasses, list[str]]: The classes, with the ids of the source, and
        the names of those neither listed nor used.

    Raises:
        ValueError: If a listed class does not exist or is listed twice, a used
            category is not listed, or nothing is listed.
    """
    listed = [*things, *stuff, *ignore]
    repeated = [name for name, count in Counter(listed).items() if count > 1]
    if repeated:
        raise ValueError(f'listed twice among things, stuff and ignore: {repeated}')
    if not things and not stuff:
        raise ValueError('name the classes: --things and --stuff, or --classes')
    used = Counter(a['category_id'] for a in source['annotations'])
    # Of several categories of one name that with annotations counts: some labelling
    # tools add an empty one with the name of the project.
    ordered = sorted(source['categories'], key=lambda c: used[c['id']])
    by_name = {c['name']: c for c in ordered}
    shadowed = [
        name
        for name in (*things, *stuff)
        if sum(c['name'] == name and used[c['id']] > 0 for c in ordered) > 1
    ]
    if shadowed:
        raise ValueError(f'several categories with annotations of one name: {shadowed}')
    missing = [name for name in listed if name not in by_name]
    if missing:
        raise ValueError(f'no such category: {missing}; there are {sorted(by_name)}')
    unlisted = [c for c in source['categories'] if c['name'] not in listed]
    forgotten = {c['name']: used[c['id']] for c in unlisted if used[c['id']]}
    if forgotten:
        raise ValueError(
            f'categories with annotations that are not listed: {forgotten}; add them '
            'to things, stuff or ignore'
        )
    categories = [by_name[name] | {'isthing': name in things} for name in things]
    categories += [by_name[name] | {'isthing': False} for name in stuff]
    return PanopticClasses.from_categories(categories), [c['name'] for c in unlisted]


def _draw(job: Job, isthing: dict[int, bool]) -> Panoptic:
    """Check and draw one image."""
    width, height = read_image_size(job.image_path)
    size = job.image.get('width', width), job.image.get('height', height)
    check_size((width, height), size, job.image_path)
    if repeated := _repeated(job.labels):
        raise BadInputError(
            'annotation ids that an image has twice', f'{job.image_path}: {repeated}'
        )
    return draw_panoptic(job.labels, height, width, isthing, str(job.image_path))


def draw_panoptic(
    annotations: Sequence[dict[str, Any]],
    height: int,
    width: int,
    isthing: dict[int, bool],
    name: str = 'image',
) -> Panoptic:
    """Draw the segments of one image.

    Args:
        annotations (Sequence[dict[str, Any]]): COCO annotations of the image.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.
        isthing (dict[int, bool]): Whether a category is a thing, by its id.
        name (str): The image, to be named. Defaults to 'image'.

    Returns:
        Panoptic: What is visible, the number of annotations that are not, and as
        problems those that cannot be drawn and are left out.
    """
    problems = ProblemList()
    layers = []
    for place, annotation in enumerate(annotations):
        category = annotation['category_id']
        try:
            if category not in isthing:
                raise ValueError(f'category_id that is not in categories: {category}')
            runs = segmentation_runs(annotation.get('segmentation'), height, width)
        except ValueError as error:
            kind, _, detail = str(error).partition(': ')
            which = annotation.get('id')
            which = f'number {place}' if which is None else which
            problems.add(
                f'annotation left out: {kind}',
                ': '.join(filter(None, (name, f'annotation {which}', detail))),
            )
            continue
        if not isthing[category]:
            layer, key = STUFF, (STUFF, category)
        elif annotation.get('iscrowd'):
            layer, key = CROWD, (CROWD, category)
        else:
            layer, key = THING, (THING, place)
        area = int((runs[:, 1] - runs[:, 0]).sum())
        layers.append((layer, -area, key, category, runs))
    # The sort is stable: of two equal annotations the later one is in front.
    layers.sort(key=lambda entry: entry[:2])

    visible = set()
    number_of: dict[tuple[int, int], int] = {}

    def describe(number: int) -> tuple[int, int, int] | None:
        if not number:
            return None
        visible.add(number)
        layer, _, key, category, _ = layers[number - 1]
        segment_id = number_of.setdefault(key, len(number_of) + 1)
        return segment_id, category, int(layer == CROWD)

    owner = paint_runs((runs for *_, runs in layers), height, width)
    ids, segments = collect_segments(owner, describe)
    num_dropped = len(layers) - len(visible)
    return Panoptic(ids, segments, num_dropped, problems=problems)
