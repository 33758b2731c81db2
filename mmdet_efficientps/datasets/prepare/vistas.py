# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Check and complete the panoptic ground truth of Mapillary Vistas v1.2 and v2.0.

SRC is the unpacked download from https://www.mapillary.com/dataset/vistas: training/
and validation/ with images/, and for each version panoptic/ with panoptic_2018.json or
panoptic_2020.json, either directly (v1.2 alone) or in v1.2/ and v2.0/ (both together).
Every PNG is compared with its json. Labels that are not evaluated become void; PNGs
without any are linked and not copied. A version without panoptic/ is made from
instances/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mmdet_efficientps.datasets.label_table import load_classes, load_label_table
from mmdet_efficientps.structures.panoptic import (
    VOID_ID,
    PanopticAnnotations,
    PanopticClasses,
    path_inside,
)
from mmdet_efficientps.structures.panoptic.annotations import INTEGER, TEXT
from mmdet_efficientps.utils import ProblemList

from .conversion import convert
from .folders import check_folders, find_files, pair_files, plan_links
from .jobs import BadInputError, Job, Panoptic, Split
from .readers import (
    check_size,
    read_color_map,
    read_image_size,
    read_instance_map,
)
from .segments import collect_segments
from .summary import ConversionReport

SPLITS = ('training', 'validation')
PANOPTIC_JSON = {'v1.2': 'panoptic_2018.json', 'v2.0': 'panoptic_2020.json'}
DOWNLOAD = 'unpack Mapillary Vistas from https://www.mapillary.com/dataset/vistas there'


def prepare_vistas(
    src: str | Path,
    out: str | Path | None = None,
    versions: Sequence[str] = (),
    nproc: int = 1,
) -> list[ConversionReport]:
    """Write ``mapillary_vistas_<version>_<split>.json`` and the PNGs beside it.

    Args:
        src (str | Path): Folder with training/ and validation/.
        out (str | Path | None): Folder to write to; the images are linked into it.
            Defaults to None, which is ``src``.
        versions (Sequence[str]): 'v1.2', 'v2.0' or both. Defaults to (), those of the
            download.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One for each version and split.

    Raises:
        OSError: As :func:`prepare_cityscapes`; nothing is written then.
        ValueError: If a json has other categories than Vistas or no annotations, or an
            input would be overwritten; nothing is written then.
    """
    src, out = Path(src), Path(out or src)
    image_dirs = [f'{split}/images' for split in SPLITS]
    check_folders({src / name: DOWNLOAD for name in image_dirs})
    versions = versions or [
        version
        for version in PANOPTIC_JSON
        if any(_label_dir(src / split, version) for split in SPLITS)
    ]
    label_dirs = {
        (version, split): _label_dir(src / split, version)
        for version in versions
        for split in SPLITS
    }
    missing = [
        f'{version} of {split}' for (version, split), p in label_dirs.items() if not p
    ]
    if missing or not versions:
        names = src / '{training,validation}/[v1.2/,v2.0/]{panoptic,instances}'
        raise FileNotFoundError(
            f'no labels {", ".join(missing)} in {names}/: {DOWNLOAD}'
        )
    splits = [
        _find_split(src / split, label_dir, out, version)
        for (version, split), label_dir in label_dirs.items()
        if label_dir
    ]
    return convert(splits, nproc, plan_links(src, out, image_dirs))


def _label_dir(split_dir: Path, version: str) -> Path | None:
    """Give the folder with panoptic/ or instances/ of a version, None without one."""
    alone = [split_dir] if version == 'v1.2' else []
    for folder in (split_dir / version, *alone):
        has_json = (folder / 'panoptic' / PANOPTIC_JSON[version]).is_file()
        if has_json or (folder / 'instances').is_dir():
            return folder
    return None


def _find_split(split_dir: Path, label_dir: Path, out: Path, version: str) -> Split:
    """List the images of a split."""
    problems = ProblemList()
    images = find_files(
        (split_dir / 'images').iterdir(), '', ['.jpg', '.jpeg'], problems
    )
    classes = load_classes(f'mapillary_vistas_{version}')
    void = load_label_table(f'mapillary_vistas_{version}')['void']
    panoptic_json = label_dir / 'panoptic' / PANOPTIC_JSON[version]
    json_path = out / f'mapillary_vistas_{version}_{split_dir.name}.json'
    if not panoptic_json.is_file():
        class_of = {c.id: c.id for c in classes} | {c['id']: None for c in void}
        labels = find_files((label_dir / 'instances').iterdir(), '', ['.png'], problems)
        names = pair_files(images, labels, problems, DOWNLOAD)
        jobs = [_make_job(images[name], labels[name]) for name in names]
        draw = partial(_draw_instances, class_of=class_of)
        return Split(json_path, classes, jobs, draw, problems)

    content = PanopticAnnotations.read(
        panoptic_json,
        problems,
        name=str(panoptic_json),
        category_fields={'id': INTEGER, 'supercategory': TEXT},
    )
    if not (content.images and content.annotations and content.categories):
        raise ValueError(f'{DOWNLOAD}; {problems.summary()}')
    classes, class_of = _match_categories(
        content.categories, classes, {label['supercategory'] for label in void}
    )
    draw = partial(_draw_panoptic, class_of=class_of)
    jobs = _list_jobs(images, content, panoptic_json, problems)
    return Split(json_path, classes, jobs, draw, problems, [panoptic_json])


def _make_job(image_path: Path, label_path: Path, labels: Any = None) -> Job:
    """Say what is to be done for an image."""
    name = image_path.stem
    image = {'id': name, 'file_name': image_path.name}
    return Job(image, image_path, f'{name}.png', label_path, labels)


def _list_jobs(
    images: dict[str, Path],
    content: PanopticAnnotations,
    panoptic_json: Path,
    problems: ProblemList,
) -> list[Job]:
    """Match images with the annotations of a json."""
    names = {image['id']: Path(image['file_name']).stem for image in content.images}
    labels = {}
    for image_id, annotation in content.annotations.items():
        if image_id not in names:
            problems.add(
                f'{panoptic_json}: annotation of an image that is not in images',
                str(image_id),
            )
            continue
        try:
            path = path_inside(panoptic_json.parent, annotation['file_name'])
        except ValueError as error:
            problems.add(f'{panoptic_json}: file_name of an annotation', str(error))
            continue
        labels[names[image_id]] = path, annotation['segments_info']
    sources = dict.fromkeys(labels, panoptic_json)
    hint = f'{DOWNLOAD}, if it is not named in another line'
    return [
        _make_job(images[name], *labels[name])
        for name in pair_files(images, sources, problems, hint)
    ]


def _match_categories(
    shipped: list[dict[str, Any]], classes: PanopticClasses, void: set[str]
) -> tuple[PanopticClasses, dict[int, int | None]]:
    """Find the classes among the categories of a json.

    Args:
        shipped (list[dict[str, Any]]): Categories of the json, with the full name of
            the label as supercategory.
        classes (PanopticClasses): The evaluated classes of Vistas.
        void (set[str]): Full names of its other labels.

    Returns:
        tuple[PanopticClasses, dict[int, int | None]]: The evaluated classes with the
        ids of the json; the category id of every id of the json, None for void.

    Raises:
        ValueError: If the json lacks a class or has one of its own.
    """
    id_of = {c['supercategory']: c['id'] for c in shipped}
    evaluated = {c.supercategory for c in classes}
    missing = sorted(evaluated - id_of.keys())
    unknown = sorted(id_of.keys() - evaluated - void)
    if missing or unknown:
        raise ValueError(
            f'categories differ from those of Vistas: missing {missing}, unknown '
            f'{unknown}. {DOWNLOAD}'
        )
    matched = tuple(replace(c, id=id_of[c.supercategory]) for c in classes)
    class_of = {id_: None if name in void else id_ for name, id_ in id_of.items()}
    return PanopticClasses(matched), class_of


def _draw_panoptic(job: Job, class_of: dict[int, int | None]) -> Panoptic:
    """Compare a panoptic PNG with its entry and take labels without class out."""
    assert job.label_path
    image_size = read_image_size(job.image_path)
    ids = read_color_map(job.label_path)
    check_size(image_size, ids.shape[::-1], job.image_path)
    segments = {segment['id']: segment for segment in job.labels}
    unlisted = []
    found = set()

    def describe(segment_id: int) -> tuple[int, int, int] | None:
        if segment_id == VOID_ID:
            return None
        if segment_id not in segments:
            unlisted.append(segment_id)
            return None
        found.add(segment_id)
        segment = segments[segment_id]
        category = class_of.get(segment['category_id'])
        return None if category is None else (segment_id, category, segment['iscrowd'])

    new_ids, new_segments = collect_segments(ids, describe)
    wrong = {
        'segments of the PNG that are not in the json': unlisted,
        'segments of the json that are not in the PNG': sorted(segments.keys() - found),
        'unknown category ids': sorted(
            {s['category_id'] for s in job.labels} - class_of.keys()
        ),
    }
    problems = ProblemList()
    for kind, numbers in wrong.items():
        if numbers:
            problems.add(kind, f'{job.label_path}: {numbers}')
    if problems:
        raise BadInputError(problems=problems)
    is_whole = len(new_segments) == len(segments)
    return Panoptic(
        new_ids, new_segments, png_path=job.label_path if is_whole else None
    )


def _draw_instances(job: Job, class_of: dict[int, int | None]) -> Panoptic:
    """Make segments of an instance map: index of the label * 256 + number."""
    assert job.label_path
    image_size = read_image_size(job.image_path)
    values = read_instance_map(job.label_path)
    check_size(image_size, values.shape[::-1], job.image_path)
    unknown = []

    def describe(value: int) -> tuple[int, int, int] | None:
        # Category ids count from 1. So do segment ids: value 0, the first instance
        # of the first label, would be void.
        category = value // 256 + 1
        if category not in class_of:
            unknown.append(value)
        return (value + 1, category, 0) if class_of.get(category) else None

    ids, segments = collect_segments(values, describe)
    if unknown:
        raise BadInputError(
            'unknown label ids, not of Vistas', f'{job.label_path}: {unknown}'
        )
    return Panoptic(ids, segments)
