# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What data cannot be trained on, and what a user should know of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .equal_pictures import equal_files, near_pairs
from .fingerprint import Fingerprint

SHOWN = 5
# From this share of the validation images on, a split is no split.
SAME_SHARE = 0.5
# Of fewer segments nothing can be learnt that holds elsewhere.
FEW_SEGMENTS = 10


def check_trainable(data: Fingerprint) -> None:
    """Refuse data from which a panoptic network cannot learn.

    Args:
        data (Fingerprint): What is trained on.

    Raises:
        ValueError: If there is one class only, or no instance of a thing.
    """
    name = data.files.json_file
    shown = [c.name for c, n in zip(data.classes, data.num_segments, strict=True) if n]
    if len(shown) < 2:
        raise ValueError(
            f'{name} shows {_count_classes(data.num_segments > 0)} '
            f'({", ".join(shown) or "none"}), and a network needs two to tell apart: '
            'label the surroundings of the objects as a stuff class'
        )
    if not len(data.instances):
        crowds = int(data.segments['is_crowd'].sum())
        found = (
            f'only crowds ({crowds})'
            if crowds
            else 'no segment of a class with isthing 1'
        )
        raise ValueError(
            f'{name} has no instance of a thing to learn from: {found}. Check isthing '
            'of the categories and iscrowd of the segments; for stuff alone take a '
            'network for semantic segmentation'
        )


def check_same_classes(train: Fingerprint, val: Fingerprint) -> None:
    """Refuse jsons of different classes.

    Args:
        train (Fingerprint): What is trained on.
        val (Fingerprint): What is validated on.

    Raises:
        ValueError: If they differ; names the differences.
    """
    for kind in ('things', 'stuff'):
        first, second = (set(getattr(d.classes, kind)) for d in (train, val))
        if first != second:
            raise ValueError(
                f'the {kind} in the categories of {train.files.json_file} and '
                f'{val.files.json_file} differ: only the first has '
                f'{sorted(first - second) or "none"}, only the second '
                f'{sorted(second - first) or "none"}. Convert both with the same '
                'lists of classes'
            )


def check_split(train: Fingerprint, val: Fingerprint) -> None:
    """Refuse a split with the same images on both sides.

    Args:
        train (Fingerprint): What is trained on.
        val (Fingerprint): What is validated on.

    Raises:
        ValueError: If an image file is listed on both sides, or half of the
            validation pictures are in the training, too.
    """
    hint = 'Remove them from one side, or split by --val-fraction instead of --val'
    files = {path.resolve() for path in train.paths}
    both = [str(path) for path in val.paths if path.resolve() in files]
    if both:
        raise ValueError(
            f'{len(both)} of the {len(val)} images of {val.files.json_file} are in '
            f'{train.files.json_file} too: {_some(both)}. {hint}'
        )
    same = {first for first, _ in equal_files(val.digests, train.digests)}
    same |= {first for first, _ in near_pairs(val.thumbnails, train.thumbnails)}
    if len(same) >= SAME_SHARE * len(val):
        names = [str(val.paths[place]) for place in sorted(same)]
        raise ValueError(
            f'{len(same)} of the {len(val)} pictures of {val.files.json_file} are '
            f'equal to pictures of {train.files.json_file}: {_some(names)}. {hint}'
        )


def list_warnings(train: Fingerprint, val: Fingerprint) -> list[str]:
    """List what a user should know of the data.

    Args:
        train (Fingerprint): What is trained on.
        val (Fingerprint): What is validated on.

    Returns:
        list[str]: Leaks between the two, and classes of which there is too little.
    """
    warnings = []
    files = equal_files(val.digests, train.digests)
    known = {first for first, _ in files}
    near = [
        pair
        for pair in near_pairs(val.thumbnails, train.thumbnails)
        if pair[0] not in known
    ]
    for what, pairs in (
        ('are the same files as', files),
        ('look the same (to a grey level at 16x16 pixels) as', near),
    ):
        places = dict(reversed(pairs))
        if places:
            names = [
                f'{val.images[v]["file_name"]} = {train.images[t]["file_name"]}'
                for v, t in sorted(places.items())
            ]
            warnings.append(
                f'leak: {len(places)} of {len(val)} validation images {what} training '
                f'images: {_some(names)}. The measures will be too good; remove them, '
                'or split by --val-fraction'
            )
    class_names = np.array(train.classes.names)
    in_train, in_val = train.num_segments > 0, _of_classes(val, train) > 0
    few = (train.num_segments > 0) & (train.num_segments < FEW_SEGMENTS)
    for text, chosen in (
        ('without a segment in training, never learnt', ~in_train),
        (
            'without a segment in validation, not measured',
            ~in_val & in_train,
        ),
        (f'with fewer than {FEW_SEGMENTS} segments in training', few),
    ):
        if chosen.any():
            some = _some(class_names[chosen].tolist(), 12)
            warnings.append(f'{_count_classes(chosen)} {text}: {some}')
    return warnings


def _count_classes(chosen: np.ndarray) -> str:
    """Say how many classes are chosen."""
    count = int(chosen.sum())
    return f'{count} class{"" if count == 1 else "es"}'


def _of_classes(val: Fingerprint, train: Fingerprint) -> np.ndarray:
    """Segments of ``val`` by the classes of ``train``."""
    number = dict(zip(val.classes.names, val.num_segments, strict=True))
    return np.array([number[name] for name in train.classes.names])


def _some(names: Sequence[str], shown: int = SHOWN) -> str:
    """Name the first few."""
    more = len(names) - shown
    return ', '.join(map(str, names[:shown])) + (
        f' and {more} more' if more > 0 else ''
    )
