# Licensed under the Apache License, Version 2.0. See LICENSE.
"""From maps of values to segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mmdet_efficientps.structures.panoptic import VOID_ID, constant_runs
from mmdet_efficientps.structures.panoptic.index_map import measure_segments


def collect_segments(
    values: np.ndarray, describe: Callable[[int], tuple[int, int, int] | None]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Make segments of the regions of equal value.

    Works on runs of equal pixels, of which a map has far fewer than pixels.

    Example::

        >>> ids, segments = collect_segments(
        ...     np.array([[7, 7, 0], [7, 9, 0]]), lambda v: (v, 1, 0) if v else None
        ... )
        >>> ids.tolist()
        [[7, 7, 0], [7, 9, 0]]
        >>> segments[0]
        {'id': 7, 'category_id': 1, 'iscrowd': 0, 'area': 3, 'bbox': [0, 0, 2, 2]}

    Args:
        values (np.ndarray): Shape (H, W), non-negative integers.
        describe (Callable[[int], tuple[int, int, int] | None]): Gives segment id,
            category id and iscrowd of a value; None makes it void. It is called once
            for each value that occurs, in their order; values of one segment id make
            one segment.

    Returns:
        tuple[np.ndarray, list[dict[str, Any]]]: Segment ids, shape (H, W), int32,
        0 = void, and their segments_info in the order of the values.
    """
    run_values, lengths = constant_runs(values)
    occurring, value_of_run = np.unique(run_values, return_inverse=True)
    segments: dict[int, dict[str, Any]] = {}
    place_of: dict[int, int] = {}
    places = np.zeros(len(occurring), dtype=np.intp)
    for k, value in enumerate(occurring.tolist()):
        described = describe(value)
        if described:
            segment_id, category_id, iscrowd = described
            segments.setdefault(
                segment_id,
                {'id': segment_id, 'category_id': category_id, 'iscrowd': iscrowd},
            )
            places[k] = place_of.setdefault(segment_id, len(segments))
    place_of_run = places[value_of_run]
    dtype = np.min_scalar_type(len(segments))
    index = np.repeat(place_of_run.astype(dtype), lengths).reshape(values.shape)
    areas, boxes = measure_segments(index, len(segments) + 1)
    for segment, area, (x1, y1, x2, y2) in zip(
        segments.values(), areas[1:].tolist(), boxes[1:].tolist(), strict=True
    ):
        segment |= {'area': area, 'bbox': [x1, y1, x2 - x1, y2 - y1]}
    ids = np.array([VOID_ID, *segments], dtype=np.int32)
    return (
        np.repeat(ids[place_of_run], lengths).reshape(values.shape),
        list(segments.values()),
    )


def resize_values(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map of ids to the nearest values: ids in between mean other things.

    Pixels are squares: pixel k of the result, whose centre is at (k + 1/2) / new of
    the side, takes the pixel of the map that lies there, as the bilinear resizing of
    photographs does.

    Example::

        >>> resize_values(np.array([[1, 2, 3, 4, 5, 6]]), (2, 1)).tolist()
        [[2, 5]]

    Args:
        values (np.ndarray): Shape (H, W).
        size (tuple[int, int]): Width and height wanted.

    Returns:
        np.ndarray: Shape (height, width), of the same type.
    """
    columns, rows = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, values.shape[::-1], strict=True)
    )
    return values[rows].take(columns, axis=1)
