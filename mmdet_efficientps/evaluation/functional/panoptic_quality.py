# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic quality on arrays.

The measure of Kirillov et al., "Panoptic Segmentation" (CVPR 2019), with the rules
for void and crowd regions of the public evaluators (panopticapi, cityscapesscripts).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmdet_efficientps.utils.panoptic_ids import index_segments


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
            PanopticQualityStat: The sum; the operands stay as they are.
        """
        return PanopticQualityStat(
            self.iou + other.iou,
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
        )


def panoptic_quality_stats(
    gt_ids: np.ndarray,
    gt_segments: Sequence[Mapping],
    pred_ids: np.ndarray,
    pred_segments: Sequence[Mapping],
    num_classes: int,
) -> PanopticQualityStat:
    """Match the segments of one image and count.

    A predicted and a true segment match if they have the same class and an IoU above
    0.5, which leaves at most one match for each. Predicted pixels on void do not
    count for the union. Crowd segments are never matched and never missed; an
    unmatched prediction is no false positive if more than half of it lies on void
    and on the crowd segment of its class (the last one, if there are several).
    True segments without pixels count as missed.

    Args:
        gt_ids (np.ndarray): True segment ids, shape (H, W), integers, 0 = void.
        gt_segments (Sequence[Mapping]): ``id``, ``category`` (0..C-1) and
            ``iscrowd`` of every true segment.
        pred_ids (np.ndarray): Predicted segment ids, shape (H, W), 0 = void.
        pred_segments (Sequence[Mapping]): ``id`` and ``category`` of every
            predicted segment.
        num_classes (int): Number of classes C.

    Returns:
        PanopticQualityStat: Counts of this image.

    Raises:
        ValueError: If the maps differ in size, an id is not listed among the
            segments or repeats there, or a listed prediction has no pixels.
    """
    if gt_ids.shape != pred_ids.shape:
        raise ValueError(
            f'maps differ in size: ground truth {gt_ids.shape}, prediction '
            f'{pred_ids.shape}'
        )
    gt_index = index_segments(gt_ids, [s['id'] for s in gt_segments])
    pred_index = index_segments(pred_ids, [s['id'] for s in pred_segments])
    num_gt, num_pred = len(gt_segments), len(pred_segments)
    # Pixels per pair; row 0 and column 0 are void.
    overlap = np.bincount(
        (gt_index * (num_pred + 1) + pred_index).ravel(),
        minlength=(num_gt + 1) * (num_pred + 1),
    ).reshape(num_gt + 1, num_pred + 1)

    gt_class = np.array([s['category'] for s in gt_segments], dtype=int)
    pred_class = np.array([s['category'] for s in pred_segments], dtype=int)
    crowd = np.array([s['iscrowd'] for s in gt_segments], dtype=bool)
    gt_area = overlap[1:].sum(axis=1)
    pred_area = overlap[:, 1:].sum(axis=0)
    if not pred_area.all():
        empty = [
            s['id']
            for s, area in zip(pred_segments, pred_area, strict=True)
            if not area
        ]
        raise ValueError(f'predicted segments without pixels: {empty}')
    on_void = overlap[0, 1:]

    intersection = overlap[1:, 1:]
    union = gt_area[:, None] + pred_area - intersection - on_void
    same_class = gt_class[:, None] == pred_class
    match = same_class & ~crowd[:, None] & (2 * intersection > union)
    gt_match, pred_match = np.nonzero(match)

    on_ignored = on_void.copy()
    last_crowd = {gt_class[k]: k for k in np.flatnonzero(crowd)}
    for label, k in last_crowd.items():
        on_ignored += np.where(pred_class == label, intersection[k], 0)
    missed = ~crowd & ~match.any(axis=1)
    false = ~match.any(axis=0) & (2 * on_ignored <= pred_area)

    def count(labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(labels, weights, minlength=num_classes)

    matched_class = gt_class[gt_match]
    iou = intersection[gt_match, pred_match] / union[gt_match, pred_match]
    return PanopticQualityStat(
        iou=count(matched_class, iou),
        tp=count(matched_class),
        fp=count(pred_class[false]),
        fn=count(gt_class[missed]),
    )


def class_quality(stat: PanopticQualityStat) -> dict[str, np.ndarray]:
    """Compute panoptic, segmentation and recognition quality of each class.

    Args:
        stat (PanopticQualityStat): Counts over all images.

    Returns:
        dict[str, np.ndarray]: ``pq``, ``sq`` and ``rq``, each of shape (C, ) with
        values 0..1; nan for a class that neither occurs nor is predicted.
    """
    seen = stat.tp + stat.fp + stat.fn > 0
    # Classes not seen divide by one and are blanked below.
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
        means of a group without any are nan.
    """
    quality = class_quality(stat)
    summary = {}
    for group, labels in groups.items():
        labels = np.asarray(labels, dtype=int)
        seen = labels[~np.isnan(quality['pq'][labels])]
        summary[group] = {
            name: float(value[seen].mean()) if len(seen) else float('nan')
            for name, value in quality.items()
        }
        summary[group]['n'] = len(seen)
    return summary
