# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Intersection over union of classes, as Cityscapes' pixel-level script has it."""

from collections.abc import Mapping, Sequence

import numpy as np

from .segment_overlaps import segment_overlaps


def count_classes(
    gt_ids: np.ndarray,
    gt_segments: Sequence[Mapping],
    pred_labels: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """Count the pixels of every pair of a true and a predicted class.

    Args:
        gt_ids (np.ndarray): True segment ids, shape (H, W), 0 = void, which is not
            counted.
        gt_segments (Sequence[Mapping]): ``id`` and ``category`` (0..C-1) of every
            true segment.
        pred_labels (np.ndarray): Predicted classes, shape (H, W), 0..C-1, or C for
            void.
        num_classes (int): Number of classes C.

    Returns:
        np.ndarray: Pixels, shape (C, C + 1), int64. Rows are true classes, columns
        predicted ones; the last is predicted void.

    Raises:
        ValueError: If the maps differ in size, an id of the ground truth is not
            listed, or a predicted label is not in 0..C.

    Example:
        Of the three pixels of class 0 one is predicted as class 1, one as void (2).

        >>> segments = [{'id': 9, 'category': 0}]
        >>> count_classes(np.array([[9, 9, 9]]), segments, np.array([[0, 1, 2]]), 2)
        array([[1, 1, 1],
               [0, 0, 0]])
    """
    if pred_labels.min() < 0 or pred_labels.max() > num_classes:
        raise ValueError(
            f'the prediction has labels {pred_labels.min()}..{pred_labels.max()}, but '
            f'there are {num_classes} classes'
        )
    # Labels become ids, which begin at 1.
    areas = segment_overlaps(
        gt_ids,
        [segment['id'] for segment in gt_segments],
        np.add(pred_labels, 1, dtype=np.uint16, casting='unsafe'),
        range(1, num_classes + 2),
    )
    counts = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    labels = np.array([segment['category'] for segment in gt_segments], dtype=int)
    np.add.at(counts, labels, areas[1:, 1:])
    return counts


def class_iou(counts: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of each class.

    Pixels that are void in the ground truth are ignored; a predicted void is an error
    for the class that is there.

    Args:
        counts (np.ndarray): Sum of :func:`count_classes` over all images,
            shape (C, C + 1).

    Returns:
        np.ndarray: Shape (C, ), 0..1; nan for a class that neither occurs nor is
        predicted where something else is.

    Example:
        Class 0: 3 pixels right of 4 that are or were called class 0.

        >>> class_iou(np.array([[3, 1, 0], [0, 2, 0]]))
        array([0.75      , 0.66666667])
    """
    correct = np.diagonal(counts)
    union = counts.sum(axis=1) + counts[:, :-1].sum(axis=0) - correct
    return np.where(union > 0, correct / np.maximum(union, 1), np.nan)
