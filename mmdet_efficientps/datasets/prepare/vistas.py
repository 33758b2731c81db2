# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Check and complete the panoptic ground truth of Mapillary Vistas v1.2 and v2.0.

SRC is the unpacked download from https://www.mapillary.com/dataset/vistas: training/
and validation/ with images/, and for each version panoptic/ with panoptic_2018.json or
panoptic_2020.json, either directly (v1.2 alone) or in v1.2/ and v2.0/ (both together).
Every PNG is compared with its json. Labels that are not evaluated become void; PNGs
without any are linked and not copied. A version without panoptic/ is made from
instances/.
"""

import argparse
from collections import Counter
from functools import partial
from pathlib import Path

from mmdet_efficientps.datasets.label_table import categories_of, load_label_table
from mmdet_efficientps.structures.panoptic import VOID_ID, rgb2id
from mmdet_efficientps.utils import ProblemList

from .conversion import (
    BadInputError,
    Job,
    Panoptic,
    Split,
    check_folders,
    check_same_size,
    collect_segments,
    convert,
    output_folder,
    pair_files,
    read_image_size,
    read_json,
    read_label_png,
)

SPLITS = ('training', 'validation')
PANOPTIC_JSON = {'v1.2': 'panoptic_2018.json', 'v2.0': 'panoptic_2020.json'}
FIELDS = {
    'images': ('id', 'file_name'),
    'annotations': ('image_id', 'file_name', 'segments_info'),
    'categories': ('id', 'supercategory'),
}
DOWNLOAD = 'unpack Mapillary Vistas from https://www.mapillary.com/dataset/vistas there'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line arguments."""
    parser.add_argument(
        '--versions',
        nargs='+',
        choices=PANOPTIC_JSON,
        help='versions of the labels, by default those of the download',
    )


def main(args: argparse.Namespace) -> None:
    """Write ``mapillary_vistas_<version>_<split>.json`` and the PNGs beside it.

    Raises:
        FileNotFoundError: If a folder is missing or empty; nothing is written then.
        ValueError: If a json has other categories than Vistas.
        SystemExit: With status 1 if images had to be left out.
    """
    image_dirs = [f'{split}/images' for split in SPLITS]
    check_folders({args.src / name: DOWNLOAD for name in image_dirs})
    versions = args.versions or [
        version
        for version in PANOPTIC_JSON
        if any(_label_dir(args.src / split, version) for split in SPLITS)
    ]
    label_dirs = {
        (version, split): _label_dir(args.src / split, version)
        for version in versions
        for split in SPLITS
    }
    missing = [
        f'{version} of {split}' for (version, split), p in label_dirs.items() if not p
    ]
    if missing or not versions:
        names = args.src / '{training,validation}/[v1.2/,v2.0/]{panoptic,instances}'
        raise FileNotFoundError(
            f'no labels {", ".join(missing)} in {names}/: {DOWNLOAD}'
        )
    splits = [
        _find_split(args.src / split, path, version)
        for (version, split), path in label_dirs.items()
    ]
    out = output_folder(args.src, args.out, image_dirs)
    for split in splits:
        split.json_path = out / split.json_path
    convert(splits, args.nproc)


def _label_dir(split_dir: Path, version: str) -> Path | None:
    """Give the folder with panoptic/ or instances/ of a version, None without one."""
    alone = [split_dir] if version == 'v1.2' else []
    for folder in (split_dir / version, *alone):
        has_json = (folder / 'panoptic' / PANOPTIC_JSON[version]).is_file()
        if has_json or (folder / 'instances').is_dir():
            return folder
    return None


def _find_split(split_dir: Path, label_dir: Path, version: str) -> Split:
    """List the images of a split; its json path is relative to the output."""
    problems = ProblemList()
    images = {path.stem: path for path in (split_dir / 'images').glob('*.jpg')}
    table = load_label_table(f'mapillary_vistas_{version}')
    panoptic_json = label_dir / 'panoptic' / PANOPTIC_JSON[version]
    annotations = {}
    if panoptic_json.is_file():
        content = read_json(panoptic_json, FIELDS, DOWNLOAD)
        categories, class_of = _match_categories(content['categories'], table)
        annotations = _annotations_by_name(content, panoptic_json, problems)
        sources = dict.fromkeys(annotations, panoptic_json)
        draw = partial(_draw_panoptic, class_of=class_of)
    else:
        categories = categories_of(table)
        class_of = {c['id']: c['id'] for c in categories}
        class_of |= {c['id']: None for c in table['void']}
        sources = {path.stem: path for path in (label_dir / 'instances').glob('*.png')}
        draw = partial(_draw_instances, class_of=class_of)
    jobs = []
    for name in pair_files(images, sources, problems, DOWNLOAD):
        annotation = annotations.get(name)
        jobs.append(
            Job(
                image={'id': name, 'file_name': images[name].name},
                image_path=images[name],
                png_name=f'{name}.png',
                label_path=(
                    panoptic_json.parent / annotation['file_name']
                    if annotation
                    else sources[name]
                ),
                labels=annotation['segments_info'] if annotation else None,
            )
        )
    json_path = Path(f'mapillary_vistas_{version}_{split_dir.name}.json')
    return Split(json_path, categories, jobs, draw, problems)


def _match_categories(
    shipped: list[dict], table: dict[str, list]
) -> tuple[list[dict], dict[int, int | None]]:
    """Find the classes of the table among the categories of a json.

    Args:
        shipped (list[dict]): Categories of the json, with the readable name as name
            and the full one as supercategory.
        table (dict[str, list]): The label table.

    Returns:
        tuple[list[dict], dict[int, int | None]]: The evaluated categories with the
        ids of the json; the category id of every id of the json, None for void.

    Raises:
        ValueError: If the json lacks a class or has one of its own.
    """
    id_of = {c['supercategory']: c['id'] for c in shipped}
    evaluated = {c['supercategory']: c for c in categories_of(table)}
    void = {c['supercategory'] for c in table['void']}
    missing = sorted(evaluated.keys() - id_of.keys())
    unknown = sorted(id_of.keys() - evaluated.keys() - void)
    if missing or unknown:
        raise ValueError(
            f'categories differ from those of Vistas: missing {missing}, unknown '
            f'{unknown}. {DOWNLOAD}'
        )
    categories = [c | {'id': id_of[name]} for name, c in evaluated.items()]
    class_of = {id_: None if name in void else id_ for name, id_ in id_of.items()}
    return categories, class_of


def _annotations_by_name(
    content: dict, panoptic_json: Path, problems: ProblemList
) -> dict[str, dict]:
    """Give the annotations of a json by the name of the image without suffix."""
    names = {image['id']: Path(image['file_name']).stem for image in content['images']}
    annotations = {}
    for annotation in content['annotations']:
        name = names.get(annotation['image_id'])
        if name is None:
            problems.add(
                f'{panoptic_json}: annotation of an image that is not in images',
                annotation['image_id'],
            )
        elif name in annotations:
            problems.add(
                f'{panoptic_json}: two annotations of one image, the first is taken',
                name,
            )
        else:
            annotations[name] = annotation
    return annotations


def _draw_panoptic(job: Job, class_of: dict[int, int | None]) -> Panoptic:
    """Compare a panoptic PNG with its entry and take labels without class out."""
    image_size = read_image_size(job.image_path)
    ids = rgb2id(read_label_png(job.label_path, '8-bit RGB'))
    check_same_size(image_size, ids.shape[::-1], job.image_path)
    segments = {segment['id']: segment for segment in job.labels}
    unlisted = []
    found = set()

    def describe(segment_id: int) -> tuple[int, int, int] | None:
        if segment_id == VOID_ID:
            return None
        segment = segments.get(segment_id)
        if segment is None:
            unlisted.append(segment_id)
            return None
        found.add(segment_id)
        category = class_of.get(segment['category_id'])
        if category is None:
            return None
        return segment_id, category, int(segment.get('iscrowd', 0))

    new_ids, new_segments = collect_segments(ids, describe)
    times = Counter(segment['id'] for segment in job.labels)
    wrong = {
        'segments of the PNG that are not in the json': unlisted,
        'segments of the json that are not in the PNG': sorted(segments.keys() - found),
        'segment ids that the json has twice': [i for i, n in times.items() if n > 1],
        'unknown category ids': sorted(
            {s['category_id'] for s in job.labels} - class_of.keys()
        ),
    }
    problems = [
        (kind, f'{job.label_path}: {numbers}')
        for kind, numbers in wrong.items()
        if numbers
    ]
    if problems:
        raise BadInputError(*problems)
    is_whole = len(new_segments) == len(segments)
    return Panoptic(
        new_ids, new_segments, png_path=job.label_path if is_whole else None
    )


def _draw_instances(job: Job, class_of: dict[int, int | None]) -> Panoptic:
    """Make segments of an instance map: index of the label * 256 + number."""
    image_size = read_image_size(job.image_path)
    values = read_label_png(job.label_path, '16-bit')
    check_same_size(image_size, values.shape[::-1], job.image_path)
    unknown = []

    def describe(value: int) -> tuple[int, int, int] | None:
        # Category ids count from 1. So do segment ids: value 0, the first instance
        # of the first label, would be void.
        category = value // 256 + 1
        if category not in class_of:
            unknown.append(value)
        return class_of.get(category) and (value + 1, category, 0)

    ids, segments = collect_segments(values, describe)
    if unknown:
        raise BadInputError(
            ('unknown label ids, not of Vistas', f'{job.label_path}: {unknown}')
        )
    return Panoptic(ids, segments)
