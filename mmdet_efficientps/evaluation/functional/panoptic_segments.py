# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Segments of a prediction in mmdet's encoding."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmdet_efficientps.structures.panoptic import constant_runs, decode_panoptic_seg

from .panoptic_quality import PanopticQualityStat, panoptic_quality_stats


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
