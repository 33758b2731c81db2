# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmdet_efficientps.evaluation.functional import constant_runs, segment_overlaps

GT_IDS, PRED_IDS = [70000, 3, 65535, 9], [255, 256, 2**24 - 1]


def id_maps(ids):
    """Id maps of 6 x 7 pixels, constant in places or noise."""
    return hnp.arrays(np.int64, (6, 7), elements=st.sampled_from([0, *ids]))


@given(gt_ids=id_maps(GT_IDS), pred_ids=id_maps(PRED_IDS))
@settings(deadline=None, max_examples=60)
def test_areas_are_those_of_the_masks(gt_ids, pred_ids):
    areas = segment_overlaps(gt_ids, GT_IDS, pred_ids, PRED_IDS)
    assert areas.shape == (5, 4)
    for row, gt_id in enumerate([0, *GT_IDS]):
        for column, pred_id in enumerate([0, *PRED_IDS]):
            both = (gt_ids == gt_id) & (pred_ids == pred_id)
            assert areas[row, column] == both.sum()


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.int64])
def test_types_and_views_do_not_matter(dtype):
    gt_ids = np.array([[1, 1, 2], [0, 2, 2]], dtype=dtype)
    pred_ids = np.array([[9, 5], [9, 0], [0, 0]], dtype=np.int32).T
    before = gt_ids.copy()
    assert segment_overlaps(gt_ids, [1, 2], pred_ids, [5, 9]).tolist() == [
        [0, 1, 0],
        [0, 0, 2],
        [3, 0, 0],
    ]
    np.testing.assert_array_equal(gt_ids, before)


def test_runs_go_on_in_the_next_row_and_end_where_any_map_changes():
    values, others, lengths = constant_runs(
        np.array([[4, 4, 7], [7, 7, 4]]), np.array([[1, 1, 1], [1, 2, 2]])
    )
    assert values.tolist() == [4, 7, 7, 4]
    assert others.tolist() == [1, 1, 2, 2]
    assert lengths.tolist() == [2, 2, 1, 1]


def test_errors_say_which_map_is_wrong():
    with pytest.raises(ValueError, match=r'ground truth: .*without an entry: \[5\]'):
        segment_overlaps(np.array([[5]]), [], np.array([[0]]), [])
    with pytest.raises(ValueError, match=r'prediction: .*must not repeat'):
        segment_overlaps(np.array([[0]]), [], np.array([[3]]), [3, 3])
    with pytest.raises(ValueError, match=r'differ in size: \[\(1, 2\), \(2, 1\)\]'):
        segment_overlaps(np.zeros((1, 2), int), [], np.zeros((2, 1), int), [])


def test_runs_give_the_overlaps_of_the_maps():
    rng = np.random.default_rng(0)
    gt, pred = rng.integers(0, 3, (2, 6, 9)).repeat(4, axis=2)
    ids = [1, 2]
    gt_runs, pred_runs, lengths = constant_runs(gt, pred)
    assert len(lengths) < gt.size / 2
    overlaps = segment_overlaps(gt_runs, ids, pred_runs, ids, lengths)
    expected = [[np.sum((gt == g) & (pred == p)) for p in range(3)] for g in range(3)]
    assert overlaps.tolist() == expected
