# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The report of a test run: errors of every image, and the page made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdet_efficientps.evaluation.functional.panoptic_errors import (
    PixelError,
    confused_segments,
    pixel_errors,
    quality_by_size,
)
from mmdet_efficientps.evaluation.functional.panoptic_quality import (
    PanopticQualityStat,
    class_quality,
    count_matches,
    match_segments,
    summarize,
)
from mmdet_efficientps.evaluation.functional.quality_report import class_groups
from mmdet_efficientps.evaluation.functional.segment_overlaps import segment_overlaps
from mmdet_efficientps.structures.panoptic import (
    PanopticClasses,
    encode_panoptic,
    index_segments,
)

from ..panoptic_drawing import panoptic_overlay
from .page import write_page
from .pictures import shrink, to_webp

# Square root of the area in pixels. 32 and 96 are COCO's; street scenes have more.
SIZE_BOUNDS = (16, 32, 64, 128, 256)
VIEWS = {
    'image': 'Image',
    'truth': 'Truth',
    'prediction': 'Prediction',
    'errors': 'Errors',
}
GROUP_TITLES = {'All': 'All classes', 'Things': 'Things', 'Stuff': 'Stuff'}
# RGBA. They differ in lightness too and stay apart for color-blind eyes; what is right
# is darkened, so that the colors are read against a dark ground.
ERROR_COLORS = {
    PixelError.NONE: (0, 0, 0, 150),
    PixelError.INEXACT: (255, 255, 255, 235),
    PixelError.MISSED: (230, 159, 0, 225),
    PixelError.FALSE: (0, 114, 178, 225),
    PixelError.MISSED_AND_FALSE: (240, 228, 66, 225),
    PixelError.IGNORED: (110, 110, 110, 205),
}
ERROR_NAMES = {
    PixelError.MISSED: 'missed',
    PixelError.FALSE: 'false',
    PixelError.MISSED_AND_FALSE: 'missed, and something false there',
    PixelError.INEXACT: 'outline not exact',
    PixelError.IGNORED: 'void or crowd: not counted',
}


# What the metrics of this package and of mmdet measure for each class, and panoptic
# quality of groups of classes.
CLASS_MEASURE = r'(Boundary_)?[PSR]Q|AP(50)?|IoU|precision'
GROUP_MEASURE = r'(Boundary_)?[PSR]Q(_th|_st)?'


@dataclass
class ImageReport:
    """What the report needs to know about one image.

    Attributes:
        name (str): Name of the image.
        size (tuple[int, int]): Width and height in pixels.
        stat (PanopticQualityStat): Counts of each class.
        size_stats (list[PanopticQualityStat]): The same by size of the segments.
        missed (np.ndarray): What was predicted instead, see
            :func:`confused_segments`.
        false (np.ndarray): What was there in truth.
        pictures (dict[str, bytes]): WebP file of every view.
    """

    name: str
    size: tuple[int, int]
    stat: PanopticQualityStat
    size_stats: list[PanopticQualityStat]
    missed: np.ndarray
    false: np.ndarray
    pictures: dict[str, bytes]


def analyse_image(
    name: str,
    image: np.ndarray,
    gt_ids: np.ndarray,
    gt_segments: Sequence[Mapping],
    pred_ids: np.ndarray,
    pred_segments: Sequence[Mapping],
    classes: PanopticClasses,
    width: int,
) -> ImageReport:
    """Find the errors of one image and draw them.

    Args:
        name (str): Name of the image.
        image (np.ndarray): Shape (H, W, 3), uint8, RGB.
        gt_ids (np.ndarray): True segment ids, shape (H, W), integers, 0 = void.
        gt_segments (Sequence[Mapping]): ``id``, ``category`` (0..C-1) and
            ``iscrowd`` of every true segment.
        pred_ids (np.ndarray): Predicted segment ids, shape (H, W), 0 = void.
        pred_segments (Sequence[Mapping]): ``id`` and ``category`` of every
            predicted segment.
        classes (PanopticClasses): The classes.
        width (int): Width of the pictures in pixels at most.

    Returns:
        ImageReport: Counts at full size, pictures at small size.

    Raises:
        ValueError: If image and maps differ in size, or ids are not listed.
    """
    if image.shape[:2] != gt_ids.shape:
        raise ValueError(
            f'the image is {image.shape[:2]} (height, width), its ground truth '
            f'{gt_ids.shape}'
        )
    gt_numbers = [s['id'] for s in gt_segments]
    pred_numbers = [s['id'] for s in pred_segments]
    areas = segment_overlaps(gt_ids, gt_numbers, pred_ids, pred_numbers)
    matches = match_segments(areas, gt_segments, pred_segments)
    lists = matches, gt_segments, pred_segments, len(classes)
    missed, false = confused_segments(areas, *lists)

    small = shrink(image, width)
    gt_index = index_segments(shrink(gt_ids, width), gt_numbers)
    pred_index = index_segments(shrink(pred_ids, width), pred_numbers)
    errors = pixel_errors(
        gt_index, pred_index, matches, [s['iscrowd'] for s in gt_segments]
    )
    colors = np.array([ERROR_COLORS[kind] for kind in PixelError], dtype=np.uint8)
    palette = classes.palette
    truth = _encode(gt_index, gt_segments, classes)
    prediction = _encode(pred_index, pred_segments, classes)
    height, full_width = gt_ids.shape
    return ImageReport(
        name=name,
        size=(full_width, height),
        stat=count_matches(*lists),
        size_stats=quality_by_size(areas, *lists, SIZE_BOUNDS),
        missed=missed,
        false=false,
        pictures={
            'image': to_webp(small),
            'truth': to_webp(panoptic_overlay(truth, palette)),
            'prediction': to_webp(panoptic_overlay(prediction, palette)),
            'errors': to_webp(colors[errors]),
        },
    )


def _encode(
    index: np.ndarray, segments: Sequence[Mapping], classes: PanopticClasses
) -> np.ndarray:
    """Encode segments as mmdet does, to draw them; crowds of things as stuff."""
    isthing = [c.isthing for c in classes]
    return encode_panoptic(
        index,
        [s['category'] for s in segments],
        [isthing[s['category']] and not s.get('iscrowd') for s in segments],
        len(classes),
    )


def write_report(
    path: str | Path,
    images: Sequence[ImageReport],
    classes: PanopticClasses,
    title: str,
    subtitle: str = '',
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Write the report as one HTML file.

    Args:
        path (str | Path): The file.
        images (Sequence[ImageReport]): At least one image.
        classes (PanopticClasses): The classes.
        title (str): Heading of the page.
        subtitle (str): A line below it. Defaults to ''.
        metrics (Mapping[str, float] | None): Further measures of the run by name, of
            which ``<prefix>/<class>_<measure>`` become columns of the table of
            classes. Defaults to None.
    """
    stat = _total(image.stat for image in images)
    per_class = class_quality(stat)
    extra_columns, extra, other = _split_metrics(metrics or {}, classes.names)
    data = {
        'title': title,
        'subtitle': subtitle,
        'classes': [
            {
                'name': one.name,
                'color': one.color,
                **_numbers(stat, per_class, label),
                **extra[label],
            }
            for label, one in enumerate(classes)
        ],
        'groups': [
            {'title': GROUP_TITLES[row['name']], **row}
            for row in _group_rows(stat, classes)
        ],
        'extra_columns': extra_columns,
        'other_metrics': other,
        'sizes': [
            {'label': label, 'groups': _group_rows(bucket, classes)}
            for label, bucket in zip(
                _size_labels(),
                map(_total, zip(*(i.size_stats for i in images), strict=True)),
                strict=True,
            )
        ],
        'confusion': {
            'missed': np.sum([image.missed for image in images], axis=0).tolist(),
            'false': np.sum([image.false for image in images], axis=0).tolist(),
        },
        'records': [_record(image) for image in images],
        'gallery': {
            'views': [{'key': key, 'label': label} for key, label in VIEWS.items()],
            'order': 'pq:1',
            'values': [
                {'key': 'pq', 'label': 'PQ', 'share': True},
                {'key': 'missed', 'label': 'Missed'},
                {'key': 'false', 'label': 'False'},
            ],
            'filters': [
                {'key': 'missed', 'label': 'Images with missed segments'},
                {'key': 'false', 'label': 'Images with false segments'},
            ],
            'legend': [
                {'color': ERROR_COLORS[kind][:3], 'label': name}
                for kind, name in ERROR_NAMES.items()
            ],
        },
    }
    write_page(path, 'panoptic_report.js', data, (image.pictures for image in images))


def _total(stats: Iterable[PanopticQualityStat]) -> PanopticQualityStat:
    """Add up the counts of images."""
    first, *others = stats
    return sum(others, start=first)


def _numbers(
    stat: PanopticQualityStat,
    quality: Mapping[str, float | np.ndarray],
    label: int | np.ndarray,
) -> dict:
    """Quality and counts of a class, or of a group with its quality, for JSON."""
    values = {
        key: float(value if isinstance(value, float) else value[label])
        for key, value in quality.items()
        if key != 'n'
    }
    counts = {key: int(getattr(stat, key)[label].sum()) for key in ('tp', 'fp', 'fn')}
    return {k: None if np.isnan(v) else v for k, v in values.items()} | counts


def _group_rows(stat: PanopticQualityStat, classes: PanopticClasses) -> list[dict]:
    """Quality of the groups for JSON."""
    groups = class_groups(classes.names, classes.things, classes.stuff)
    return [
        {
            'name': group,
            'n': quality['n'],
            **_numbers(stat, quality, np.asarray(groups[group], dtype=int)),
        }
        for group, quality in summarize(stat, groups).items()
    ]


def _size_labels() -> list[str]:
    """Names of the buckets of size."""
    between = zip(SIZE_BOUNDS, SIZE_BOUNDS[1:], strict=False)
    return [
        f'below {SIZE_BOUNDS[0]}',
        *(f'{low} to {high}' for low, high in between),
        f'{SIZE_BOUNDS[-1]} and more',
    ]


def _record(image: ImageReport) -> dict:
    """What the gallery shows of an image."""
    stat = image.stat
    quality = class_quality(stat)
    labels = np.flatnonzero(~np.isnan(quality['pq']))

    def values(pq: np.ndarray, which: np.ndarray | int) -> dict:
        return {
            'pq': round(float(pq.mean()), 6) if pq.size else None,
            'missed': int(stat.fn[which].sum()),
            'false': int(stat.fp[which].sum()),
        }

    return {
        'name': image.name,
        'size': image.size,
        'notes': [],
        'values': values(quality['pq'][labels], labels),
        'classes': {
            int(label): values(quality['pq'][label], label) for label in labels
        },
        'errors': {
            f'{kind}:{own}:{instead}': int(table[own, instead])
            for kind, table in (('missed', image.missed), ('false', image.false))
            for own, instead in np.argwhere(table)
        },
    }


def class_measure(
    key: str, class_names: Collection[str]
) -> tuple[str, str | None, str]:
    """Take the name of a measure apart: ``<prefix>/<class>_<measure>``.

    Names of classes may begin with one another, and have ``/`` and ``_``.

    Example::

        >>> names = ['road', 'road_marking', 'PQ']
        >>> class_measure('semantic/road_marking_IoU', names)
        ('semantic', 'road_marking', 'IoU')
        >>> class_measure('instance/road_AP50', names)
        ('instance', 'road', 'AP50')
        >>> class_measure('panoptic/PQ_th', names)
        ('panoptic', None, 'PQ_th')

    Args:
        key (str): Name of the measure.
        class_names (Collection[str]): Names of the classes.

    Returns:
        tuple[str, str | None, str]: Prefix, class and measure. A measure of no class
        has None; one without prefix has ''.
    """
    parts = key.split('/')
    for cut in range(1, len(parts)):
        prefix, rest = '/'.join(parts[:cut]), '/'.join(parts[cut:])
        if re.fullmatch(GROUP_MEASURE, rest):
            return prefix, None, rest
        # Boundary PQ has its name before that of the class.
        found = [
            (name, kind + rest.removeprefix(kind)[len(name) + 1 :])
            for kind in ('', 'Boundary_')
            if rest.startswith(kind)
            for name in class_names
            if rest.removeprefix(kind).startswith(f'{name}_')
        ]
        # The longest name that leaves a measure we know; else one word, of others'.
        for wanted in (CLASS_MEASURE, '[^_/]+'):
            fitting = [one for one in found if re.fullmatch(wanted, one[1])]
            if fitting:
                return prefix, *max(fitting, key=lambda one: len(one[0]))
    prefix, _, rest = key.rpartition('/')
    return prefix, None, rest


def _split_metrics(
    metrics: Mapping[str, float], class_names: Sequence[str]
) -> tuple[list[str], list[dict[str, float]], list[tuple[str, float]]]:
    """Sort the measures of a run into columns of the table of classes and the rest.

    Args:
        metrics (Mapping[str, float]): Measures by name.
        class_names (Sequence[str]): Names of the classes.

    Returns:
        tuple[list[str], list[dict[str, float]], list[tuple[str, float]]]: Names of the
        columns, the values of each class by column, and the rest as name and value.
        PQ, SQ and RQ, which the report computes, are left out.
    """
    columns: dict[str, None] = {}
    values: dict[str, dict[str, float]] = {name: {} for name in class_names}
    other = []
    for key, value in metrics.items():
        prefix, name, measure = class_measure(key, class_names)
        # Times, which have no prefix, are no measures.
        if not prefix or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            continue
        if prefix == 'panoptic' and re.fullmatch('[PSR]Q(_th|_st)?', measure):
            continue
        if name is None:
            other.append((key, float(value)))
            continue
        column = f'{prefix} {measure}'.replace('_', ' ')
        columns[column] = None
        values[name][column] = float(value)
    return list(columns), list(values.values()), other
