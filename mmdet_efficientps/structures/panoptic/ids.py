# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Segment ids of panoptic PNGs: colors, numbers and indices.

A panoptic PNG holds one segment id per pixel, spread over its three color
channels: ``id = R + 256 * G + 65536 * B``. Id 0 is void: no label there.
"""

from collections.abc import Sequence

import numpy as np

VOID_ID = 0
# The largest number in the three bytes of a pixel.
MAX_ID = 2**24 - 1


def rgb2id(color: np.ndarray) -> np.ndarray:
    """Turn the colors of a panoptic PNG into segment ids.

    Example::

        >>> rgb2id(np.array([[1, 2, 0], [0, 0, 1]], np.uint8)).tolist()
        [513, 65536]

    Args:
        color (np.ndarray): RGB values, shape (..., 3), uint8.

    Returns:
        np.ndarray: Segment ids 0..MAX_ID, shape (...), int32.
    """
    ids = color[..., 2].astype(np.int32)
    return (ids << 8 | color[..., 1]) << 8 | color[..., 0]


def id2rgb(ids: np.ndarray) -> np.ndarray:
    """Turn segment ids into the colors of a panoptic PNG.

    Example::

        >>> id2rgb(np.array([513, 65536])).tolist()
        [[1, 2, 0], [0, 0, 1]]

    Args:
        ids (np.ndarray): Segment ids 0..MAX_ID, shape (...), any integer type.

    Returns:
        np.ndarray: RGB values, shape (..., 3), uint8.

    Raises:
        ValueError: If an id does not fit into three bytes.
    """
    ids = np.asarray(ids)
    if ids.size and not 0 <= ids.min() <= ids.max() <= MAX_ID:
        raise ValueError(
            f'segment ids must be in 0..{MAX_ID}, got {ids.min()}..{ids.max()}'
        )
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


def index_segments(
    ids: np.ndarray, segment_ids: Sequence[int], numbers: np.ndarray | None = None
) -> np.ndarray:
    """Number the segments of an id map in the order of a list of ids.

    Example::

        >>> index_segments(np.array([[7, 7, 0], [26001, 7, 0]]), [26001, 7])
        array([[2, 2, 0],
               [1, 2, 0]], dtype=int32)

    Small consecutive numbers can index arrays of classes, areas or flags, so one
    pass over the pixels serves every later look-up.

    Args:
        ids (np.ndarray): Segment ids, shape (H, W), non-negative integers.
        segment_ids (Sequence[int]): The ids that may occur, without 0 (void).
            Those that do not occur keep their number.
        numbers (np.ndarray | None): Number of void followed by that of every segment,
            shape (N + 1,), all different, integers. Defaults to None, which is
            0, 1, ..., N in int32.

    Returns:
        np.ndarray: Shape (H, W), type of ``numbers``; ``numbers[0]`` where void,
        ``numbers[k + 1]`` where the pixel has the id ``segment_ids[k]``.

    Raises:
        ValueError: If an id other than 0 is not in ``segment_ids``, or if
            ``segment_ids`` names an id twice or names 0.
    """
    listed = np.asarray(segment_ids, dtype=np.int64)
    if (listed <= VOID_ID).any() or len(np.unique(listed)) < len(listed):
        raise ValueError(
            f'segment ids must be positive and must not repeat, got {listed.tolist()}'
        )
    if numbers is None:
        numbers = np.arange(len(listed) + 1, dtype=np.int32)
    void = numbers[0]
    size = max(ids.max(), listed.max(initial=0)) + 1
    # Untouched pages of a zeroed table cost nothing, so large ids (up to 2**24) are
    # as fast as small ones.
    table = np.full(size, void) if void else np.zeros(size, dtype=numbers.dtype)
    table[listed] = numbers[1:]
    # All ids are within the table, so nothing is clipped; mode 'clip' saves a copy.
    index = table.take(ids, mode='clip')
    if np.count_nonzero(index != void) < np.count_nonzero(ids):
        unlisted = np.unique(ids[(index == void) & (ids != VOID_ID)])
        raise ValueError(f'segment ids without an entry: {unlisted.tolist()}')
    return index


def constant_runs(*maps: np.ndarray) -> tuple[np.ndarray, ...]:
    """Cut maps of one size into runs of pixels on which all of them are constant.

    Pixels are taken row after row; a run may go on in the next row.

    Example::

        >>> values, lengths = constant_runs(np.array([[5, 5], [5, 8]]))
        >>> values.tolist(), lengths.tolist()
        ([5, 8], [3, 1])

    Args:
        *maps (np.ndarray): Maps of the same shape, of any type.

    Returns:
        tuple[np.ndarray, ...]: For each map its values on the R runs, shape (R, ),
        and last the lengths of the runs in pixels, shape (R, ), int64.

    Raises:
        ValueError: If the maps differ in shape.
    """
    shapes = [m.shape for m in maps]
    if len(set(shapes)) > 1:
        raise ValueError(f'maps differ in size: {shapes}')
    flat = [m.ravel() for m in maps]
    starts_run = np.zeros(flat[0].size, dtype=bool)
    starts_run[:1] = True
    for values in flat:
        starts_run[1:] |= values[1:] != values[:-1]
    starts = np.flatnonzero(starts_run)
    lengths = np.diff(starts, append=flat[0].size)
    return *(values[starts] for values in flat), lengths
