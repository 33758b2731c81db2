# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest

from mmdet_efficientps.structures.panoptic import id2rgb, index_segments, rgb2id


def test_ids_are_little_endian_in_rgb():
    color = np.array([[[1, 2, 3], [0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    ids = rgb2id(color)
    assert ids.tolist() == [[1 + 2 * 256 + 3 * 65536, 0, 2**24 - 1]]
    np.testing.assert_array_equal(id2rgb(ids), color)


def test_id_of_more_than_three_bytes_is_refused():
    with pytest.raises(ValueError, match='16777216'):
        id2rgb(np.array([5, 2**24]))


def test_index_follows_the_order_of_the_list():
    ids = np.array([[0, 900], [7, 900]])
    assert index_segments(ids, [7, 50, 900]).tolist() == [[0, 3], [1, 3]]


def test_index_of_a_map_of_void_needs_no_segments():
    assert index_segments(np.zeros((2, 2), np.int32), []).tolist() == [[0, 0], [0, 0]]


def test_index_names_every_unlisted_id():
    with pytest.raises(ValueError, match=r'\[7, 9\]'):
        index_segments(np.array([[9, 7, 1, 0]]), [1])


@pytest.mark.parametrize('segment_ids', [[3, 3], [0, 3]])
def test_index_refuses_repeated_and_void_ids(segment_ids):
    with pytest.raises(ValueError, match='must not repeat'):
        index_segments(np.array([[3, 0]]), segment_ids)
