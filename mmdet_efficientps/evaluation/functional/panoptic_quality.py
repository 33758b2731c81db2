# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic quality on arrays.

The measure of Kirillov et al., "Panoptic Segmentation" (CVPR 2019), with the rules
for void and crowd regions of the public evaluators (panopticapi, cityscapesscripts),
and boundary PQ of Cheng et al., "Boundary IoU" (CVPR 2021).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .boundaries import boundary_overlaps
from .segment_overlaps import segment_overlaps


@dataclass
class PanopticQualityStat:
    """Counts from which panoptic quality is computed; they add up over images.

    Attributes:
        iou (np.ndarray): Sum of the IoU of matched segments per class, (C, ), float.
        tp (np.ndarray): Matched segments per class, (C, ), int.
        fp (np.ndarray): Predicted segments without a match per class, (C, ), int.
        fn (np.ndarray): True segments without a match per class, (C, ), int.
    """

    iou: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray

    @classmethod
    def zeros(cls, num_classes: int) -> 'PanopticQualityStat':
        """Make the counts of no image at all.

        Args:
            num_classes (int): Number of classes C.

        Returns:
            PanopticQualityStat: All zero.
        """
        return cls(
            np.zeros(num_classes), *(np.zeros(num_classes, int) for _ in range(3))
        )

    def __add__(self, other: 'PanopticQualityStat') -> 'PanopticQualityStat':
        """Add the counts of other images.

        Args:
            other (PanopticQualityStat): Counts of the same classes.

        Returns:
            PanopticQualityStat: The sum; neither operand is changed.
        """
        return PanopticQualityStat(
            self.iou + other.iou,
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
        )


@dataclass
class SegmentMatches:
    """Which true and predicted segments of an image belong together.

    Attributes:
        gt (np.ndarray): Number of the true segment of each match, (M, ), int, counted
            from 0 in the order of the list of segments.
        pred (np.ndarray): Number of the predicted segment of each match, (M, ), int.
        iou (np.ndarray): IoU of each match, (M, ), float.
        missed (np.ndarray): Whether a true segment counts as missed, (G, ), bool.
        false (np.ndarray): Whether a predicted segment counts as false, (P, ), bool.
    """

    gt: np.ndarray
    pred: np.ndarray
    iou: np.ndarray
    missed: np.ndarray
    false: np.ndarray


def match_segments(
    areas: np.ndarray,
    gt_segments: Sequence[Mapping],
    pred_segments: Sequence[Mapping],
    boundary_areas: np.ndarray | None = None,
) -> SegmentMatches:
    """Match the true and the predicted segments of one image.

    A predicted and a true segment match if they have the same class and an IoU above
    0.5, which leaves at most one match for each. Predicted pixels on void do not
    count for the union. Crowd segments are never matched and never missed; an
    unmatched prediction is no false positive if more than half of it lies on void
    and on the crowd segment of its class (the last one, if there are several).
    True segments without pixels count as missed.

    Args:
        areas (np.ndarray): Pixels of each pair, shape (G + 1, P + 1), row and column
            0 for void; of :func:`~.segment_overlaps`.
        gt_segments (Sequence[Mapping]): ``category`` (0..C-1) and ``iscrowd`` of the
            G true segments.
        pred_segments (Sequence[Mapping]): ``category`` of the P predicted segments.
        boundary_areas (np.ndarray | None): The same for the boundary regions, of
            :func:`~.boundary_overlaps`. If given, the IoU of a pair is the smaller
            one of the IoU of the segments and that of their boundary regions.
            Defaults to None.

    Returns:
        SegmentMatches: The matches, and which segments are missed or false.

    Example:
        A segment of 4 pixels, 3 of which are found: the IoU is 0.75.

        >>> areas = np.array([[0, 0], [1, 3]])
        >>> match_segments(areas, [{'category': 0, 'iscrowd': 0}], [{'category': 0}])
        SegmentMatches(gt=array([0]), pred=array([0]), iou=array([0.75]),
                       missed=array([False]), false=array([False]))
    """
    gt_class = np.array([s['category'] for s in gt_segments], dtype=int)
    pred_class = np.array([s['category'] for s in pred_segments], dtype=int)
    crowd = np.array([s['iscrowd'] for s in gt_segments], dtype=bool)
    intersection = areas[1:, 1:]
    on_void = areas[0, 1:]

    may_match = (gt_class[:, None] == pred_class) & ~crowd[:, None]
    gt, pred = np.nonzero(may_match & (intersection > 0))
    iou = _iou(areas, gt, pred)
    if boundary_areas is not None:
        iou = np.minimum(iou, _iou(boundary_areas, gt, pred))
    match = iou > 0.5
    gt, pred, iou = gt[match], pred[match], iou[match]

    on_ignored = on_void.copy()
    last_crowd = {gt_class[k]: k for k in np.flatnonzero(crowd)}
    for label, k in last_crowd.items():
        on_ignored += np.where(pred_class == label, intersection[k], 0)
    missed = ~crowd
    missed[gt] = False
    false = 2 * on_ignored <= areas[:, 1:].sum(axis=0)
    false[pred] = False
    return SegmentMatches(gt, pred, iou, missed, false)


def _iou(areas: np.ndarray, gt: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """IoU of pairs of segments, without the predicted pixels on void."""
    intersection = areas[gt + 1, pred + 1]
    gt_area = areas.sum(axis=1)[gt + 1]
    labelled_pred_area = areas[1:].sum(axis=0)[pred + 1]
    return intersection / (gt_area + labelled_pred_area - intersection)


def panoptic_quality_stats(
    gt_ids: np.ndarray,
    gt_segments: Sequence[Mapping],
    pred_ids: np.ndarray,
    pred_segments: Sequence[Mapping],
    num_classes: int,
    dilation_ratio: float | None = None,
    lengths: np.ndarray | None = None,
) -> PanopticQualityStat:
    """Match the segments of one image and count.

    The rules are those of :func:`match_segments`.

    Args:
        gt_ids (np.ndarray): True segment ids, shape (H, W), integers, 0 = void.
        gt_segments (Sequence[Mapping]): ``id``, ``category`` (0..C-1) and
            ``iscrowd`` of every true segment.
        pred_ids (np.ndarray): Predicted segment ids, shape (H, W), 0 = void.
        pred_segments (Sequence[Mapping]): ``id`` and ``category`` of every
            predicted segment.
        num_classes (int): Number of classes C.
        dilation_ratio (float | None): Give it to count for boundary PQ: the width of
            the boundary regions as a part of the image diagonal, see
            :func:`~.boundary_distance`. Defaults to None, which counts for PQ.
        lengths (np.ndarray | None): Give it if the maps are the values on runs, of
            :func:`~.constant_runs`: the lengths of the runs. Boundary PQ needs whole
            maps. Defaults to None.

    Returns:
        PanopticQualityStat: Counts of this image.

    Raises:
        ValueError: If the maps differ in size, an id is not listed among the
            segments or repeats there, or a listed prediction has no pixels.

    Example:
        >>> truth = [{'id': 7, 'category': 0, 'iscrowd': 0}]
        >>> found = [{'id': 3, 'category': 0}]
        >>> maps = np.array([[7, 7, 7, 7]]), np.array([[3, 3, 3, 0]])
        >>> panoptic_quality_stats(maps[0], truth, maps[1], found, 1)
        PanopticQualityStat(iou=array([0.75]), tp=array([1]), fp=array([0]),
                            fn=array([0]))
    """
    if gt_ids.shape != pred_ids.shape:
        raise ValueError(
            f'maps differ in size: ground truth {gt_ids.shape}, prediction '
            f'{pred_ids.shape}'
        )
    gt_numbers = [s['id'] for s in gt_segments]
    pred_numbers = [s['id'] for s in pred_segments]
    maps = gt_ids, gt_numbers, pred_ids, pred_numbers
    areas = segment_overlaps(*maps, lengths)
    empty = np.flatnonzero(areas[:, 1:].sum(axis=0) == 0)
    if len(empty):
        raise ValueError(
            'predicted segments without pixels: '
            f'{[pred_numbers[number] for number in empty]}'
        )
    boundary_areas = None
    if dilation_ratio is not None:
        boundary_areas = boundary_overlaps(*maps, dilation_ratio)
    matches = match_segments(areas, gt_segments, pred_segments, boundary_areas)
    return count_matches(matches, gt_segments, pred_segments, num_classes)


def count_matches(
    matches: SegmentMatches,
    gt_segments: Sequence[Mapping],
    pred_segments: Sequence[Mapping],
    num_classes: int,
) -> PanopticQualityStat:
    """Count matched, false and missed segments of each class.

    Args:
        matches (SegmentMatches): What :func:`match_segments` gives.
        gt_segments (Sequence[Mapping]): ``category`` of the true segments.
        pred_segments (Sequence[Mapping]): ``category`` of the predicted segments.
        num_classes (int): Number of classes.

    Returns:
        PanopticQualityStat: The counts.

    Example:
        Nothing matches: one segment is missed, one false.

        >>> none, all_ = np.array([], dtype=int), np.array([True])
        >>> matches = SegmentMatches(none, none, none.astype(float), all_, all_)
        >>> count_matches(matches, [{'category': 0}], [{'category': 1}], 2)
        PanopticQualityStat(iou=array([0., 0.]), tp=array([0, 0]), fp=array([0, 1]),
                            fn=array([1, 0]))
    """
    gt_class = np.array([s['category'] for s in gt_segments], dtype=int)
    pred_class = np.array([s['category'] for s in pred_segments], dtype=int)

    def count(labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(labels, weights, minlength=num_classes)

    return PanopticQualityStat(
        # of no matches at all bincount makes integers
        iou=count(gt_class[matches.gt], matches.iou).astype(float),
        tp=count(gt_class[matches.gt]),
        fp=count(pred_class[matches.false]),
        fn=count(gt_class[matches.missed]),
    )


def class_quality(stat: PanopticQualityStat) -> dict[str, np.ndarray]:
    """Compute panoptic, segmentation and recognition quality of each class.

    Args:
        stat (PanopticQualityStat): Counts over all images.

    Returns:
        dict[str, np.ndarray]: ``pq``, ``sq`` and ``rq``, each of shape (C, ) with
        values 0..1; nan for a class that neither occurs nor is predicted.

    Example:
        One match with an IoU of 0.8, one false and one missed segment.

        >>> quality = class_quality(
        ...     PanopticQualityStat(*(np.array([x]) for x in (0.8, 1, 1, 1)))
        ... )
        >>> quality['pq'], quality['sq'], quality['rq']
        (array([0.4]), array([0.8]), array([0.5]))
    """
    seen = stat.tp + stat.fp + stat.fn > 0
    # Classes not seen are divided by one here and become nan below.
    weight = np.where(seen, stat.tp + 0.5 * stat.fp + 0.5 * stat.fn, 1)
    quality = {
        'pq': stat.iou / weight,
        'sq': stat.iou / np.maximum(stat.tp, 1),
        'rq': stat.tp / weight,
    }
    return {name: np.where(seen, value, np.nan) for name, value in quality.items()}


def summarize(
    stat: PanopticQualityStat, groups: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, float]]:
    """Average panoptic, segmentation and recognition quality over groups of classes.

    Args:
        stat (PanopticQualityStat): Counts over all images.
        groups (Mapping[str, Sequence[int]]): Labels of the classes of each group.

    Returns:
        dict[str, dict[str, float]]: For each group ``pq``, ``sq``, ``rq``, means
        over the classes seen in 0..1, and ``n``, the number of those classes. The
        means of a group without such classes are nan.

    Example:
        PQ 0.8 and 0.6 of two classes; the third does not occur.

        >>> one = np.array([1, 1, 0])
        >>> stat = PanopticQualityStat(np.array([0.8, 0.6, 0]), one, 0 * one, 0 * one)
        >>> group = summarize(stat, {'All': [0, 1, 2]})['All']
        >>> round(group['pq'], 6), group['n']
        (0.7, 2)
    """
    quality = class_quality(stat)
    summary = {}
    for group, members in groups.items():
        labels = np.asarray(members, dtype=int)
        seen = labels[~np.isnan(quality['pq'][labels])]
        summary[group] = {
            name: float(value[seen].mean()) if len(seen) else float('nan')
            for name, value in quality.items()
        }
        summary[group]['n'] = len(seen)
    return summary
