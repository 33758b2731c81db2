# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make panoptic ground truth from instance labels in the COCO format.

Reads COCO polygons or run-length masks and writes a COCO-panoptic json and a folder
of PNGs beside it; the images stay where they are.

Every annotation of a thing class is a segment. The annotations of a stuff class, and
the crowd annotations of a thing class, make one segment per image. Where annotations
overlap, things hide crowds and crowds hide stuff, and within each of the three the
smaller annotation hides the larger one. Pixels without any label are void (id 0).
"""

import argparse
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from pycocotools import mask as mask_utils

from mmdet_efficientps.structures.panoptic import VOID_ID, distinct_color
from mmdet_efficientps.utils import ProblemList

from .conversion import (
    BadInputError,
    Job,
    Panoptic,
    Split,
    check_same_size,
    collect_segments,
    convert,
    read_image_size,
    read_json,
)

STUFF, CROWD, THING = range(3)
FIELDS = {
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('id', 'image_id', 'category_id'),
    'categories': ('id', 'name'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this converter.

    Args:
        parser (argparse.ArgumentParser): Parser to add them to.
    """
    parser.add_argument('src_json', type=Path, help='labels in the COCO format')
    parser.add_argument('image_dir', type=Path, help='folder of the images')
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='NAME.json',
        help='panoptic json to write; the PNGs go into the folder NAME beside it',
    )
    parser.add_argument('--things', nargs='+', metavar='NAME', help='thing classes')
    parser.add_argument('--stuff', nargs='+', metavar='NAME', help='stuff classes')
    parser.add_argument(
        '--classes',
        type=Path,
        help='YAML file with the lists things, stuff and optionally ignore, '
        'instead of the options of these names',
    )
    parser.add_argument(
        '--ignore',
        nargs='+',
        metavar='NAME',
        help='categories not to draw; what only they cover is void',
    )


def main(args: argparse.Namespace) -> None:
    """Run the converter and print a summary.

    Args:
        args (argparse.Namespace): Arguments of :func:`add_arguments`.

    Raises:
        FileNotFoundError: If the labels or the image folder are missing.
        ValueError: If the lists of classes do not fit the labels.
        SystemExit: With a message if the options do not fit, with status 1 if images
            had to be left out.
    """
    lists = {key: getattr(args, key) or [] for key in ('things', 'stuff', 'ignore')}
    if args.classes:
        if any(lists.values()):
            raise SystemExit('give --classes or --things, --stuff, --ignore, not both')
        if not args.classes.is_file():
            raise SystemExit(f'{args.classes} (--classes) does not exist')
        lists |= _read_classes(args.classes, lists.keys())
    split, unused = read_coco_polygons(args.src_json, args.image_dir, args.out, **lists)
    if unused:
        print(f'not listed, without annotations: {", ".join(unused)}')
    convert([split], args.nproc)


def read_coco_polygons(
    src_json: Path,
    image_dir: Path,
    out_json: Path,
    things: Sequence[str] = (),
    stuff: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> tuple[Split, list[str]]:
    """Read COCO labels to convert them.

    Args:
        src_json (Path): Labels in the COCO format, polygons or RLE.
        image_dir (Path): Folder that the file names in it refer to.
        out_json (Path): Json to write; PNGs go into the folder of the same name
            without suffix, under the name of the image with suffix .png.
        things (Sequence[str]): Names of the thing classes.
        stuff (Sequence[str]): Names of the stuff classes.
        ignore (Sequence[str]): Names of categories that are not drawn.

    Returns:
        tuple[Split, list[str]]: What to convert, and the names of the categories that
        are neither listed nor used.

    Raises:
        FileNotFoundError: If the labels or the image folder are missing.
        ValueError: If the lists of classes do not fit the labels or ``out_json`` is
            no other .json file.
    """
    if not src_json.is_file():
        raise FileNotFoundError(f'labels {src_json} do not exist')
    if not image_dir.is_dir():
        raise FileNotFoundError(f'image folder {image_dir} does not exist')
    if out_json.suffix != '.json' or out_json.resolve() == src_json.resolve():
        raise ValueError(f'--out must be a new .json file, got {out_json}')
    hint = 'labels in the COCO format are needed'
    source = read_json(src_json, FIELDS, hint)
    if not source['images']:
        raise ValueError(f'{src_json} lists no images')
    categories, unused = _select_categories(source, things, stuff, ignore)
    ignored = {c['id'] for c in source['categories'] if c['name'] in ignore}

    problems = ProblemList()
    annotations = {image['id']: [] for image in source['images']}
    if len(annotations) < len(source['images']):
        raise ValueError(
            f'{src_json}: image ids that occur twice: {_repeated(source["images"])}'
        )
    for annotation in source['annotations']:
        if annotation['image_id'] not in annotations:
            problems.add(
                f'{src_json}: annotations of images that are not in images',
                f'annotation {annotation["id"]} of image {annotation["image_id"]}',
            )
        elif annotation['category_id'] not in ignored:
            annotations[annotation['image_id']].append(annotation)
    jobs = [
        Job(
            image=image,
            image_path=image_dir / image['file_name'],
            png_name=Path(image['file_name']).with_suffix('.png').as_posix(),
            labels=annotations[image['id']],
        )
        for image in source['images']
    ]
    isthing = {c['id']: bool(c['isthing']) for c in categories}
    draw = partial(_draw, isthing=isthing)
    return Split(out_json, categories, jobs, draw, problems), unused


def _read_classes(path: Path, keys: Collection[str]) -> dict[str, list[str]]:
    """Read the lists of classes from a file.

    Args:
        path (Path): The YAML file.
        keys (Collection[str]): The lists it may have.

    Returns:
        dict[str, list[str]]: The lists it has.

    Raises:
        SystemExit: With a message if it has anything else.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise SystemExit(f'{path} (--classes) is no YAML: {error}') from error
    if not isinstance(loaded, dict):
        raise SystemExit(f'{path} (--classes) has no keys things, stuff or ignore')
    unknown = sorted(map(str, loaded.keys() - keys))
    if unknown:
        raise SystemExit(
            f'{path}: unknown keys {unknown}, expected things, stuff and ignore'
        )
    lists = {key: names or [] for key, names in loaded.items()}
    for key, names in lists.items():
        if not isinstance(names, list):
            raise SystemExit(f'{path}: {key} must be a list of names, got {names!r}')
    return lists


def _repeated(entries: Iterable[dict]) -> list:
    """Give the ids that several entries have."""
    return [
        id_ for id_, count in Counter(e['id'] for e in entries).items() if count > 1
    ]


def draw_panoptic(
    annotations: Sequence[dict], height: int, width: int, isthing: dict[int, bool]
) -> Panoptic:
    """Draw the segments of one image.

    Args:
        annotations (Sequence[dict]): COCO annotations of the image.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.
        isthing (dict[int, bool]): Whether a category is a thing, by its id.

    Returns:
        Panoptic: What is visible, and the number of annotations that are not.
    """
    layers = []
    for annotation in annotations:
        category = annotation['category_id']
        mask = _decode(annotation['segmentation'], height, width)
        if not isthing[category]:
            layer, key = STUFF, (STUFF, category)
        elif annotation.get('iscrowd', 0):
            layer, key = CROWD, (CROWD, category)
        else:
            layer, key = THING, (THING, annotation['id'])
        layers.append((layer, -int(mask.sum()), key, category, mask))
    # The sort is stable: of two equal annotations the later one is in front.
    layers.sort(key=lambda entry: entry[:2])

    owner = np.zeros((height, width), dtype=np.int32)
    for number, (*_, mask) in enumerate(layers, start=1):
        owner[mask] = number
    visible = np.bincount(owner.ravel(), minlength=len(layers) + 1)[1:]

    meaning = {}
    number_of = {}
    segment_of = [VOID_ID]
    for area, (layer, _, key, category, _) in zip(visible, layers, strict=True):
        number = VOID_ID
        if area:
            number = number_of.setdefault(key, len(number_of) + 1)
            meaning[number] = (number, category, int(layer == CROWD))
        segment_of.append(number)
    ids, segments = collect_segments(
        np.array(segment_of, dtype=np.int32)[owner], meaning.get
    )
    return Panoptic(ids, segments, num_dropped=int((visible == 0).sum()))


def _select_categories(
    source: dict, things: Sequence[str], stuff: Sequence[str], ignore: Sequence[str]
) -> tuple[list[dict], list[str]]:
    """Make the categories of the panoptic json, things first.

    Args:
        source (dict): Labels in the COCO format.
        things (Sequence[str]): Names of the thing classes.
        stuff (Sequence[str]): Names of the stuff classes.
        ignore (Sequence[str]): Names of categories that are not drawn.

    Returns:
        tuple[list[dict], list[str]]: The categories, with the ids of the source, and
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
    if repeated := _repeated(source['categories']):
        raise ValueError(f'category ids that occur twice: {repeated}')
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
    categories = []
    for number, name in enumerate([*things, *stuff]):
        category = by_name[name]
        categories.append(
            {
                'id': category['id'],
                'name': name,
                'supercategory': category.get('supercategory', ''),
                'isthing': int(number < len(things)),
                'color': category.get('color', distinct_color(number)),
            }
        )
    return categories, [c['name'] for c in unlisted]


def _draw(job: Job, isthing: dict[int, bool]) -> Panoptic:
    """Check and draw one image."""
    size = job.image['width'], job.image['height']
    problems = []
    try:
        check_same_size(read_image_size(job.image_path), size, job.image_path)
    except BadInputError as error:
        problems += error.problems
    repeated = _repeated(job.labels)
    if repeated:
        problems.append(
            ('annotation ids that an image has twice', f'{job.image_path}: {repeated}')
        )
    for annotation in job.labels:
        problems += _check_annotation(annotation, job.image, isthing)
    if problems:
        raise BadInputError(*problems)
    return draw_panoptic(job.labels, *reversed(size), isthing)


def _check_annotation(
    annotation: dict, image: dict, isthing: dict[int, bool]
) -> list[tuple[str, str]]:
    """Check that an annotation can be drawn.

    Args:
        annotation (dict): The annotation.
        image (dict): Entry of its image.
        isthing (dict[int, bool]): Whether a category is a thing, by its id.

    Returns:
        list[tuple[str, str]]: Problems found.
    """
    name = f'{image["file_name"]}: annotation {annotation["id"]}'
    problems = []
    category = annotation['category_id']
    if category not in isthing:
        problems.append(('unknown category ids', f'{name} has {category}'))
    segmentation = annotation.get('segmentation')
    if not segmentation:
        problems.append(('annotations without segmentation', name))
    elif isinstance(segmentation, dict):
        expected = [image['height'], image['width']]
        if segmentation['size'] != expected:
            problems.append(
                (
                    'image and mask differ in size (height, width)',
                    f'{name}: {expected} and {segmentation["size"]}',
                )
            )
    elif any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation):
        problems.append(('polygons of less than 3 points', name))
    return problems


def _decode(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """Rasterise a COCO segmentation.

    Args:
        segmentation (list | dict): Polygons, or a mask in RLE.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.

    Returns:
        np.ndarray: Mask, shape (H, W), bool.
    """
    if isinstance(segmentation, list):
        rles = mask_utils.frPyObjects(segmentation, height, width)
        segmentation = mask_utils.merge(rles)
    elif isinstance(segmentation['counts'], list):
        segmentation = mask_utils.frPyObjects(segmentation, height, width)
    return mask_utils.decode(segmentation).astype(bool)
