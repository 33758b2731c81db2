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
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.fileio import load
from mmengine.utils import track_progress_rich
from PIL import Image, ImageOps, PngImagePlugin
from pycocotools import mask as mask_utils
from scipy import ndimage
from terminaltables import AsciiTable

from mmdet_efficientps.utils import VOID_ID, distinct_color, id2rgb

# Part of the fingerprint of every PNG: raise it when the drawing rules change.
DRAWING_VERSION = 1
SHOWN_PROBLEMS = 10
STUFF, CROWD, THING = range(3)


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        num_images (int): Images written.
        segments (dict[str, int]): Segments per class, things first.
        void_share (float): Share of pixels without label, 0..1.
        num_dropped (int): Annotations without a visible pixel.
        unused (list[str]): Unlisted categories of the source without annotations.
        problems (dict[str, list[str]]): Messages for each image left out.
    """

    num_images: int = 0
    segments: dict[str, int] = field(default_factory=dict)
    void_share: float = 0.0
    num_dropped: int = 0
    unused: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)


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
    parser.add_argument(
        '--nproc', type=int, default=os.cpu_count(), help='number of processes'
    )


def main(args: argparse.Namespace) -> None:
    """Run the converter and print a summary.

    Args:
        args (argparse.Namespace): Arguments of :func:`add_arguments`.

    Raises:
        SystemExit: With a message if the classes do not fit, with status 1 if images
            had to be left out.
    """
    lists = {key: getattr(args, key) or [] for key in ('things', 'stuff', 'ignore')}
    if args.classes:
        if any(lists.values()):
            raise SystemExit('give --classes or --things, --stuff, --ignore, not both')
        if not args.classes.is_file():
            raise SystemExit(f'{args.classes} (--classes) does not exist')
        loaded = load(args.classes)
        unknown = sorted(loaded.keys() - lists.keys())
        if unknown:
            raise SystemExit(
                f'{args.classes}: unknown keys {unknown}, expected things, stuff and '
                'ignore'
            )
        lists = {key: loaded.get(key) or [] for key in lists}
    try:
        report = convert_coco_polygons(
            args.src_json, args.image_dir, args.out, nproc=args.nproc, **lists
        )
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    print_report(report, args.out)
    if report.problems:
        raise SystemExit(1)


def convert_coco_polygons(
    src_json: str | Path,
    image_dir: str | Path,
    out_json: str | Path,
    things: Sequence[str] = (),
    stuff: Sequence[str] = (),
    ignore: Sequence[str] = (),
    nproc: int = 1,
) -> ConversionReport:
    """Convert COCO labels to COCO-panoptic ones.

    Images with a problem are left out and reported; all others are written. PNGs that
    a former run made from the same labels and image are not drawn again.

    Args:
        src_json (str | Path): Labels in the COCO format, polygons or RLE.
        image_dir (str | Path): Folder that the file names in it refer to.
        out_json (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix, under the name of the image with suffix .png.
        things (Sequence[str]): Names of the thing classes.
        stuff (Sequence[str]): Names of the stuff classes.
        ignore (Sequence[str]): Names of categories that are not drawn.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        ConversionReport: Counts and problems.

    Raises:
        FileNotFoundError: If the labels or the image folder are missing.
        ValueError: If the lists of classes do not fit the labels, two images would
            get one PNG, or ``out_json`` is no other .json file.
    """
    src_json, image_dir, out_json = Path(src_json), Path(image_dir), Path(out_json)
    if not src_json.is_file():
        raise FileNotFoundError(f'labels {src_json} do not exist')
    if not image_dir.is_dir():
        raise FileNotFoundError(f'image folder {image_dir} does not exist')
    if out_json.suffix != '.json' or out_json.resolve() == src_json.resolve():
        raise ValueError(f'--out must be a new .json file, got {out_json}')
    source = json.loads(src_json.read_text(encoding='utf-8'))
    if not source['images']:
        raise ValueError(f'{src_json} lists no images')
    report = ConversionReport()
    categories, report.unused = _select_categories(source, things, stuff, ignore)
    ignored = {c['id'] for c in source['categories'] if c['name'] in ignore}

    annotations = {image['id']: [] for image in source['images']}
    for annotation in source['annotations']:
        if annotation['image_id'] not in annotations:
            raise ValueError(
                f'{src_json}: annotation {annotation["id"]} belongs to image '
                f'{annotation["image_id"]}, which is not in images'
            )
        if annotation['category_id'] not in ignored:
            annotations[annotation['image_id']].append(annotation)
    png_names = Counter(_png_name(image) for image in source['images'])
    shared = [name for name, count in png_names.items() if count > 1]
    if shared:
        raise ValueError(f'{src_json}: several images would be labelled by {shared}')

    png_dir = out_json.with_suffix('')
    isthing = {c['id']: bool(c['isthing']) for c in categories}
    convert = partial(
        _convert_image, image_dir=image_dir, png_dir=png_dir, isthing=isthing
    )
    tasks = [(image, annotations[image['id']]) for image in source['images']]
    results = track_progress_rich(
        convert, tasks, nproc=nproc, description=f'Drawing {png_dir}'
    )

    panoptic = {'images': [], 'annotations': [], 'categories': categories}
    name_of = {c['id']: c['name'] for c in categories}
    report.segments = dict.fromkeys(name_of.values(), 0)
    labelled = pixels = 0
    for image, result in zip(source['images'], results, strict=True):
        if result['problems']:
            report.problems[image['file_name']] = result['problems']
            continue
        panoptic['images'].append(image)
        panoptic['annotations'].append(
            {
                'image_id': image['id'],
                'file_name': _png_name(image),
                'segments_info': result['segments_info'],
            }
        )
        report.num_dropped += result['num_dropped']
        pixels += image['width'] * image['height']
        for segment in result['segments_info']:
            report.segments[name_of[segment['category_id']]] += 1
            labelled += segment['area']
    report.num_images = len(panoptic['images'])
    report.void_share = 1 - labelled / pixels if pixels else 0.0
    out_json.parent.mkdir(parents=True, exist_ok=True)
    temporary = out_json.with_suffix('.json.tmp')
    temporary.write_text(json.dumps(panoptic), encoding='utf-8')
    os.replace(temporary, out_json)
    return report


def print_report(report: ConversionReport, out_json: Path) -> None:
    """Print what a conversion did.

    Args:
        report (ConversionReport): The report.
        out_json (Path): The json written.
    """
    rows = [['class', 'segments'], *report.segments.items()]
    print(AsciiTable([[name, str(count)] for name, count in rows]).table)
    print(
        f'{report.num_images} images, {100 * report.void_share:.1f} % void: {out_json}'
    )
    if report.unused:
        print(f'not listed, without annotations: {", ".join(report.unused)}')
    if report.num_dropped:
        print(f'{report.num_dropped} annotations dropped: no visible pixel')
    if report.problems:
        print(f'{len(report.problems)} images left out:')
        for name, messages in list(report.problems.items())[:SHOWN_PROBLEMS]:
            print(f'  {name}: {"; ".join(messages)}')
        if len(report.problems) > SHOWN_PROBLEMS:
            print(f'  ... and {len(report.problems) - SHOWN_PROBLEMS} more')


def draw_panoptic(
    annotations: Sequence[dict], height: int, width: int, isthing: dict[int, bool]
) -> tuple[np.ndarray, list[dict], int]:
    """Draw the segments of one image.

    Args:
        annotations (Sequence[dict]): COCO annotations of the image.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.
        isthing (dict[int, bool]): Whether a category is a thing, by its id.

    Returns:
        tuple[np.ndarray, list[dict], int]: Segment ids, shape (H, W), int32, 0 = void;
        the segments_info, with area and bbox (xywh) of what is visible; the number of
        annotations without a visible pixel.
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

    segments = {}
    segment_of = [VOID_ID]
    for area, (layer, _, key, category, _) in zip(visible, layers, strict=True):
        if area:
            new = {
                'id': len(segments) + 1,
                'category_id': category,
                'iscrowd': int(layer == CROWD),
                'area': 0,
            }
            segment = segments.setdefault(key, new)
            segment['area'] += int(area)
        segment_of.append(segment['id'] if area else VOID_ID)
    ids = np.array(segment_of, dtype=np.int32)[owner]
    for segment, (rows, columns) in zip(
        segments.values(), ndimage.find_objects(ids), strict=True
    ):
        size = [columns.stop - columns.start, rows.stop - rows.start]
        segment['bbox'] = [columns.start, rows.start, *size]
    return ids, list(segments.values()), int((visible == 0).sum())


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
    by_name = {c['name']: c for c in source['categories']}
    missing = [name for name in listed if name not in by_name]
    if missing:
        raise ValueError(f'no such category: {missing}; there are {sorted(by_name)}')
    used = Counter(a['category_id'] for a in source['annotations'])
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


def _png_name(image: dict) -> str:
    """Give the name of the PNG of an image.

    Args:
        image (dict): Entry of the image.

    Returns:
        str: Its file name with the suffix .png, folders included.
    """
    return Path(image['file_name']).with_suffix('.png').as_posix()


def _convert_image(
    image: dict,
    annotations: list[dict],
    image_dir: Path,
    png_dir: Path,
    isthing: dict[int, bool],
) -> dict:
    """Check and convert one image.

    The PNG carries the result and a fingerprint of all it was made from as text, so
    that a later run can take both from there.

    Args:
        image (dict): Entry of the image.
        annotations (list[dict]): Its annotations.
        image_dir (Path): Folder of the images.
        png_dir (Path): Folder of the PNGs.
        isthing (dict[int, bool]): Whether a category is a thing, by its id.

    Returns:
        dict: ``problems``, and without any also ``segments_info`` and
        ``num_dropped``.
    """
    image_path = image_dir / image['file_name']
    if not image_path.is_file():
        return {'problems': [f'image {image_path} is missing']}
    stat = image_path.stat()
    made_from = [DRAWING_VERSION, image, annotations, sorted(isthing.items())]
    made_from += [stat.st_size, stat.st_mtime_ns]
    fingerprint = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()

    png_path = png_dir / _png_name(image)
    # A damaged or foreign file in its place is drawn anew.
    with suppress(OSError), Image.open(png_path) as png:
        if png.info.get('fingerprint') == fingerprint:
            return json.loads(png.info['result'])

    problems = _check_image(image, image_path)
    for annotation in annotations:
        problems += _check_annotation(annotation, image, isthing)
    if problems:
        return {'problems': problems}
    ids, segments_info, num_dropped = draw_panoptic(
        annotations, image['height'], image['width'], isthing
    )
    result = {
        'problems': [],
        'segments_info': segments_info,
        'num_dropped': num_dropped,
    }
    text = PngImagePlugin.PngInfo()
    text.add_text('fingerprint', fingerprint)
    text.add_text('result', json.dumps(result))
    png_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = png_path.with_suffix('.png.tmp')
    Image.fromarray(id2rgb(ids)).save(temporary, format='PNG', pnginfo=text)
    os.replace(temporary, png_path)
    return result


def _check_image(image: dict, image_path: Path) -> list[str]:
    """Check that an image can be read and has the size its labels say.

    Args:
        image (dict): Entry of the image.
        image_path (Path): Its file.

    Returns:
        list[str]: Problems found.
    """
    try:
        with Image.open(image_path) as picture:
            # Decoders for training turn pictures as EXIF says.
            size = ImageOps.exif_transpose(picture).size
            picture.load()
    except OSError as error:
        return [f'image cannot be read ({error})']
    expected = (image['width'], image['height'])
    if size != expected:
        return [f'image is {size} (width, height), its labels say {expected}']
    return []


def _check_annotation(
    annotation: dict, image: dict, isthing: dict[int, bool]
) -> list[str]:
    """Check that an annotation can be drawn.

    Args:
        annotation (dict): The annotation.
        image (dict): Entry of its image.
        isthing (dict[int, bool]): Whether a category is a thing, by its id.

    Returns:
        list[str]: Problems found.
    """
    name = f'annotation {annotation["id"]}'
    problems = []
    if annotation['category_id'] not in isthing:
        problems.append(f'{name} has unknown category id {annotation["category_id"]}')
    segmentation = annotation.get('segmentation')
    if not segmentation:
        problems.append(f'{name} has no segmentation')
    elif isinstance(segmentation, dict):
        expected = [image['height'], image['width']]
        if segmentation['size'] != expected:
            problems.append(
                f'{name} has a mask of size {segmentation["size"]} (height, width), '
                f'the image {expected}'
            )
    elif any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation):
        problems.append(f'{name} has a polygon of less than 3 points')
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
