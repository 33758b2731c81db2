# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make panoptic ground truth from instance labels in the COCO format.

Reads COCO polygons or run-length masks and writes a COCO-panoptic json and a folder
of PNGs beside it; the images stay where they are.

Every annotation of a thing class is a segment. The annotations of a stuff class, and
the crowd annotations of a thing class, make one segment per image. Where annotations
overlap, things hide crowds and crowds hide stuff, and within each of the three the
smaller annotation hides the larger one. Pixels without any label are void (id 0).
Images without any annotation are not labelled, and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

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

from .class_choice import ClassChoice, ClassName
from .conversion import convert
from .folders import check_sources
from .jobs import BadInputError, Job, Panoptic, Split, png_name_of
from .masks import paint_runs, segmentation_runs
from .readers import check_size, read_image_size
from .segments import collect_segments
from .summary import ConversionReport

STUFF, CROWD, THING = range(3)


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
    things: Sequence[ClassName] = (),
    stuff: Sequence[ClassName] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Convert labels in the COCO format.

    Args:
        src_json (str | Path): Labels in the COCO format, polygons or run-length masks.
        image_dir (str | Path): Folder that the file names in it refer to.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix, under the name of the image with suffix .png.
        things (Sequence[ClassName]): Names of the thing classes, or mappings of a class
            to the categories that are joined in it.
        stuff (Sequence[ClassName]): The same for the stuff classes.
        ignore (Sequence[str]): Names of categories that are not drawn.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One report.

    Raises:
        FileNotFoundError: If the labels or the image folder are missing.
        FileExistsError: If ``out`` has something else than panoptic labels.
        ValueError: If no image has labels, the lists of classes do not fit them, or
            ``out`` is no json or would overwrite an input. Nothing is written then.
    """
    src_json, image_dir, out = Path(src_json), Path(image_dir), Path(out)
    check_sources(out, files=[src_json], folders=[image_dir])
    problems = ProblemList()
    source = _read_source(src_json, problems)
    choice = ClassChoice.of(things, stuff, ignore)
    classes, class_of, unused = _select_classes(source, choice)

    annotations: dict[str, list[dict[str, Any]]] = {
        str(image['id']): [] for image in source['images']
    }
    # An image that is left out takes its annotations with it.
    known = annotations.keys() | set(source['ids'])
    for annotation in source['annotations']:
        key = str(annotation['image_id'])
        if key not in known:
            problems.add(
                f'{src_json}: annotation of an image that is not in images',
                f'annotation {annotation["id"]} of image {key}',
            )
        elif key in annotations:
            category = annotation['category_id']
            # What is no category at all is named when the image is drawn.
            category = class_of.get(category, category)
            if category is not None:
                annotations[key].append(annotation | {'category_id': category})
    jobs = []
    labelled = set(source['labelled'])
    images = [image for image in source['images'] if str(image['id']) in labelled]
    if not images:
        raise ValueError(
            f'{src_json} has annotations of none of its images\n'
            f'{problems.summary()}'.strip()
        )
    unlabelled = len(source['images']) - len(images)
    for image in images:
        png_name = png_name_of(image['file_name'])
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
    if unlabelled:
        notes.append(f'not labelled: {unlabelled} images')
    split = Split(out, classes, jobs, draw, problems, sources, notes)
    return convert([split], nproc)


def _read_source(src_json: Path, problems: ProblemList) -> dict[str, list[Any]]:
    """Read the labels.

    Args:
        src_json (Path): Labels in the COCO format.
        problems (ProblemList): Gets entries that cannot be used.

    Returns:
        dict[str, list[Any]]: The usable entries of images, annotations and categories;
        ``ids``, those of all images as text; and ``labelled``, those of the images
        that annotations are of, if usable or not.

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
    for key, name, id_ in (
        ('ids', 'images', 'id'),
        ('labelled', 'annotations', 'image_id'),
    ):
        source[key] = [
            str(IMAGE_ID.take(e.get(id_))) for e in lists[name] if isinstance(e, dict)
        ]
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


def _repeated(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Give the ids that several entries have."""
    times = Counter(str(e['id']) for e in entries if e['id'] is not None)
    return [id_ for id_, count in times.items() if count > 1]


def _select_classes(
    source: dict[str, list[Any]], choice: ClassChoice
) -> tuple[PanopticClasses, dict[int, int | None], list[str]]:
    """Make the classes of the panoptic json, things first.

    Args:
        source (dict[str, list[Any]]): Labels in the COCO format.
        choice (ClassChoice): The classes wanted.

    Returns:
        tuple[PanopticClasses, dict[int, int | None], list[str]]: The classes, with the
        ids of the source; the class of each category id, None if it is not drawn; and
        the names of categories neither listed nor used.

    Raises:
        ValueError: If a listed class does not exist, or a used category is not listed.
    """
    used = Counter(a['category_id'] for a in source['annotations'])
    # Of several categories of one name that with annotations counts: some labelling
    # tools add an empty one with the name of the project.
    ordered = sorted(source['categories'], key=lambda c: used[c['id']])
    shadowed = [
        name
        for name in choice.class_of
        if sum(c['name'] == name and used[c['id']] > 0 for c in ordered) > 1
    ]
    if shadowed:
        raise ValueError(f'several categories with annotations of one name: {shadowed}')
    classes, category_of = choice.match(ordered)
    unlisted = [c for c in source['categories'] if c['name'] not in category_of]
    forgotten = {c['name']: used[c['id']] for c in unlisted if used[c['id']]}
    if forgotten:
        raise ValueError(
            f'categories with annotations that are not listed: {forgotten}; add them '
            'to things, stuff or ignore'
        )
    class_of = {
        c['id']: category_of[c['name']]
        for c in source['categories']
        if c['name'] in category_of
    }
    return classes, class_of, [c['name'] for c in unlisted]


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
