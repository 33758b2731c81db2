# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest

from mmdet_efficientps.evaluation.functional import class_iou, count_classes

SEGMENTS = [
    {'id': 7, 'category': 0},
    {'id': 900, 'category': 1},
    {'id': 5, 'category': 0},
]
GT = np.array([[7, 7, 5, 900], [0, 0, 900, 900]])
# one pixel of class 0 is taken for class 1, one of class 1 is left void
PREDICTED = np.array([[0, 0, 1, 1], [2, 0, 1, 3]])


def test_pixels_are_counted_by_class_and_void_is_left_out():
    counts = count_classes(GT, SEGMENTS, PREDICTED, num_classes=3)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0]]


def test_predicted_void_is_an_error_and_unseen_classes_are_nan():
    iou = class_iou(count_classes(GT, SEGMENTS, PREDICTED, num_classes=3))
    assert iou == pytest.approx([2 / 3, 2 / 4, np.nan], nan_ok=True)


def test_class_predicted_where_it_is_not_counts_as_0():
    predicted = np.where(PREDICTED == 3, 2, PREDICTED)
    iou = class_iou(count_classes(GT, SEGMENTS, predicted, num_classes=3))
    assert iou == pytest.approx([2 / 3, 2 / 4, 0])


def test_label_beyond_void_is_refused():
    with pytest.raises(ValueError, match=r'labels 0\.\.4, but there are 3 classes'):
        count_classes(GT, SEGMENTS, PREDICTED + (PREDICTED == 3), num_classes=3)
