# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Boundary regions and boundary PQ, against the definition in plain loops."""

import numpy as np
import pytest

from mmdet_efficientps.evaluation.functional import (
    PanopticQualityStat,
    boundary_distance,
    boundary_overlaps,
    panoptic_quality_stats,
    segment_boundaries,
)

NUM_CLASSES = 5


def region_by_definition(ids, segment_id, distance):
    """Pixels of a segment from which it can be left in ``distance`` king's moves."""
    height, width = ids.shape
    region = set()
    for y, x in zip(*np.nonzero(ids == segment_id), strict=True):
        for dy in range(-distance, distance + 1):
            for dx in range(-distance, distance + 1):
                inside = 0 <= y + dy < height and 0 <= x + dx < width
                if not inside or ids[y + dy, x + dx] != segment_id:
                    region.add((int(y), int(x)))
    return region


def test_distance_is_two_percent_of_the_diagonal():
    assert boundary_distance((1024, 2048)) == 46
    assert boundary_distance((1024, 2048), 0.005) == 11
    assert boundary_distance((4, 6)) == 1


def test_image_border_and_other_segments_cut():
    index = np.array([[1] * 5, [1] * 5, [1] * 5, [2] * 5, [2] * 5])
    expected = [[1] * 5, [1, 0, 0, 0, 1], [1] * 5, [1] * 5, [1] * 5]
    assert segment_boundaries(index, 1).astype(int).tolist() == expected


@pytest.mark.parametrize('last', [3, 300, 70000])
def test_regions_are_those_of_the_definition_for_any_number_of_segments(last):
    rng = np.random.default_rng(last)
    index = np.kron(rng.integers(1, 4, (5, 6)), np.ones((5, 5), int))
    index[index == 3] = last
    for distance in (1, 2, 3):
        boundary = segment_boundaries(index, distance)
        for number in (1, 2, last):
            got = set(map(tuple, np.argwhere(boundary & (index == number)).tolist()))
            assert got == region_by_definition(index, number, distance)


def stats_by_definition(gt_ids, gt_segments, pred_ids, pred_segments, distance):
    """Boundary PQ of an image in sets of pixels."""

    def pixels(ids, segment_id):
        return set(map(tuple, np.argwhere(ids == segment_id).tolist()))

    def iou(gt, pred):
        return len(gt & pred) / len(gt | (pred - void))

    stat = PanopticQualityStat.zeros(NUM_CLASSES)
    void = pixels(gt_ids, 0)
    crowds = {s['category']: s['id'] for s in gt_segments if s['iscrowd']}
    matched_gt, matched_pred = set(), set()
    for gt in gt_segments:
        for pred in pred_segments:
            mask = pixels(gt_ids, gt['id']), pixels(pred_ids, pred['id'])
            if gt['category'] != pred['category'] or gt['iscrowd']:
                continue
            if not mask[0] & mask[1]:
                continue
            regions = (
                region_by_definition(gt_ids, gt['id'], distance),
                region_by_definition(pred_ids, pred['id'], distance),
            )
            quality = min(iou(*mask), iou(*regions))
            if quality > 0.5:
                stat.tp[gt['category']] += 1
                stat.iou[gt['category']] += quality
                matched_gt.add(gt['id'])
                matched_pred.add(pred['id'])
    for gt in gt_segments:
        if gt['id'] not in matched_gt and not gt['iscrowd']:
            stat.fn[gt['category']] += 1
    for pred in pred_segments:
        mask = pixels(pred_ids, pred['id'])
        ignored = void | pixels(gt_ids, crowds.get(pred['category'], 0))
        if pred['id'] not in matched_pred and len(mask & ignored) <= len(mask) / 2:
            stat.fp[pred['category']] += 1
    return stat


def test_boundary_pq_is_that_of_the_definition(panoptic_images):
    total = PanopticQualityStat.zeros(NUM_CLASSES)
    for image in panoptic_images[:40]:
        distance = boundary_distance(image[0].shape, 0.08)
        expected = stats_by_definition(*image, distance)
        got = panoptic_quality_stats(*image, NUM_CLASSES, dilation_ratio=0.08)
        np.testing.assert_allclose(got.iou, expected.iou, atol=1e-9)
        for name in ('tp', 'fp', 'fn'):
            np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
        total += got
    assert (np.array([total.tp, total.fp, total.fn]).sum(axis=1) > 5).all()


def test_large_segments_with_a_wrong_outline_lose_quality():
    gt_ids = np.zeros((60, 60), dtype=int)
    gt_ids[10:50, 10:50] = 1
    pred_ids = np.zeros_like(gt_ids)
    pred_ids[12:52, 10:50] = 1
    segments = [{'id': 1, 'category': 0, 'iscrowd': 0}]
    # void around would excuse the prediction
    gt_ids[gt_ids == 0] = 2
    gt_segments = [*segments, {'id': 2, 'category': 3, 'iscrowd': 0}]
    image = gt_ids, gt_segments, pred_ids, segments, NUM_CLASSES
    assert panoptic_quality_stats(*image).iou[0] == pytest.approx(38 / 42)
    # Two frames of 2 pixels width, 304 pixels each, one 2 rows below the other. They
    # share their sides, 4 pixels in each of 38 rows, which is a third of the union.
    ratio = 2 / np.hypot(60, 60)
    areas = boundary_overlaps(gt_ids, [1, 2], pred_ids, [1], ratio)
    assert areas[1, 1] == 38 * 4
    boundary = panoptic_quality_stats(*image, dilation_ratio=ratio)
    assert (boundary.tp[0], boundary.fp[0], boundary.fn[0]) == (0, 1, 1)
