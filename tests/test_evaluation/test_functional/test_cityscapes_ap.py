# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
from pycocotools import mask as mask_api

from mmdet_efficientps.evaluation.functional import average_precision, instance_overlaps

SHAPE = 40, 60


def box(top, left, height, width):
    mask = np.zeros(SHAPE, np.uint8, order='F')
    mask[top : top + height, left : left + width] = 1
    return mask_api.encode(mask)


NOTHING = box(0, 0, 0, 0)


def precision(truth, detections, void=NOTHING, num_classes=1):
    """AP of classes, of (code, label, is_crowd) and (code, label, score)."""
    image = instance_overlaps(
        *(zip(*truth, strict=True) if truth else ([], [], [])),
        void,
        *(zip(*detections, strict=True) if detections else ([], [], [])),
    )
    return average_precision([image], num_classes)


def test_overlap_decides_at_which_thresholds_a_detection_is_right():
    # 14 of 20 rows: an IoU of 0.7 is above 0.5, 0.55, 0.6 and 0.65, not above 0.7
    ap = precision([(box(0, 0, 20, 20), 0, False)], [(box(0, 0, 14, 20), 0, 0.3)])
    assert ap.tolist() == [[1] * 4 + [0] * 6]


def test_detections_on_groups_and_on_void_are_no_errors():
    truth = [(box(0, 0, 20, 20), 0, False), (box(0, 30, 20, 20), 0, True)]
    right = (box(0, 0, 20, 20), 0, 0.5)
    on_group, on_void = (box(2, 32, 12, 12), 0, 0.9), (box(25, 0, 12, 12), 0, 0.9)
    assert (precision(truth, [right, on_group]) == 1).all()
    # Without void there the surer one is wrong: precision 0 at recall 0, 1/2 at 1, each
    # of which stands for half of the recalls.
    assert precision(truth, [right, on_void])[0, 0] == pytest.approx(0.25)
    ignored = precision(truth, [right, on_void], void=box(25, 0, 12, 12))
    assert (ignored == 1).all()


def test_objects_below_100_pixels_need_not_be_found():
    small, large = (box(0, 0, 9, 11), 0, False), (box(0, 0, 10, 10), 0, False)
    assert np.isnan(precision([small], [])).all()
    assert (precision([large], []) == 0).all()


def test_class_of_a_detection_counts():
    truth = [(box(0, 0, 20, 20), 1, False)]
    ap = precision(truth, [(box(0, 0, 20, 20), 0, 0.9)], num_classes=2)
    assert np.isnan(ap[0]).all()
    assert (ap[1] == 0).all()


def test_detections_without_pixels_are_dropped():
    truth = [(box(0, 0, 20, 20), 0, False)]
    detections = [(NOTHING, 0, 0.9), (box(0, 0, 20, 20), 0, 0.5)]
    assert (precision(truth, detections) == 1).all()
