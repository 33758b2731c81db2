# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Average precision of instances by the definition of Cityscapes.

What the detections and the true objects of an image have in common is counted here,
in memory; everything after that is done by ``evalInstanceLevelSemanticLabeling`` of
cityscapesscripts, so that the numbers are those of the benchmark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official
from pycocotools import mask as mask_api

from mmdet_efficientps.structures.run_length_masks import rle_intersections

# cityscapesscripts takes objects with smaller ids for crowds.
_FIRST_OBJECT_ID = 1000


@dataclass
class InstanceOverlaps:
    """Detections and true objects of one image: a few kilobytes instead of masks.

    Attributes:
        gt_labels (np.ndarray): Classes of the G true objects and crowds, (G, ).
        gt_is_crowd (np.ndarray): Whether they are crowds, (G, ), bool.
        gt_areas (np.ndarray): Their pixels, (G, ).
        pred_labels (np.ndarray): Classes of the P detections, (P, ).
        pred_scores (np.ndarray): Their scores, (P, ), float.
        pred_areas (np.ndarray): Their pixels, (P, ).
        pred_on_void (np.ndarray): Their pixels on void, (P, ).
        intersections (np.ndarray): Pixels in common, (P, G).
    """

    gt_labels: np.ndarray
    gt_is_crowd: np.ndarray
    gt_areas: np.ndarray
    pred_labels: np.ndarray
    pred_scores: np.ndarray
    pred_areas: np.ndarray
    pred_on_void: np.ndarray
    intersections: np.ndarray


def instance_overlaps(
    gt_rles: Sequence[dict],
    gt_labels: Sequence[int],
    gt_is_crowd: Sequence[bool],
    void_rle: dict,
    pred_rles: Sequence[dict],
    pred_labels: Sequence[int],
    pred_scores: Sequence[float],
) -> InstanceOverlaps:
    """Count what detections and true objects of an image have in common.

    Args:
        gt_rles (Sequence[dict]): Run-length masks of the G true objects and
            crowds.
        gt_labels (Sequence[int]): Their classes.
        gt_is_crowd (Sequence[bool]): Whether they are crowds, which need not be found
            and may be found in parts.
        void_rle (dict): Run-length mask of the pixels where anything may be found.
        pred_rles (Sequence[dict]): Run-length masks of the P detections, of the
            same size.
        pred_labels (Sequence[int]): Their classes.
        pred_scores (Sequence[float]): Their scores.

    Returns:
        InstanceOverlaps: Of all detections that have pixels.

    Example:
        An object of two pixels, one of which is found.

        >>> def encode(row):
        ...     return mask_api.encode(np.asfortranarray([row], dtype=np.uint8))
        >>> image = instance_overlaps(
        ...     [encode([1, 1, 0])], [0], [False], encode([0, 0, 1]),
        ...     [encode([0, 1, 1])], [0], [0.9],
        ... )
        >>> image.intersections, image.pred_on_void
        (array([[1]]), array([1]))
    """
    areas = np.array([int(mask_api.area(rle)) for rle in pred_rles], dtype=np.int64)
    seen = np.flatnonzero(areas)
    rles = [pred_rles[k] for k in seen]
    return InstanceOverlaps(
        gt_labels=np.array(gt_labels, dtype=int),
        gt_is_crowd=np.array(gt_is_crowd, dtype=bool),
        gt_areas=np.array([int(mask_api.area(rle)) for rle in gt_rles], dtype=np.int64),
        pred_labels=np.array(pred_labels, dtype=int)[seen],
        pred_scores=np.array(pred_scores, dtype=float)[seen],
        pred_areas=areas[seen],
        pred_on_void=rle_intersections(rles, [void_rle])[:, 0],
        intersections=rle_intersections(rles, gt_rles),
    )


def average_precision(
    images: Sequence[InstanceOverlaps], num_classes: int
) -> np.ndarray:
    """Compute the average precision of each class at each overlap.

    Args:
        images (Sequence[InstanceOverlaps]): All images.
        num_classes (int): Number of thing classes.

    Returns:
        np.ndarray: Shape (C, 10), 0..1, for overlaps above 0.5, 0.55, ... 0.95; nan
        for classes without a true object of at least 100 pixels.

    Example:
        One object, found with an IoU of 160 / 200 = 0.8: right up to 0.75.

        >>> image = InstanceOverlaps(*(np.array([x]) for x in (0, False, 200)),
        ...     *(np.array([x]) for x in (0, 0.9, 160, 0)), np.array([[160]]))
        >>> average_precision([image], 1)
        array([[1., 1., 1., 1., 1., 1., 0., 0., 0., 0.]])
    """
    matches = {
        number: _official_matches(image, num_classes)
        for number, image in enumerate(images)
    }
    args = SimpleNamespace(**vars(official.args))
    args.instLabels = list(range(num_classes))
    args.distanceAvailable = False
    args.quiet = True
    return official.evaluateMatches(matches, args)[0]


def _official_matches(image: InstanceOverlaps, num_classes: int) -> dict:
    """Write an image the way ``matchGtWithPreds`` of cityscapesscripts does."""
    truth: dict[int, list[dict]] = {label: [] for label in range(num_classes)}
    predictions: dict[int, list[dict]] = {label: [] for label in range(num_classes)}
    objects = [
        {
            'instID': number + (0 if is_crowd else _FIRST_OBJECT_ID),
            'pixelCount': area,
            'medDist': -1,
            'distConf': 0.0,
            'matchedPred': [],
        }
        for number, (is_crowd, area) in enumerate(
            zip(image.gt_is_crowd.tolist(), image.gt_areas.tolist(), strict=True)
        )
    ]
    for label, entry in zip(image.gt_labels.tolist(), objects, strict=True):
        truth[label].append(entry)
    for label, score, area, on_void, shared in zip(
        image.pred_labels.tolist(),
        image.pred_scores.tolist(),
        image.pred_areas.tolist(),
        image.pred_on_void.tolist(),
        image.intersections,
        strict=True,
    ):
        prediction = {
            'pixelCount': area,
            'confidence': score,
            'voidIntersection': on_void,
            'matchedGt': [],
        }
        for number in np.flatnonzero((shared > 0) & (image.gt_labels == label)):
            intersection = {'intersection': int(shared[number])}
            prediction['matchedGt'].append(objects[number] | intersection)
            objects[number]['matchedPred'].append(prediction | intersection)
        predictions[label].append(prediction)
    return {'groundTruth': truth, 'prediction': predictions}
