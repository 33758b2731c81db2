# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The errors of a panoptic prediction: of which kind, where, and how large.

All of it follows from the areas in which segments overlap and from the matches of
panoptic quality, so that the counts here add up to those of the metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import IntEnum

import numpy as np

from .panoptic_quality import (
    PanopticQualityStat,
    SegmentMatches,
    count_matches,
)


class PixelError(IntEnum):
    """What is wrong with a pixel.

    Attributes:
        NONE: Nothing. It is in a true segment and in the prediction matched to it.
        INEXACT: The two segments there are not matched to each other, but each has a
            match elsewhere or is not counted: an outline is not exact.
        MISSED: It is in a true segment that has no match.
        FALSE: It is in a predicted segment that counts as false.
        MISSED_AND_FALSE: Both: something else was predicted.
        IGNORED: It is void or a crowd in the ground truth and in no false segment.
    """

    NONE = 0
    INEXACT = 1
    MISSED = 2
    FALSE = 3
    MISSED_AND_FALSE = 4
    IGNORED = 5


def confused_segments(
    areas: np.ndarray,
    matches: SegmentMatches,
    gt_segments: Sequence[Mapping],
    pred_segments: Sequence[Mapping],
    num_classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Count what was in the place of missed and of false segments.

    In the place of a true segment is the predicted segment, or void, that covers the
    largest part of it; in the place of a predicted segment a true one likewise. Both
    may be of one class: the overlap was too small, or one is a part of the other.

    Args:
        areas (np.ndarray): Pixels of each pair, shape (G + 1, P + 1), as
            :func:`~.segment_overlaps` gives them.
        matches (SegmentMatches): What :func:`~.match_segments` gives.
        gt_segments (Sequence[Mapping]): ``category`` of the G true segments.
        pred_segments (Sequence[Mapping]): ``category`` of the P predicted segments.
        num_classes (int): Number of classes C.

    Returns:
        tuple[np.ndarray, np.ndarray]: Two arrays (C, C + 1), int. In the first, row
        c counts the missed segments of class c by the class predicted there; in the
        second the false segments of class c by the true class there. The last
        column is void.

    Example:
        A segment of class 0 was predicted as class 1: missed and false.

        >>> areas = np.array([[0, 0], [0, 4]])
        >>> truth, found = [{'category': 0, 'iscrowd': 0}], [{'category': 1}]
        >>> from mmdet_efficientps.evaluation.functional import match_segments
        >>> matches = match_segments(areas, truth, found)
        >>> missed, false = confused_segments(areas, matches, truth, found, 2)
        >>> missed.tolist(), false.tolist()
        ([[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]])
    """
    # Void takes part as number 0, as in the areas.
    gt_class = np.array([num_classes, *(s['category'] for s in gt_segments)])
    pred_class = np.array([num_classes, *(s['category'] for s in pred_segments)])
    missed = np.flatnonzero(matches.missed) + 1
    false = np.flatnonzero(matches.false) + 1

    def count(own: np.ndarray, instead: np.ndarray) -> np.ndarray:
        table = np.zeros((num_classes, num_classes + 1), dtype=int)
        np.add.at(table, (own, instead), 1)
        return table

    return (
        count(gt_class[missed], pred_class[areas[missed].argmax(axis=1)]),
        count(pred_class[false], gt_class[areas[:, false].argmax(axis=0)]),
    )


def quality_by_size(
    areas: np.ndarray,
    matches: SegmentMatches,
    gt_segments: Sequence[Mapping],
    pred_segments: Sequence[Mapping],
    num_classes: int,
    bounds: Sequence[float],
) -> list[PanopticQualityStat]:
    """Count matched, false and missed segments by size.

    The size of a segment is the square root of its area in pixels. A match and a
    missed segment have the size of the true segment, a false one its own.

    Args:
        areas (np.ndarray): Pixels of each pair, shape (G + 1, P + 1).
        matches (SegmentMatches): What :func:`~.match_segments` gives.
        gt_segments (Sequence[Mapping]): ``category`` of the G true segments.
        pred_segments (Sequence[Mapping]): ``category`` of the P predicted segments.
        num_classes (int): Number of classes.
        bounds (Sequence[float]): Sizes between the buckets, ascending. A size equal
            to a bound belongs to the larger bucket.

    Returns:
        list[PanopticQualityStat]: Counts of each of the ``len(bounds) + 1`` buckets;
        they add up to those of the image.

    Example:
        A segment of 4 pixels has the size 2, one of 100 pixels the size 10.

        >>> areas = np.array([[0, 0], [0, 4], [100, 0]])
        >>> truth, found = [{'category': 0, 'iscrowd': 0}] * 2, [{'category': 0}]
        >>> from mmdet_efficientps.evaluation.functional import match_segments
        >>> matches = match_segments(areas, truth, found)
        >>> small, large = quality_by_size(areas, matches, truth, found, 1, [5])
        >>> small.tp, small.fn, large.tp, large.fn
        (array([1]), array([0]), array([0]), array([1]))
    """
    gt_bucket = np.digitize(np.sqrt(areas[1:].sum(axis=1)), bounds)
    pred_bucket = np.digitize(np.sqrt(areas[:, 1:].sum(axis=0)), bounds)
    stats = []
    for bucket in range(len(bounds) + 1):
        pairs = gt_bucket[matches.gt] == bucket
        part = replace(
            matches,
            gt=matches.gt[pairs],
            pred=matches.pred[pairs],
            iou=matches.iou[pairs],
            missed=matches.missed & (gt_bucket == bucket),
            false=matches.false & (pred_bucket == bucket),
        )
        stats.append(count_matches(part, gt_segments, pred_segments, num_classes))
    return stats


def pixel_errors(
    gt_index: np.ndarray,
    pred_index: np.ndarray,
    matches: SegmentMatches,
    crowd: Sequence[bool],
) -> np.ndarray:
    """Tell for every pixel what is wrong with it.

    Args:
        gt_index (np.ndarray): Shape (H, W), int; 0 void, k + 1 for true segment k.
        pred_index (np.ndarray): Shape (H, W), int, predicted segments likewise.
        matches (SegmentMatches): What :func:`~.match_segments` gives.
        crowd (Sequence[bool]): Which of the G true segments are crowds.

    Returns:
        np.ndarray: :class:`PixelError`, shape (H, W), uint8.

    Example:
        A segment of three pixels is found, but for the last one.

        >>> gt, pred = np.array([[1, 1, 1]]), np.array([[1, 1, 0]])
        >>> areas = np.array([[0, 0], [1, 2]])
        >>> from mmdet_efficientps.evaluation.functional import match_segments
        >>> matches = match_segments(
        ...     areas, [{'category': 0, 'iscrowd': 0}], [{'category': 0}]
        ... )
        >>> [PixelError(e).name for e in pixel_errors(gt, pred, matches, [False])[0]]
        ['NONE', 'NONE', 'INEXACT']
    """
    # One look-up for every pair of a true and a predicted segment; 0 is void.
    missed = np.append(False, matches.missed)[:, None]
    false = np.append(False, matches.false)[None]
    table = np.full((missed.size, false.size), PixelError.INEXACT, dtype=np.uint8)
    table[matches.gt + 1, matches.pred + 1] = PixelError.NONE
    table[np.append(True, np.asarray(crowd, dtype=bool))] = PixelError.IGNORED
    table[missed & ~false] = PixelError.MISSED
    table[~missed & false] = PixelError.FALSE
    table[missed & false] = PixelError.MISSED_AND_FALSE
    return table[gt_index, pred_index]
