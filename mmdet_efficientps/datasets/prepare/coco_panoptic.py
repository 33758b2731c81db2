# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Check labels in the COCO-panoptic format, and take images or classes of them.

SRC is a panoptic json with its folder of PNGs: COCO's own, another tool's, or one that
this command has written. Every PNG is compared with its entry in the json, and areas
and boxes are measured anew. Classes can be chosen, joined or become void, and images
can be chosen; the images stay where they are. A PNG that stays as it is is linked, not
written again.

Segments of a stuff class, and crowds of a thing class, become one segment per image.
Without --things and --stuff all categories stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmdet_efficientps.structures.panoptic import (
    VOID_ID,
    PanopticAnnotations,
    PanopticClasses,
    constant_runs,
    default_png_folder,
    path_inside,
)
from mmdet_efficientps.utils import ProblemList

from .class_choice import ClassChoice, ClassName, not_listed
from .conversion import convert
from .folders import check_sources
from .jobs import BadInputError, Job, Panoptic, Split, png_name_of
from .readers import check_size, read_color_map, read_image_size
from .segments import collect_segments
from .summary import ConversionReport


def prepare_coco_panoptic(
    src_json: str | Path,
    image_dir: str | Path,
    out: str | Path,
    png_dir: str | Path | None = None,
    things: Sequence[ClassName] = (),
    stuff: Sequence[ClassName] = (),
    ignore: Sequence[str] = (),
    num: int | None = None,
    without: str | Path | None = None,
    nproc: int = 1,
) -> list[ConversionReport]:
    """Check labels in the COCO-panoptic format and write those that are wanted.

    Args:
        src_json (str | Path): Panoptic json.
        image_dir (str | Path): Folder that the file names of its images refer to.
        out (str | Path): Json to write; PNGs go into the folder of the same name
            without suffix.
        png_dir (str | Path | None): Folder of the PNGs. Defaults to None, the name of
            ``src_json`` without suffix.
        things (Sequence[ClassName]): Names of the thing classes, or mappings of a class
            to the categories that are joined in it. Defaults to ().
        stuff (Sequence[ClassName]): The same for the stuff classes. Defaults to ().
            Without things and stuff all categories stay, but for those to ignore.
        ignore (Sequence[str]): Names of categories that become void. Defaults to ().
        num (int | None): Number of images, spread over the json. Defaults to None,
            all.
        without (str | Path | None): Panoptic json; images with the file names of its
            images are left out. Defaults to None.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        list[ConversionReport]: One report.

    Raises:
        FileNotFoundError: If labels, PNGs or images are missing.
        FileExistsError: If ``out`` has something else than panoptic labels.
        ValueError: If the json or the lists of classes cannot be used, or ``out`` is no
            json or would overwrite an input. Nothing is written then.
    """
    src_json, image_dir, out = Path(src_json), Path(image_dir), Path(out)
    png_dir = default_png_folder(src_json) if png_dir is None else Path(png_dir)
    check_sources(out, files=[src_json], folders=[image_dir, png_dir])
    problems = ProblemList()
    content = PanopticAnnotations.read(src_json, problems, name=str(src_json))
    if not (content.images and content.annotations and content.categories):
        raise ValueError(f'{src_json} cannot be used. {problems.summary()}')
    classes, class_of, unused = _select_classes(content, things, stuff, ignore)
    images = _select_images(content, num, without)
    jobs = _list_jobs(images, content, image_dir, png_dir, problems)
    isthing = {c.id: c.isthing for c in classes}
    draw = partial(_draw, class_of=class_of, isthing=isthing)
    notes = [f'not listed, without segments: {", ".join(unused)}'] if unused else []
    sources = [src_json, image_dir, png_dir]
    return convert([Split(out, classes, jobs, draw, problems, sources, notes)], nproc)


def _select_classes(
    content: PanopticAnnotations,
    things: Sequence[ClassName],
    stuff: Sequence[ClassName],
    ignore: Sequence[str],
) -> tuple[PanopticClasses, dict[int, int | None], list[str]]:
    """Give the classes, that of each category id, and the categories left out."""
    categories = content.categories
    if not things and not stuff:
        listed = [c for c in categories if c['name'] not in ignore]
        things = [c['name'] for c in listed if c['isthing']]
        stuff = [c['name'] for c in listed if not c['isthing']]
    classes, category_of = ClassChoice.of(things, stuff, ignore).match(categories)
    name_of = {c['id']: c['name'] for c in categories}
    used = {
        name_of.get(s['category_id'])
        for annotation in content.annotations.values()
        for s in annotation['segments_info']
    }
    unlisted = [c['name'] for c in categories if c['name'] not in category_of]
    if forgotten := [name for name in unlisted if name in used]:
        raise ValueError(f'{content.json_file}: {not_listed(forgotten)}')
    class_of = {
        id_: category_of[name] for id_, name in name_of.items() if name in category_of
    }
    return classes, class_of, unlisted


def _select_images(
    content: PanopticAnnotations, num: int | None, without: str | Path | None
) -> list[dict[str, Any]]:
    """Give the entries of the images that are wanted."""
    images = content.images
    if without is not None:
        problems = ProblemList()
        other = PanopticAnnotations.read(without, problems, ['images'], str(without))
        if problems:
            raise ValueError(f'{without} cannot be used. {problems.summary()}')
        names = {image['file_name'] for image in other.images}
        images = [image for image in images if image['file_name'] not in names]
    if not images:
        raise ValueError(f'{without} has all images of {content.json_file}')
    if num is not None:
        if not 1 <= num <= len(images):
            raise ValueError(f'--num is {num}, and there are {len(images)} images')
        places = np.linspace(0, len(images) - 1, num).astype(int)
        images = [images[place] for place in places]
    return images


def _list_jobs(
    images: list[dict[str, Any]],
    content: PanopticAnnotations,
    image_dir: Path,
    png_dir: Path,
    problems: ProblemList,
) -> list[Job]:
    """Match images with their annotations and PNGs."""
    jobs = []
    prefix = f'{content.json_file}: '
    for image in images:
        where = f'image {image["id"]}'
        annotation = content.annotations.get(image['id'])
        if annotation is None:
            problems.add(f'{prefix}image without an annotation that can be used', where)
            continue
        png_name = png_name_of(annotation['file_name'])
        if png_name is None or png_name_of(image['file_name']) is None:
            name = image['file_name'], annotation['file_name']
            problems.add(f'{prefix}file_name that no file can have', f'{where}: {name}')
            continue
        try:
            label_path = path_inside(png_dir, annotation['file_name'])
        except ValueError as error:
            problems.add(f'{prefix}file_name of an annotation', str(error))
            continue
        jobs.append(
            Job(
                image=image,
                image_path=image_dir / image['file_name'],
                png_name=png_name,
                label_path=label_path,
                labels=annotation['segments_info'],
            )
        )
    known = {image['id'] for image in content.images}
    for image_id in content.annotations:
        if image_id not in known:
            problems.add(
                f'{prefix}annotation of an image that is not in images', str(image_id)
            )
    return jobs


def _draw(
    job: Job, class_of: dict[int, int | None], isthing: dict[int, bool]
) -> Panoptic:
    """Compare a PNG with its entry, and give its segments their classes."""
    assert job.label_path
    image_size = read_image_size(job.image_path)
    check_size(image_size, (job.image['width'], job.image['height']), job.image_path)
    ids = read_color_map(job.label_path)
    check_size(image_size, ids.shape[::-1], job.image_path)
    return take_segments(ids, job.labels, class_of, isthing, job.label_path)


def take_segments(
    ids: np.ndarray,
    segments: Sequence[dict[str, Any]],
    class_of: dict[int, int | None],
    isthing: dict[int, bool],
    label_path: Path,
) -> Panoptic:
    """Give the segments of a panoptic PNG the classes wanted.

    Args:
        ids (np.ndarray): Segment ids, shape (H, W), 0 = void.
        segments (Sequence[dict[str, Any]]): Their segments_info.
        class_of (dict[int, int | None]): Category id of each category id that may
            occur, None for void.
        isthing (dict[int, bool]): Whether a new category is a thing.
        label_path (Path): The PNG.

    Returns:
        Panoptic: The segments; those of a stuff class and the crowds of a thing class
        are one.

    Raises:
        BadInputError: If json and PNG do not fit.
    """
    by_id = {segment['id']: segment for segment in segments}
    present = set(np.unique(constant_runs(ids)[0]).tolist()) - {VOID_ID}
    first_of: dict[tuple[int, int], int] = {}

    def describe(segment_id: int) -> tuple[int, int, int] | None:
        if segment_id not in by_id:
            return None
        segment = by_id[segment_id]
        category = class_of.get(segment['category_id'])
        if category is None:
            return None
        iscrowd = segment['iscrowd'] if isthing[category] else 0
        if isthing[category] and not iscrowd:
            return segment_id, category, 0
        return first_of.setdefault((category, iscrowd), segment_id), category, iscrowd

    new_ids, new_segments = collect_segments(ids, describe)
    # A segment without pixels, of area 0, is what tools leave of a hidden object.
    hidden = [s for s in segments if s['area'] == 0 and s['id'] not in present]
    wrong = {
        'segments of the PNG that are not in the json': sorted(present - by_id.keys()),
        'segments of the json that are not in the PNG': sorted(
            by_id.keys() - present - {s['id'] for s in hidden}
        ),
        'category_id that is not in categories': sorted(
            {s['category_id'] for s in segments} - class_of.keys()
        ),
    }
    problems = ProblemList()
    for kind, numbers in wrong.items():
        if numbers:
            problems.add(kind, f'{label_path}: {numbers}')
    if problems:
        raise BadInputError(problems=problems)
    is_whole = len(new_segments) == len(present)
    png_path = label_path if is_whole else None
    return Panoptic(new_ids, new_segments, len(hidden), png_path)
