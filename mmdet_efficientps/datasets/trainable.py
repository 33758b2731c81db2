# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What data cannot be trained on, and what a user should know of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mmdet_efficientps.utils import counted

from .equal_pictures import equal_pairs, near_pairs
from .fingerprint import Fingerprint

SHOWN = 5
# From this share of the validation images on, a split is no split.
SAME_SHARE = 0.5
# Of fewer segments nothing can be learnt that holds elsewhere.
FEW_SEGMENTS = 10
# A picture without a pixel as bright, of 255 grey levels at 16x16 pixels, is as good as
# black; those of 12 bits in files of 16 bits are.
DARK = 16
# What to do about images on both sides.
REMOVE_HINT = 'Remove them from one side, or split by --val-fraction instead of --val'


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
            f'{name} shows {counted(len(shown), "class", "classes")} '
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

    Pictures that look alike are none to refuse: before a fixed camera, or on a plain
    background, all do.

    Args:
        train (Fingerprint): What is trained on.
        val (Fingerprint): What is validated on.

    Raises:
        ValueError: If an image file is listed on both sides, or half of the
            validation pictures have the pixels of pictures in the training.
    """
    files = {path.resolve() for path in train.paths}
    both = [str(path) for path in val.paths if path.resolve() in files]
    if both:
        raise ValueError(
            f'{val.files.json_file} lists {counted(len(val), "image")}, of which '
            f'{len(both)} {_is_or_are(len(both))} in {train.files.json_file} too: '
            f'{_some(both)}. {REMOVE_HINT}'
        )
    same = [place for place, _ in equal_pairs(val.digests, train.digests)]
    if len(same) >= SAME_SHARE * len(val):
        names = [str(val.paths[place]) for place in same]
        raise ValueError(
            f'{val.files.json_file} lists {counted(len(val), "image")}, of which '
            f'{len(same)} {"has" if len(same) == 1 else "have"} the same pixels as '
            f'images of {train.files.json_file}: {_some(names)}. {REMOVE_HINT}'
        )


def list_warnings(
    train: Fingerprint, val: Fingerprint, was_split: bool = False
) -> list[str]:
    """List what a user should know of the data.

    Args:
        train (Fingerprint): What is trained on.
        val (Fingerprint): What is validated on.
        was_split (bool): Whether both are parts of one json, split here. Defaults to
            False.

    Returns:
        list[str]: Leaks between the two, images that are listed twice or dark, and
        classes of which there is too little.
    """
    warnings = _list_leaks(train, val, was_split)
    for data in (train, val):
        warnings += _list_odd_images(data)
    class_names = np.array(train.classes.names)
    in_train, in_val = train.num_segments > 0, _of_classes(val, train) > 0
    few = (train.num_segments > 0) & (train.num_segments < FEW_SEGMENTS)
    for text, chosen in (
        ('without a segment in training, never learnt', ~in_train),
        (
            'without a segment in validation, not measured',
            ~in_val & in_train,
        ),
        (
            f'with fewer than {FEW_SEGMENTS} segments in training, little to learn '
            'from (--ignore of prepare_dataset.py leaves classes out)',
            few,
        ),
    ):
        if chosen.any():
            some = _some(class_names[chosen].tolist(), 12)
            classes = counted(int(chosen.sum()), 'class', 'classes')
            warnings.append(f'{classes} {text}: {some}')
    return warnings


def _list_leaks(train: Fingerprint, val: Fingerprint, was_split: bool) -> list[str]:
    """List validation images that training images are like."""
    equal = equal_pairs(val.digests, train.digests)
    known = {place for place, _ in equal}
    near = [
        pair
        for pair in near_pairs(val.thumbnails, train.thumbnails)
        if pair[0] not in known
    ]
    near_hint = (
        'So many look the same that they cannot be kept on one side'
        if was_split
        else REMOVE_HINT
    )
    warnings = []
    grey_level = 'the same (to a grey level at 16x16 pixels) as training images'
    for pairs, verbs, what, hint in (
        (
            equal,
            ('has', 'have'),
            'the same pixels as training images',
            f'The measures will be too good. {REMOVE_HINT}',
        ),
        (
            near,
            ('looks', 'look'),
            grey_level,
            'The measures will be too good if these are the same pictures, or moments '
            f'of one scene. {near_hint}',
        ),
    ):
        if pairs:
            names = [
                f'{val.images[v]["file_name"]} = {train.images[t]["file_name"]}'
                for v, t in pairs
            ]
            warnings.append(
                f'leak: {len(pairs)} of {counted(len(val), "validation image")} '
                f'{verbs[len(pairs) > 1]} {what}: {_some(names)}. {hint}'
            )
    return warnings


def _list_odd_images(data: Fingerprint) -> list[str]:
    """List images that are listed twice, and dark ones."""
    json_file, warnings = data.files.json_file, []
    ids = defaultdict(list)
    for path, image in zip(data.paths, data.images, strict=True):
        ids[path.resolve()].append(image)
    twice = [
        f'{images[0]["file_name"]} (ids {", ".join(str(i["id"]) for i in images)})'
        for images in ids.values()
        if len(images) > 1
    ]
    if twice:
        warnings.append(
            f'{counted(len(twice), "image file")} in {json_file} '
            f'{_is_or_are(len(twice))} listed under several ids, each with '
            'labels of its own: keep one of them, or join the labels: '
            f'{_some(twice)}'
        )
    is_dark = data.thumbnails.max(axis=1) < DARK
    if is_dark.any():
        names = [data.images[k]['file_name'] for k in np.flatnonzero(is_dark)]
        warnings.append(
            f'{len(names)} of {counted(len(data), "image")} in {json_file} '
            f'{_is_or_are(len(names))} almost black (below {DARK} of 255) as '
            f'the training reads them: {_some(names)}. Of files with 16 bits it takes '
            'the upper 8: save them with 8 bits, or with values up to 65535'
        )
    return warnings


def _is_or_are(count: int) -> str:
    return 'is' if count == 1 else 'are'


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
