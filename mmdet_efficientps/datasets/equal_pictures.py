# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Pictures that are there twice, and pictures that look alike.

Equal pictures have the same pixels, whatever file they are in. Those that look alike
may be one picture saved at another quality, or two moments before a fixed camera.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

# Mean difference of two thumbnails, in grey levels of 0..255, up to which they look
# alike.
TOLERANCE = 1.0


def near_pairs(
    first: np.ndarray, second: np.ndarray, tolerance: float = TOLERANCE
) -> list[tuple[int, int]]:
    """Find for every thumbnail the one that differs least, if it hardly differs.

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
        list[tuple[int, int]]: Places in ``first`` and ``second``, of each place in
        ``first`` one at most.
    """
    pairs = []
    for place, others in _candidates(first, second, tolerance):
        differences = _differences(first[place], second[others])
        if len(others) and differences.min() <= tolerance:
            pairs.append((place, int(others[differences.argmin()])))
    return pairs


def _candidates(
    first: np.ndarray, second: np.ndarray, tolerance: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Give for every thumbnail the places of those of about its brightness.

    Thumbnails differ in their means by no more than in their pixels, so that only few
    have to be compared.
    """
    means = second.mean(axis=1)
    order = np.argsort(means, kind='stable')
    sorted_means = means[order]
    for place, mean in enumerate(first.mean(axis=1)):
        begin, end = np.searchsorted(
            sorted_means, (mean - tolerance - 1e-9, mean + tolerance + 1e-9)
        )
        yield place, order[begin:end]


def _differences(row: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean difference of a thumbnail to others, in grey levels."""
    return np.abs(others.astype(np.int16) - row.astype(np.int16)).mean(axis=1)


def equal_pairs(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Find equal pictures by their hashes.

    Args:
        first (Sequence[str]): Hashes.
        second (Sequence[str]): Hashes.

    Returns:
        list[tuple[int, int]]: Places in ``first`` and ``second``; of several equal
        pictures in ``second`` the last.
    """
    places = {digest: place for place, digest in enumerate(second)}
    return [
        (place, places[digest])
        for place, digest in enumerate(first)
        if digest in places
    ]


def group_equal(digests: Sequence[str]) -> np.ndarray:
    """Give every image the number of its picture.

    Example::

        >>> group_equal(['a', 'b', 'a']).tolist()
        [0, 1, 0]

    Args:
        digests (Sequence[str]): Hash of every picture.

    Returns:
        np.ndarray: The place of the first image with the same picture, shape (N, ),
        int64.
    """
    first: dict[str, int] = {}
    return np.array([first.setdefault(d, place) for place, d in enumerate(digests)])


def group_alike(digests: Sequence[str], thumbnails: np.ndarray) -> np.ndarray:
    """Give every image the number of the group of pictures that look like it.

    Pictures between which others lie that look like both are in one group.

    Args:
        digests (Sequence[str]): Hash of every picture.
        thumbnails (np.ndarray): Thumbnail of every image, shape (N, P), uint8.

    Returns:
        np.ndarray: The place of the first image of its group, shape (N, ), int64.
    """
    groups = group_equal(digests)
    for place, others in _candidates(thumbnails, thumbnails, TOLERANCE):
        # Before a fixed camera all look alike: what is in the group is not compared.
        others = others[groups[others] != groups[place]]
        differences = _differences(thumbnails[place], thumbnails[others])
        joined = groups[np.append(others[differences <= TOLERANCE], place)]
        groups[np.isin(groups, joined)] = joined.min()
    return groups
