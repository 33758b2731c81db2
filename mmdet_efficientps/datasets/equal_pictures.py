# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Pictures that are there twice: as equal files, or saved again at other quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Mean difference of two thumbnails, in grey levels of 0..255, up to which they are of
# one picture.
TOLERANCE = 1.0


def near_pairs(
    first: np.ndarray, second: np.ndarray, tolerance: float = TOLERANCE
) -> list[tuple[int, int]]:
    """Find the thumbnails that hardly differ.

    Example::

        >>> first = np.array([[0, 0], [90, 90]], np.uint8)
        >>> near_pairs(first, np.array([[91, 90], [2, 3]], np.uint8), tolerance=1)
        [(1, 0)]

    Args:
        first (np.ndarray): Thumbnails, shape (N, P), uint8.
        second (np.ndarray): Thumbnails, shape (M, P), uint8.
        tolerance (float): Largest mean of the absolute differences. Defaults to
            ``TOLERANCE``.

    Returns:
        list[tuple[int, int]]: Places in ``first`` and ``second``.
    """
    # Thumbnails differ in their means by no more than in their pixels, so that only
    # few have to be compared.
    means = second.mean(axis=1)
    order = np.argsort(means, kind='stable')
    sorted_means, sorted_second = means[order], second[order].astype(np.int16)
    pairs = []
    for place, (row, mean) in enumerate(zip(first, first.mean(axis=1), strict=True)):
        begin, end = np.searchsorted(
            sorted_means, (mean - tolerance, mean + tolerance + 1e-9)
        )
        differences = np.abs(sorted_second[begin:end] - row.astype(np.int16))
        near = np.flatnonzero(differences.mean(axis=1) <= tolerance)
        pairs += [(place, int(other)) for other in order[begin + near]]
    return pairs


def equal_files(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Find equal files by their hashes.

    Args:
        first (Sequence[str]): Hashes.
        second (Sequence[str]): Hashes.

    Returns:
        list[tuple[int, int]]: Places in ``first`` and ``second``; of several equal
        files in ``second`` the last.
    """
    places = {digest: place for place, digest in enumerate(second)}
    return [
        (place, places[digest])
        for place, digest in enumerate(first)
        if digest in places
    ]


def group_pictures(digests: Sequence[str], thumbnails: np.ndarray) -> np.ndarray:
    """Give every image the number of its picture.

    Pictures between which others lie that are near to both are one.

    Args:
        digests (Sequence[str]): Hash of every image file.
        thumbnails (np.ndarray): Thumbnail of every image, shape (N, P), uint8.

    Returns:
        np.ndarray: The place of the first image of its picture, shape (N, ), int64.
    """
    parents = np.arange(len(digests))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = int(parents[place])
        return place

    pairs = near_pairs(thumbnails, thumbnails) + equal_files(digests, digests)
    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    return np.array([root(place) for place in range(len(digests))])
