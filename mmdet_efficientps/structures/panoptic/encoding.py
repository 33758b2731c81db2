# Licensed under the Apache License, Version 2.0. See LICENSE.
"""mmdet's encoding of panoptic maps: label + instance * INSTANCE_OFFSET.

Void is the number of classes. Stuff, and crowds of things, have no instance: it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET

from .ids import VOID_ID, constant_runs


def encode_panoptic(
    segment_index: np.ndarray,
    categories: Sequence[int],
    is_instance: Sequence[bool],
    num_classes: int,
) -> np.ndarray:
    """Encode a ground truth the way mmdet encodes predictions.

    Example:
        Void, a car (class 0), road (class 1) and a crowd of cars.

        >>> index = np.array([[0, 1, 2, 3]])
        >>> encode_panoptic(index, [0, 1, 0], [True, False, False], 2).tolist()
        [[2, 1000, 1, 0]]

    Args:
        segment_index (np.ndarray): Shape (H, W), int; 0 void, k + 1 for segment k.
        categories (Sequence[int]): Label of each segment.
        is_instance (Sequence[bool]): Whether a segment is one object. Stuff and crowds
            are not.
        num_classes (int): Number of classes, the value of void.

    Returns:
        np.ndarray: Shape (H, W), int64: label + instance * INSTANCE_OFFSET.

    Raises:
        ValueError: If the encoding has no room for so many classes.
    """
    if num_classes >= INSTANCE_OFFSET:
        raise ValueError(
            f'there are {num_classes} classes, but the encoding of mmdet has room for '
            f'{INSTANCE_OFFSET - 1}: leave classes out or merge them'
        )
    values = [num_classes]
    for number, (category, one_object) in enumerate(
        zip(categories, is_instance, strict=True), start=1
    ):
        values.append(category + (number * INSTANCE_OFFSET if one_object else 0))
    return np.asarray(values, dtype=np.int64)[segment_index]


def decode_panoptic_seg(
    encoded: np.ndarray, num_classes: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Turn mmdet's encoding of a panoptic prediction into segments.

    Args:
        encoded (np.ndarray): label + instance * INSTANCE_OFFSET, void = number of
            classes, shape (H, W) or any other, integers.
        num_classes (int): Number of classes.

    Returns:
        tuple[np.ndarray, list[dict[str, Any]]]: Segment ids, same shape, int32, 0 =
        void, and the ``id`` and ``category`` of every segment. The input stays as it
        is.

    Raises:
        ValueError: If a code is negative or has a label above ``num_classes``.

    Example:
        Classes 0 and 1; the first instance of class 0 is 1000, void is 2.

        >>> ids, segments = decode_panoptic_seg(np.array([[1000, 1, 2]]), 2)
        >>> ids.tolist()
        [[1001, 2, 0]]
        >>> segments
        [{'id': 2, 'category': 1}, {'id': 1001, 'category': 0}]
    """
    present = np.unique(constant_runs(encoded)[0])
    labels = present % INSTANCE_OFFSET
    if present[0] < 0 or (labels > num_classes).any():
        wrong = present[(present < 0) | (labels > num_classes)] % INSTANCE_OFFSET
        raise ValueError(
            f'the prediction has labels {np.unique(wrong)}, but there are '
            f'{num_classes} classes'
        )
    # One more than the code, because 0 is a valid code but the id of void.
    pred_ids = np.add(encoded, 1, dtype=np.int32)
    for code in present[labels == num_classes]:
        pred_ids[encoded == code] = VOID_ID
    segments = [
        {'id': int(code) + 1, 'category': int(label)}
        for code, label in zip(present, labels, strict=True)
        if label != num_classes
    ]
    return pred_ids, segments
