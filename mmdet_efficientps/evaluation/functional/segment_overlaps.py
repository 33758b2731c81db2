# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Areas in which the segments of two id maps overlap.

A street scene has millions of pixels but only a few thousand runs of equal ones, so
the runs are found first and everything else works on them. On maps without runs
(noise) the results are the same and the time grows with the number of pixels.
"""

from collections.abc import Sequence

import numpy as np

from mmdet_efficientps.structures.panoptic import constant_runs, index_segments


def segment_overlaps(
    gt_ids: np.ndarray,
    gt_segment_ids: Sequence[int],
    pred_ids: np.ndarray,
    pred_segment_ids: Sequence[int],
    lengths: np.ndarray | None = None,
) -> np.ndarray:
    """Count the pixels of every pair of a true and a predicted segment.

    Sums of the rows and columns are the areas of the segments. Index maps are id maps
    too: their ``segment_ids`` are ``range(1, N + 1)``.

    Args:
        gt_ids (np.ndarray): True segment ids, shape (H, W), non-negative integers,
            0 = void. Small types (uint8, uint16) are faster.
        gt_segment_ids (Sequence[int]): Ids of the G true segments, in any order;
            they need not all occur.
        pred_ids (np.ndarray): Predicted segment ids, shape (H, W), 0 = void.
        pred_segment_ids (Sequence[int]): Ids of the P predicted segments.
        lengths (np.ndarray | None): Give it if the maps are the values on runs, both
            of shape (R, ), of :func:`constant_runs`: the lengths of the runs, shape
            (R, ). Defaults to None.

    Returns:
        np.ndarray: Pixels, shape (G + 1, P + 1), int64. Row 0 is void in the ground
        truth, row k + 1 the segment ``gt_segment_ids[k]``; columns likewise.

    Raises:
        ValueError: If the maps differ in shape, an id other than 0 is not listed,
            or a list has an id twice or has 0.

    Example:
        Two pixels of segment 7 were predicted as 3, one as void.

        >>> gt, pred = np.array([[7, 7, 7, 0]]), np.array([[3, 3, 0, 0]])
        >>> segment_overlaps(gt, [7], pred, [3])
        array([[1, 0],
               [1, 2]])
    """
    if lengths is None:
        gt_ids, pred_ids, lengths = constant_runs(gt_ids, pred_ids)
    gt_index = _index('ground truth', gt_ids, gt_segment_ids)
    pred_index = _index('prediction', pred_ids, pred_segment_ids)
    shape = len(gt_segment_ids) + 1, len(pred_segment_ids) + 1
    pairs = gt_index.astype(np.int64) * shape[1] + pred_index
    # Sums of integers are exact in float64 below 2**53 pixels.
    areas = np.bincount(pairs, weights=lengths, minlength=shape[0] * shape[1])
    return areas.astype(np.int64).reshape(shape)


def _index(name: str, values: np.ndarray, segment_ids: Sequence[int]) -> np.ndarray:
    """Number the segments and say which map an error is about."""
    try:
        return index_segments(values, segment_ids)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error
