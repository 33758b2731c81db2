# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Polygons and run-length masks of labels, checked, as runs of pixels.

Runs are counted column after column, as COCO does. They need no picture of the whole
image, so that an image may have any number of masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from mmdet_efficientps.structures.panoptic.annotations import integer
from mmdet_efficientps.structures.run_length_masks import runs_to_rle


def check_coordinates(
    coordinates: Sequence[Any], width: int, height: int
) -> list[float]:
    """Check the corners of a polygon.

    Polygons may stick out of the image and are clipped. A corner that is farther
    outside than the image is wide or high is a mistake, and would be drawn for ever.

    Args:
        coordinates (Sequence[Any]): x and y of each corner in turn, in pixels.
        width (int): Width of the image in pixels.
        height (int): Height of the image in pixels.

    Returns:
        list[float]: The coordinates.

    Raises:
        ValueError: If there are less than three corners, or one has a coordinate
            that is no number or far outside.
    """
    if len(coordinates) < 6 or len(coordinates) % 2:
        raise ValueError('polygon of less than 3 points, or with half a point')
    for k, value in enumerate(coordinates):
        side = (width, height)[k % 2]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError('polygon with coordinates that are no numbers')
        # Not-a-number is in no interval.
        if not -side <= value <= 2 * side:
            raise ValueError('polygon with coordinates far outside the image')
    return [float(value) for value in coordinates]


def segmentation_runs(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Give the pixels of a COCO segmentation.

    Example::

        >>> square = [[1, 0, 3, 0, 3, 2, 1, 2]]  # columns 1 and 2 of rows 0 and 1
        >>> segmentation_runs(square, height=4, width=5).tolist()
        [[4, 6], [8, 10]]

    Args:
        segmentation (Any): Polygons, or a run-length mask with ``counts`` as a list
            or compressed to a text.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.

    Returns:
        np.ndarray: First pixel of each run and the one after its last, shape (N, 2),
        int64, ascending; pixel ``row + height * column``.

    Raises:
        ValueError: If it is none of these or not of this image: what is wrong, and
            after a colon the numbers.
    """
    if not segmentation:
        raise ValueError('annotation without segmentation')
    if isinstance(segmentation, list):
        if not all(isinstance(polygon, list) for polygon in segmentation):
            raise ValueError('segmentation must be a list of polygons [x, y, x, ...]')
        # Parts of one or two points, which tools make of slivers, cover no pixel.
        areas = [p for p in segmentation if len(p) not in (0, 2, 4)] or segmentation
        polygons = [check_coordinates(p, width, height) for p in areas]
        mask = mask_api.merge(mask_api.frPyObjects(polygons, height, width))
        counts = _decompress(mask['counts'])
    elif isinstance(segmentation, dict):
        counts = _checked_counts(segmentation, height, width)
    else:
        raise ValueError('segmentation is neither polygons nor a run-length mask')
    edges = np.cumsum(counts, dtype=np.int64)
    # Off and on in turn, beginning with off.
    edges = edges[: len(edges) // 2 * 2].reshape(-1, 2)
    return edges[edges[:, 0] < edges[:, 1]]


def join_segmentations(segmentations: Sequence[Any], height: int, width: int) -> Any:
    """Join the parts of an object.

    Args:
        segmentations (Sequence[Any]): COCO segmentations, as :func:`segmentation_runs`
            takes them.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.

    Returns:
        Any: One COCO segmentation.

    Raises:
        ValueError: As :func:`segmentation_runs`.
    """
    if all(isinstance(part, list) for part in segmentations):
        return [polygon for part in segmentations for polygon in part]
    runs = np.concatenate([segmentation_runs(s, height, width) for s in segmentations])
    runs = runs[np.argsort(runs[:, 0], kind='stable')]
    # A run goes on in the next one if that begins before the end of all so far.
    ends = np.maximum.accumulate(runs[:, 1])
    gaps = np.flatnonzero(runs[1:, 0] > ends[:-1])
    starts = runs[np.append(0, gaps + 1)[: len(runs)], 0]
    stops = ends[np.append(gaps, len(runs) - 1)[: len(runs)]]
    return runs_to_rle(starts, stops - starts, (height, width))


def _checked_counts(mask: dict[str, Any], height: int, width: int) -> list[int]:
    """Give the lengths of the runs of a run-length mask, off and on in turn."""
    size = mask.get('size')
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError('run-length mask without size [height, width]')
    if [integer(side) for side in size] != [height, width]:
        raise ValueError(
            'run-length mask and image differ in size (height, width): '
            f'{tuple(size)} and {(height, width)}'
        )
    given = mask.get('counts')
    counts: list[int] = []
    if isinstance(given, str | bytes):
        counts = _decompress(given if isinstance(given, bytes) else given.encode())
    elif isinstance(given, list):
        counts = [-1 if (count := integer(c)) is None else count for c in given]
    else:
        raise ValueError('run-length mask without counts')
    if min(counts, default=0) < 0:
        raise ValueError('run-length mask with counts that are no numbers of pixels')
    if sum(counts) != height * width:
        raise ValueError(
            'run-length mask whose counts are not the pixels of the image: '
            f'{sum(counts)} and {height * width}'
        )
    return counts


def _decompress(text: bytes) -> list[int]:
    """Read the counts of a compressed run-length mask.

    pycocotools reads them too, but neither gives them nor sees that they are cut
    short. A count is written in groups of 5 bits, the low ones first; bit 6 says that
    another group follows, the highest bit of the last group is the sign. From the
    fourth on, the difference to the count before the last is written.

    Raises:
        ValueError: If the text is no such mask, or is cut short.
    """
    counts: list[int] = []
    value = shift = 0
    for byte in text:
        group = byte - 48
        if not 0 <= group < 64:
            raise ValueError('run-length mask with characters that mean nothing')
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError('run-length mask that is cut short')
    return counts


def paint_runs(masks: Iterable[np.ndarray], height: int, width: int) -> np.ndarray:
    """Paint masks, each over those before.

    Args:
        masks (Iterable[np.ndarray]): Runs of :func:`segmentation_runs`.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.

    Returns:
        np.ndarray: Number of the mask of each pixel, counted from 1, shape (H, W),
        unsigned integers; 0 where there is none.
    """
    masks = list(masks)
    pixels = np.zeros(width * height, dtype=np.min_scalar_type(len(masks)))
    for number, runs in enumerate(masks, start=1):
        for start, stop in runs.tolist():
            pixels[start:stop] = number
    return np.ascontiguousarray(pixels.reshape(width, height).T)
