# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Segments of a prediction in mmdet's encoding."""

from collections.abc import Mapping, Sequence

import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET

from mmdet_efficientps.structures.panoptic import VOID_ID, constant_runs

from .panoptic_quality import PanopticQualityStat, panoptic_quality_stats


def decode_panoptic_seg(
    encoded: np.ndarray, num_classes: int
) -> tuple[np.ndarray, list[dict]]:
    """Turn mmdet's encoding of a panoptic prediction into segments.

    Args:
        encoded (np.ndarray): label + instance * INSTANCE_OFFSET, void = number of
            classes, shape (H, W) or any other, integers.
        num_classes (int): Number of classes.

    Returns:
        tuple[np.ndarray, list[dict]]: Segment ids, same shape, int32, 0 = void, and
        the ``id`` and ``category`` of every segment. The input stays as it is.

    Raises:
        ValueError: If a value is negative or its label is above ``num_classes``.

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
    # One more, because 0 is a segment in the encoding and void among the ids.
    pred_ids = np.add(encoded, 1, dtype=np.int32)
    for value in present[labels == num_classes]:
        pred_ids[encoded == value] = VOID_ID
    segments = [
        {'id': int(value) + 1, 'category': int(label)}
        for value, label in zip(present, labels, strict=True)
        if label != num_classes
    ]
    return pred_ids, segments


def encoded_quality_stats(
    gt_ids: np.ndarray,
    gt_segments: Sequence[Mapping],
    encoded: np.ndarray,
    num_classes: int,
) -> PanopticQualityStat:
    """Match a prediction in mmdet's encoding with the ground truth and count.

    Equal to :func:`~.panoptic_quality_stats` of the decoded prediction, but decodes
    the runs of pixels instead of every pixel.

    Args:
        gt_ids (np.ndarray): True segment ids, shape (H, W), integers, 0 = void.
        gt_segments (Sequence[Mapping]): ``id``, ``category`` (0..C-1) and
            ``iscrowd`` of every true segment.
        encoded (np.ndarray): As of :func:`decode_panoptic_seg`, shape (H, W).
        num_classes (int): Number of classes C.

    Returns:
        PanopticQualityStat: Counts of this image.

    Raises:
        ValueError: If the maps differ in size, the prediction has a label that is
            no class, or the true ids do not fit the true segments.

    Example:
        >>> truth = [{'id': 8, 'category': 0, 'iscrowd': 0}]
        >>> ids, encoded = np.array([[8, 8, 8]]), np.array([[1000, 1000, 1]])
        >>> stat = encoded_quality_stats(ids, truth, encoded, 2)
        >>> stat.tp.tolist(), stat.fp.tolist(), stat.fn.tolist()
        ([1, 0], [0, 1], [0, 0])
    """
    if gt_ids.shape != encoded.shape:
        raise ValueError(
            f'maps differ in size: ground truth {gt_ids.shape}, prediction '
            f'{encoded.shape}'
        )
    gt_runs, encoded_runs, lengths = constant_runs(gt_ids, encoded)
    pred_runs, pred_segments = decode_panoptic_seg(encoded_runs, num_classes)
    return panoptic_quality_stats(
        gt_runs, gt_segments, pred_runs, pred_segments, num_classes, lengths=lengths
    )
