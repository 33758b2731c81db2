# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Segments as COCO instances, with run-length masks or polygons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmdet_efficientps.structures.outlines import mask_outlines
from mmdet_efficientps.structures.panoptic import PanopticClasses, write_json
from mmdet_efficientps.structures.panoptic.index_map import measure_segments
from mmdet_efficientps.structures.run_length_masks import segments_to_rle

from .images import LabelledImage, check_file_name, score_of


def write_coco_masks(
    out: str | Path, classes: PanopticClasses, images: Iterable[LabelledImage]
) -> None:
    """Write COCO instances with run-length masks.

    Every segment is an annotation, stuff too, with ``iscrowd`` and, where it is known,
    ``score``. Images and annotations are numbered from 1. So are the classes if one of
    them has an id below 1: CVAT takes the id 0 for no class at all.

    Args:
        out (str | Path): Json to write.
        classes (PanopticClasses): The classes.
        images (Iterable[LabelledImage]): The images.

    Raises:
        FileExistsError: If the file is there.
        ValueError: If it is no json.
    """

    def segmentations(index: np.ndarray, count: int) -> list[Any]:
        masks = segments_to_rle(index, range(1, count + 1))
        return [mask | {'counts': mask['counts'].decode()} for mask in masks]

    _write(out, classes, images, segmentations)


def write_coco_polygons(
    out: str | Path,
    classes: PanopticClasses,
    images: Iterable[LabelledImage],
    tolerance: float = 1.0,
) -> None:
    """Write COCO instances with polygons.

    As :func:`write_coco_masks`, but for the form of the segmentation.

    Args:
        out (str | Path): Json to write.
        classes (PanopticClasses): The classes.
        images (Iterable[LabelledImage]): The images.
        tolerance (float): How far outlines may be from the edges of the pixels, in
            pixels: the larger, the fewer points. Defaults to 1.0; with 0 they are
            exactly the segments.

    Raises:
        FileExistsError: If the file is there.
        ValueError: If it is no json, or the tolerance is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f'the tolerance must be 0 or more pixels, got {tolerance}')

    def segmentations(index: np.ndarray, count: int) -> list[Any]:
        return [mask_outlines(index == k, tolerance) for k in range(1, count + 1)]

    _write(out, classes, images, segmentations)


def _write(
    out: str | Path,
    classes: PanopticClasses,
    images: Iterable[LabelledImage],
    segmentations: Callable[[np.ndarray, int], list[Any]],
) -> None:
    """Write the json; ``segmentations`` gives those of a map of numbers 1..count."""
    check_file_name(Path(out), '.json')
    id_of = {c.id: c.id for c in classes}
    if min(id_of, default=1) < 1:
        id_of = {c.id: number for number, c in enumerate(classes, start=1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        height, width = image.ids.shape
        entries.append(
            {'id': image_id, 'file_name': image.name, 'width': width, 'height': height}
        )
        index = image.index()
        areas, boxes = measure_segments(index, len(image.segments) + 1)
        for segment, area, (x1, y1, x2, y2), segmentation in zip(
            image.segments,
            areas[1:].tolist(),
            boxes[1:].tolist(),
            segmentations(index, len(image.segments)),
            strict=True,
        ):
            annotation = {
                'id': len(annotations) + 1,
                'image_id': image_id,
                'category_id': id_of[segment['category_id']],
                'segmentation': segmentation,
                'area': area,
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'iscrowd': segment.get('iscrowd') or 0,
            }
            score = score_of(segment)
            annotations.append(annotation | ({} if score is None else {'score': score}))
    write_json(
        out,
        {
            'images': entries,
            'annotations': annotations,
            'categories': [c | {'id': id_of[c['id']]} for c in classes.categories()],
        },
    )
