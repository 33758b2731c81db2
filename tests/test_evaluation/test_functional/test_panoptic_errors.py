# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest

from mmdet_efficientps.evaluation.functional import (
    PanopticQualityStat,
    PixelError,
    confused_segments,
    match_segments,
    panoptic_quality_stats,
    pixel_errors,
    quality_by_size,
    segment_overlaps,
)

CAR, BUS, ROAD, VOID = 0, 1, 2, 3
NUM_CLASSES = 3
# One row of pixels; segments by number, 0 is void. True: a car (1), a bus (2), a road
# (3), a crowd of cars (4). Predicted: most of the car (1), a car on the bus (2), the
# road (3), a bus on the road (4), a car on the crowd (5).
GT = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4]])
PRED = np.array([[1, 1, 1, 0, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 5, 0]])
GT_SEGMENTS = [
    {'id': 1, 'category': CAR, 'iscrowd': 0},
    {'id': 2, 'category': BUS, 'iscrowd': 0},
    {'id': 3, 'category': ROAD, 'iscrowd': 0},
    {'id': 4, 'category': CAR, 'iscrowd': 1},
]
PRED_SEGMENTS = [
    {'id': 1, 'category': CAR},
    {'id': 2, 'category': CAR},
    {'id': 3, 'category': ROAD},
    {'id': 4, 'category': BUS},
    {'id': 5, 'category': CAR},
]


def lists(gt, gt_segments, pred, pred_segments):
    areas = segment_overlaps(
        gt,
        [s['id'] for s in gt_segments],
        pred,
        [s['id'] for s in pred_segments],
    )
    matches = match_segments(areas, gt_segments, pred_segments)
    return areas, matches, gt_segments, pred_segments


@pytest.fixture
def scene():
    return lists(GT, GT_SEGMENTS, PRED, PRED_SEGMENTS)


def test_every_pixel_has_the_error_of_its_segments(scene):
    errors = pixel_errors(GT, PRED, scene[1], [s['iscrowd'] for s in GT_SEGMENTS])
    right, inexact, both = (
        PixelError.NONE,
        PixelError.INEXACT,
        PixelError.MISSED_AND_FALSE,
    )
    assert errors.tolist() == [
        [right] * 3
        + [inexact]
        + [both] * 3
        + [PixelError.FALSE]
        + [right] * 6
        + [PixelError.FALSE] * 2
        + [PixelError.IGNORED] * 2
    ]


def test_missed_and_void_pixels_of_the_prediction_are_missed():
    gt = np.array([[1, 1, 0]])
    found = lists(gt, GT_SEGMENTS[:1], np.zeros_like(gt), [])
    errors = pixel_errors(gt, np.zeros_like(gt), found[1], [False])
    assert errors.tolist() == [[2, 2, 5]]


def test_what_was_there_instead_is_the_segment_with_the_largest_overlap(scene):
    missed, false = confused_segments(*scene, NUM_CLASSES)
    assert np.argwhere(missed).tolist() == [[BUS, CAR]]
    # The car is three pixels on the bus and one on void, the bus is on the road.
    assert np.argwhere(false).tolist() == [[CAR, BUS], [BUS, ROAD]]
    assert missed.sum() == 1
    assert false.sum() == 2


def test_a_segment_where_nothing_was_predicted_is_taken_for_void():
    gt = np.array([[1, 1, 1, 2, 2]])
    pred = np.array([[0, 0, 5, 0, 0]])
    missed, false = confused_segments(
        *lists(gt, GT_SEGMENTS[:2], pred, [{'id': 5, 'category': BUS}]), NUM_CLASSES
    )
    assert np.argwhere(missed).tolist() == [[CAR, VOID], [BUS, VOID]]
    assert np.argwhere(false).tolist() == [[BUS, CAR]]


def test_parts_of_a_segment_are_confused_with_their_own_class():
    gt = np.array([[1] * 10])
    pred = np.array([[1] * 4 + [2] * 4 + [0] * 2])
    found = lists(gt, GT_SEGMENTS[:1], pred, PRED_SEGMENTS[:2])
    missed, false = confused_segments(*found, NUM_CLASSES)
    assert missed[CAR].tolist() == [1, 0, 0, 0]
    assert false[CAR].tolist() == [2, 0, 0, 0]


def test_counts_by_size_are_sorted_by_the_true_size_and_false_ones_by_their_own(scene):
    # Areas: car 4, bus 3, road 8; the false car has 4, the false bus 2.
    small, middle, large = quality_by_size(*scene, NUM_CLASSES, bounds=[2, 2.5])
    assert small.fn.tolist() == [0, 1, 0]
    assert small.fp.tolist() == [0, 1, 0]
    assert small.tp.sum() == 0
    assert middle.tp.tolist() == [1, 0, 0]
    assert middle.fp.tolist() == [1, 0, 0]
    assert large.tp.tolist() == [0, 0, 1]
    assert large.iou[ROAD] == 6 / 8


def test_counts_by_size_add_up_to_those_of_the_metric(panoptic_images):
    for gt_ids, gt_segments, pred_ids, pred_segments in panoptic_images[:10]:
        found = lists(gt_ids, gt_segments, pred_ids, pred_segments)
        parts = quality_by_size(*found, 5, bounds=[3, 5, 9])
        total = sum(parts, start=PanopticQualityStat.zeros(5))
        metric = panoptic_quality_stats(gt_ids, gt_segments, pred_ids, pred_segments, 5)
        for key in ('tp', 'fp', 'fn'):
            assert (getattr(total, key) == getattr(metric, key)).all()
        np.testing.assert_allclose(total.iou, metric.iou, rtol=1e-12)
