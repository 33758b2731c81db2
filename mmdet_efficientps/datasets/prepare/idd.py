# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make the panoptic ground truth of IDD with the 26 classes of level 3.

SRC is the folder with leftImg8bit/ and gtFine/ as IDD Segmentation (part I, part II or
both) from https://idd.insaan.iiit.ac.in unpacks: train/ and val/ with a folder for each
drive. The polygons are drawn at their own size and then brought to 1280x720 pixels,
the size of the evaluation; the images stay as they are and are resized when they are
loaded.
"""

import argparse
import json
from collections.abc import Iterable
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmdet_efficientps.datasets.label_table import categories_of, load_label_table
from mmdet_efficientps.structures.panoptic import VOID_ID
from mmdet_efficientps.utils import ProblemList

from .conversion import (
    BadInputError,
    Job,
    Panoptic,
    Split,
    check_folders,
    check_same_view,
    collect_segments,
    convert,
    output_folder,
    pair_files,
    read_image_size,
    resize_values,
)

SIZE = (1280, 720)
SPLITS = ('train', 'val')
DOWNLOAD = 'unpack IDD Segmentation from https://idd.insaan.iiit.ac.in there'
LABEL_SUFFIX = '_gtFine_polygons.json'

TABLE = load_label_table('idd')
CLASS_OF = {name: label for label in TABLE['classes'] for name in label['members']}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line arguments."""
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=SIZE,
        metavar=('WIDTH', 'HEIGHT'),
        help='size of the ground truth in pixels, by default 1280 720 as in the '
        'official evaluation',
    )


def main(args: argparse.Namespace) -> None:
    """Write ``gtFine/idd_panoptic_<split>.json`` and the PNGs beside it.

    Raises:
        FileNotFoundError: If a folder is missing or empty; nothing is written then.
        SystemExit: With status 1 if images had to be left out.
    """
    kinds = ('leftImg8bit', 'gtFine')
    check_folders({args.src / k / split: DOWNLOAD for k in kinds for split in SPLITS})
    out = output_folder(args.src, args.out, ['leftImg8bit'])
    draw = partial(_draw, size=tuple(args.size))
    convert([_find_split(args.src, out, split, draw) for split in SPLITS], args.nproc)


def draw_polygons(
    objects: Iterable[dict], width: int, height: int, label_path: Path
) -> tuple[np.ndarray, dict[int, tuple[int, int]], int]:
    """Draw the labels of an image, the later ones over the earlier.

    Every thing is a region of its own. Each class of stuff is one region, and so are
    the groups of a thing class ('cargroup'), which are crowds. Labels without a class,
    such as licence plates, hide what is under them.

    Args:
        objects (Iterable[dict]): Objects of a polygons.json: label, polygon (pixels),
            optionally deleted.
        width (int): Width of the image in pixels.
        height (int): Height of the image in pixels.
        label_path (Path): Where they are from, to be named.

    Returns:
        tuple[np.ndarray, dict[int, tuple[int, int]], int]: Numbers of the regions,
        shape (H, W), int32, 0 = void; category id and iscrowd of each number; the
        number of polygons of less than three points.

    Raises:
        BadInputError: If there are unknown labels.
    """
    picture = Image.new('I', (width, height), VOID_ID)
    drawer = ImageDraw.Draw(picture)
    regions = {}
    number_of = {}
    unknown = set()
    num_dropped = 0
    for entry in objects:
        name = entry['label']
        if entry.get('deleted'):
            continue
        # polegroup is a label of its own: only what is no label can be a group.
        is_group = name not in CLASS_OF and name.removesuffix('group') in CLASS_OF
        label = CLASS_OF.get(name.removesuffix('group') if is_group else name)
        if len(entry['polygon']) < 3:
            num_dropped += 1
            continue
        if label is None and name not in TABLE['void']:
            unknown.add(name)
            continue
        if label is None:
            number = VOID_ID
        elif label['isthing'] and not is_group:
            number = len(regions) + 1
            regions[number] = (label['id'], 0)
        else:
            iscrowd = int(is_group and label['isthing'])
            number = number_of.setdefault(label['id'], len(regions) + 1)
            regions[number] = (label['id'], iscrowd)
        points = chain.from_iterable(entry['polygon'])
        drawer.polygon(list(points), fill=number)
    if unknown:
        raise BadInputError(
            ('unknown labels, not of IDD', f'{label_path}: {sorted(unknown)}')
        )
    return np.array(picture), regions, num_dropped


def _find_split(src: Path, out: Path, split: str, draw: partial) -> Split:
    """List the images of a split."""
    problems = ProblemList()
    images = {}
    for path in sorted((src / 'leftImg8bit' / split).glob('*/*_leftImg8bit.*')):
        # Frames are numbered anew in every drive. Part I has PNGs, part II JPEGs.
        name = f'{path.parent.name}/{path.stem.removesuffix("_leftImg8bit")}'
        if path.suffix not in ('.png', '.jpg'):
            continue
        if name in images:
            problems.add('image is there as PNG and as JPEG: remove one', path)
        images[name] = path
    labels = {
        f'{path.parent.name}/{path.name.removesuffix(LABEL_SUFFIX)}': path
        for path in (src / 'gtFine' / split).glob(f'*/*{LABEL_SUFFIX}')
    }
    if not labels:
        raise FileNotFoundError(
            f'{src / "gtFine" / split} has no <drive>/*{LABEL_SUFFIX}: {DOWNLOAD}'
        )
    jobs = []
    for name in pair_files(images, labels, problems, DOWNLOAD):
        path = images[name]
        jobs.append(
            Job(
                image={
                    'id': name.replace('/', '_'),
                    'file_name': f'{path.parent.name}/{path.name}',
                },
                image_path=path,
                png_name=f'{name.replace("/", "_")}.png',
                label_path=labels[name],
            )
        )
    json_path = out / 'gtFine' / f'idd_panoptic_{split}.json'
    return Split(json_path, categories_of(TABLE), jobs, draw, problems)


def _draw(job: Job, size: tuple[int, int]) -> Panoptic:
    """Make the labels of one image at the wanted size."""
    image_size = read_image_size(job.image_path)
    try:
        content = json.loads(job.label_path.read_bytes())
        label_size = content['imgWidth'], content['imgHeight']
        objects = content['objects']
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            ('polygons cannot be read: the file is damaged', job.label_path)
        ) from error
    check_same_view(image_size, label_size, job.image_path)
    numbers, regions, num_dropped = draw_polygons(objects, *label_size, job.label_path)

    def describe(number: int) -> tuple[int, int, int] | None:
        # The class is not the id: road is class 0, and id 0 is void.
        return (number, *regions[number]) if number != VOID_ID else None

    ids, segments = collect_segments(resize_values(numbers, size), describe)
    return Panoptic(ids, segments, num_dropped + len(regions) - len(segments))
