# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
from mmdet.structures.mask import BitmapMasks

from mmdet_efficientps.structures.panoptic.index_map import (
    SEGMENT_DTYPE,
    label_map,
    make_index_map,
    measure_segments,
    panoptic_targets,
    segment_table,
)

VOID = 255


def table(*rows):
    """Table of an index map from (label, is_instance, is_crowd)."""
    return segment_table(np.array(list(rows), dtype=SEGMENT_DTYPE))


def test_number_255_stays_void_when_there_are_more_segments():
    ids = np.arange(301)[None]
    index_map = make_index_map(ids, range(1, 301))
    assert index_map.dtype == np.uint16
    assert index_map[0, 0] == VOID
    assert sorted(index_map[0]) == list(range(301))
    segments = table(*((k % 7, False, False) for k in range(300)))
    assert label_map(index_map, segments).tolist() == [
        [VOID, *(k % 7 for k in range(300))]
    ]


def test_255_segments_fit_into_bytes():
    index_map = make_index_map(np.arange(256)[None], range(1, 256))
    assert index_map.dtype == np.uint8
    assert index_map[0].tolist() == [VOID, *range(255)]


@pytest.mark.parametrize('seed', range(3))
def test_areas_and_boxes_are_those_of_the_bitmaps(seed):
    rng = np.random.default_rng(seed)
    index_map = rng.choice([0, 1, 3, 255], size=(9, 13), p=[0.02, 0.2, 0.7, 0.08])
    areas, boxes = measure_segments(index_map.astype(np.uint8), 256)
    bitmaps = BitmapMasks(np.stack([index_map == k for k in range(256)]), 9, 13)
    assert areas.tolist() == bitmaps.areas.tolist()
    present = areas > 0
    expected = bitmaps.get_bboxes('hbox').tensor.numpy()
    assert boxes[present].tolist() == expected[present].tolist()
    assert (boxes[~present, 2:] == 0).all()


def test_run_across_the_end_of_a_row_is_two():
    areas, boxes = measure_segments(np.array([[0, 1], [1, 0]], np.uint8), 2)
    assert areas.tolist() == [2, 2]
    assert boxes.tolist() == [[0, 0, 2, 2], [0, 0, 2, 2]]


def test_small_instances_are_left_out_but_no_groups_and_no_stuff():
    index_map = np.array([[0, 1, 2, 2, 3, 255]], np.uint8)
    segments = table((5, True, False), (5, True, True), (6, True, False), (7, 0, 0))
    numbers, boxes, dropped = panoptic_targets(index_map, segments, min_area=2)
    assert numbers.tolist() == [1, 2]
    assert boxes.tolist() == [[1, 0, 2, 1], [2, 0, 4, 1]]
    assert dropped.tolist() == [0]


def test_segment_without_pixels_is_no_instance():
    numbers, boxes, dropped = panoptic_targets(
        np.full((2, 2), VOID, np.uint8), table((5, True, False), (5, True, True))
    )
    assert numbers.shape == dropped.shape == (0,)
    assert boxes.shape == (0, 4)
