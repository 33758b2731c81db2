# Licensed under the Apache License, Version 2.0. See LICENSE.
"""COCO's average precision of masks: pycocotools image by image, in memory."""

import contextlib
import copy
import io
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def match_coco_masks(
    gt_rles: Sequence[dict],
    gt_labels: Sequence[int],
    gt_is_crowd: Sequence[bool],
    pred_rles: Sequence[dict],
    pred_labels: Sequence[int],
    pred_scores: Sequence[float],
    num_classes: int,
) -> list[dict | None]:
    """Match the detections of one image with ``COCOeval.evaluate``.

    Args:
        gt_rles (Sequence[dict]): Run-length masks of the true objects and crowds.
        gt_labels (Sequence[int]): Their classes.
        gt_is_crowd (Sequence[bool]): Whether they are crowds.
        pred_rles (Sequence[dict]): Run-length masks of the detections, of the same
            size.
        pred_labels (Sequence[int]): Their classes.
        pred_scores (Sequence[float]): Their scores.
        num_classes (int): Number of thing classes C.

    Returns:
        list[dict | None]: What ``COCOeval.accumulate`` needs of the image, without
        masks: an entry for each class and area range, classes outside; None where
        there is nothing.
    """
    truth = [
        {'iscrowd': int(is_crowd), 'category_id': int(label), 'segmentation': rle}
        for rle, label, is_crowd in zip(gt_rles, gt_labels, gt_is_crowd, strict=True)
    ]
    detections = [
        {'score': float(score), 'category_id': int(label), 'segmentation': rle}
        for rle, label, score in zip(pred_rles, pred_labels, pred_scores, strict=True)
    ]
    with _silence():
        evaluation = COCOeval(
            _coco(truth, num_classes), _coco(detections, num_classes), 'segm'
        )
        evaluation.evaluate()
    return [
        entry
        and {
            'dtMatches': entry['dtMatches'] > 0,
            'dtIgnore': entry['dtIgnore'].astype(bool),
            'dtScores': np.array(entry['dtScores']),
            'gtIgnore': entry['gtIgnore'].astype(bool),
        }
        for entry in evaluation.evalImgs
    ]


def accumulate_coco_matches(
    images: Sequence[list[dict | None]], num_classes: int
) -> COCOeval:
    """Compute precision and recall over all images with ``COCOeval.accumulate``.

    Args:
        images (Sequence[list[dict | None]]): What :func:`match_coco_masks` gives, in
            the order of the image ids: it decides between detections of equal score.
        num_classes (int): Number of thing classes C.

    Returns:
        COCOeval: After ``accumulate`` and ``summarize``: ``stats`` are the twelve
        values of COCO, ``eval['precision']`` has shape (10, 101, C, 4, 3). They are
        -1 where there is no ground truth.
    """
    evaluation = COCOeval(iouType='segm')
    evaluation.params.imgIds = list(range(len(images)))
    evaluation.params.catIds = list(range(num_classes))
    evaluation._paramsEval = copy.deepcopy(evaluation.params)
    entries = num_classes * len(evaluation.params.areaRng)
    evaluation.evalImgs = [image[k] for k in range(entries) for image in images]
    with _silence():
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _coco(annotations: list[dict], num_classes: int) -> COCO:
    """Make pycocotools' data set of a single image."""
    for number, annotation in enumerate(annotations, start=1):
        area = int(mask_api.area(annotation['segmentation']))
        annotation.update(id=number, image_id=0, area=area)
    coco = COCO()
    coco.dataset = {
        # COCOeval asks for the size, but run-length masks have their own.
        'images': [{'id': 0, 'height': None, 'width': None}],
        'categories': [{'id': label} for label in range(num_classes)],
        'annotations': annotations,
    }
    coco.createIndex()
    return coco


def _silence() -> contextlib.AbstractContextManager:
    """Keep pycocotools from printing its progress for each image."""
    return contextlib.redirect_stdout(io.StringIO())
