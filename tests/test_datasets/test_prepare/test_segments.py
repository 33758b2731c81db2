# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest

from mmdet_efficientps.datasets.prepare import segments


def test_segments_have_tight_boxes_and_areas():
    values = np.zeros((5, 8), np.uint16)
    values[1:3, 2:6] = 26001
    values[2, 7] = 26001
    values[4] = 65535
    ids, found = segments.collect_segments(
        values, lambda value: (value * 2, 9, 1) if value else None
    )
    np.testing.assert_array_equal(ids, values.astype(int) * 2)
    assert found == [
        {'id': 52002, 'category_id': 9, 'iscrowd': 1, 'area': 9, 'bbox': [2, 1, 6, 2]},
        {'id': 131070, 'category_id': 9, 'iscrowd': 1, 'area': 8, 'bbox': [0, 4, 8, 1]},
    ]


def test_values_of_one_segment_id_make_one_segment():
    values = np.array([[1, 0, 4], [1, 2, 4]])
    ids, found = segments.collect_segments(
        values, lambda value: {1: (9, 3, 0), 2: (5, 3, 0), 4: (9, 3, 0)}.get(value)
    )
    np.testing.assert_array_equal(ids, [[9, 0, 9], [9, 5, 9]])
    assert [(s['id'], s['area'], s['bbox']) for s in found] == [
        (9, 4, [0, 0, 3, 2]),
        (5, 1, [1, 1, 1, 1]),
    ]


def test_only_values_that_occur_are_described():
    asked = []
    segments.collect_segments(np.array([[7, 7, 3]]), asked.append)
    assert asked == [3, 7]


@pytest.mark.parametrize('size', [(3, 2), (7, 9), (40, 30)])
def test_resized_ids_are_ids_that_were_there(size):
    values = np.random.default_rng(0).choice([0, 9003, 70000], (12, 17))
    resized = segments.resize_values(values, size)
    assert resized.shape == size[::-1]
    assert set(np.unique(resized)) <= {0, 9003, 70000}


def test_resized_map_takes_the_pixel_at_the_centre():
    # Centres of two columns of six are at 1.5 and 4.5, in the pixels 1 and 4.
    values = np.array([[0, 1, 2, 3, 4, 5], [10, 11, 12, 13, 14, 15]], np.uint16)
    smaller = segments.resize_values(values, (2, 2))
    np.testing.assert_array_equal(smaller, [[1, 4], [11, 14]])
    # Centres of three columns of two are at 1/3, 1 and 5/3; 1 is where pixel 1 begins.
    larger = segments.resize_values(values[:1, :2], (3, 1))
    np.testing.assert_array_equal(larger, [[0, 1, 1]])
    assert larger.dtype == np.uint16
