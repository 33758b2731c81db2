# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Index maps: the form in which panoptic ground truth goes through a pipeline.

An index map has one small number per pixel and a table with one row per number. The
pipeline carries the map as ``gt_seg_map`` and the table as ``gt_segments``, so every
transform of mmcv and mmdet that handles ``gt_seg_map`` (nearest neighbour, borders
filled with 255) handles panoptic ground truth too. Boxes, masks and the semantic map
are made of it at the end, by :func:`panoptic_targets`.
"""

from collections.abc import Sequence

import numpy as np

from .ids import index_segments

# Void, in index maps and in semantic maps: mmcv and mmdet fill borders with it.
IGNORE_INDEX = 255
# Labels of classes are 0..254.
MAX_CLASSES = IGNORE_INDEX

SEGMENT_DTYPE = np.dtype(
    [('label', np.uint8), ('is_instance', np.bool_), ('is_crowd', np.bool_)]
)
UNUSED = np.array((IGNORE_INDEX, False, False), dtype=SEGMENT_DTYPE)


def segment_table(segments: np.ndarray) -> np.ndarray:
    """Make the table of an index map.

    Args:
        segments (np.ndarray): Rows of the segments, shape (N,), ``SEGMENT_DTYPE``.

    Returns:
        np.ndarray: Shape (M,), M >= 256, ``SEGMENT_DTYPE``: the segments in their
        order, without one in row 255. Rows that are not used have the label 255.
    """
    table = np.full(max(IGNORE_INDEX, len(segments)) + 1, UNUSED)
    table[segment_numbers(len(segments))] = segments
    return table


def segment_numbers(count: int) -> np.ndarray:
    """Give the numbers of the first segments in an index map.

    Example::

        >>> segment_numbers(257)[253:].tolist()
        [253, 254, 256, 257]

    Args:
        count (int): Number of segments.

    Returns:
        np.ndarray: 0, 1, ... without 255, shape (count,), int64.
    """
    numbers = np.arange(count)
    return numbers + (numbers >= IGNORE_INDEX)


def make_index_map(ids: np.ndarray, segment_ids: Sequence[int]) -> np.ndarray:
    """Turn a map of segment ids into an index map.

    Example::

        >>> make_index_map(np.array([[0, 26001, 7]]), [7, 26001])
        array([[255,   1,   0]], dtype=uint8)

    Args:
        ids (np.ndarray): Segment ids, shape (H, W), 0 = void.
        segment_ids (Sequence[int]): Ids in the order of the table.

    Returns:
        np.ndarray: Index map, shape (H, W), 255 = void; uint8, or uint16 if there
        are more than 255 segments.

    Raises:
        ValueError: If the map has an id that is not listed, or an id is listed twice.
    """
    numbers = np.append(IGNORE_INDEX, segment_numbers(len(segment_ids)))
    dtype = np.min_scalar_type(numbers.max())
    return index_segments(ids, segment_ids, numbers.astype(dtype))


def label_map(index_map: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Give the semantic map of an index map.

    Example::

        >>> rows = np.array([(8, False, False), (2, True, False)], SEGMENT_DTYPE)
        >>> label_map(np.array([[255, 1, 0]], np.uint8), segment_table(rows))
        array([[255,   2,   8]], dtype=uint8)

    Args:
        index_map (np.ndarray): Index map, shape (H, W).
        segments (np.ndarray): Its table.

    Returns:
        np.ndarray: Class labels, shape (H, W), uint8, 255 = void.
    """
    return segments['label'].take(index_map, mode='clip')


def measure_segments(
    index_map: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Measure areas and tight boxes of all segments at once.

    Example::

        >>> areas, boxes = measure_segments(np.array([[0, 1, 1], [0, 0, 1]]), 2)
        >>> areas.tolist(), boxes[1].tolist()
        ([3, 3], [1, 0, 3, 2])

    Works on runs, pieces of a row with one number, of which a map has far fewer than
    pixels.

    Args:
        index_map (np.ndarray): Index map, shape (H, W).
        count (int): Length of its table.

    Returns:
        tuple: Areas in pixels, shape (count,), and boxes, shape (count, 4), both
        int64; boxes are xyxy in pixels, x2 and y2 one past the last column and row,
        and x2 = y2 = 0 where the area is 0.
    """
    height, width = index_map.shape
    is_start = np.ones(index_map.shape, dtype=np.bool_)
    np.not_equal(index_map[:, 1:], index_map[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=index_map.size)
    numbers = index_map.ravel()[starts]
    rows, columns = np.divmod(starts, width)

    areas = np.zeros(count, dtype=np.int64)
    np.add.at(areas, numbers, lengths)
    boxes = np.tile((width, height, 0, 0), (count, 1))
    for side, pick, ends in (
        (0, np.minimum, columns),
        (1, np.minimum, rows),
        (2, np.maximum, columns + lengths),
        (3, np.maximum, rows + 1),
    ):
        pick.at(boxes[:, side], numbers, ends)
    return areas, boxes


def panoptic_targets(
    index_map: np.ndarray, segments: np.ndarray, min_area: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the instances of an index map.

    Args:
        index_map (np.ndarray): Index map, shape (H, W).
        segments (np.ndarray): Its table.
        min_area (int): Instances of fewer pixels are left out. Crowd regions of any
            size are kept. Defaults to 1.

    Returns:
        tuple: Numbers of the instances and crowd regions in the map, shape (N,);
        their tight boxes as of :func:`measure_segments`, shape (N, 4); numbers of the
        instances left out, shape (K,).
    """
    areas, boxes = measure_segments(index_map, len(segments))
    visible = segments['is_instance'] & (areas > 0)
    kept = visible & ((areas >= min_area) | segments['is_crowd'])
    numbers = np.flatnonzero(kept)
    return numbers, boxes[numbers], np.flatnonzero(visible & ~kept)
