# Licensed under the Apache License, Version 2.0. See LICENSE.
import random

import numpy as np
import pytest

from mmdet_efficientps.datasets.transforms import PanopticCopyPaste
from mmdet_efficientps.datasets.transforms.copy_paste import paste_segments
from mmdet_efficientps.structures.panoptic.index_map import (
    SEGMENT_DTYPE,
    label_map,
    segment_table,
)

VOID = 255
ROAD, CAR, BUS, GROUP = (7, 0, 0), (1, 1, 0), (2, 1, 0), (1, 1, 1)


def image(index_map, *segments, value):
    """Result dict of an index map with a plain image of one value."""
    index_map = np.array(index_map, dtype=np.uint8)
    return {
        'img': np.full((*index_map.shape, 3), value, dtype=np.uint8),
        'gt_seg_map': index_map,
        'gt_segments': segment_table(np.array(list(segments), dtype=SEGMENT_DTYPE)),
    }


@pytest.fixture
def target():
    return image([[VOID, 0, 0], [1, 1, 0]], ROAD, CAR, value=10)


@pytest.fixture
def source():
    return image([[0, 0, 3], [2, 1, 3]], BUS, CAR, ROAD, GROUP, value=20)


def semantic(results):
    """Semantic map as lists."""
    return label_map(results['gt_seg_map'], results['gt_segments']).tolist()


def test_instances_come_with_pixels_class_and_a_number_of_their_own(target, source):
    original = target['gt_seg_map'].copy()
    transform = PanopticCopyPaste(selected=False)
    results = transform(target | {'mix_results': [source]})
    assert semantic(results) == [[2, 2, 7], [1, 1, 7]]
    index_map = results['gt_seg_map']
    # The pasted car lies on part of the other: two cars.
    assert index_map[1, 0] == 1
    assert index_map[1, 1] not in (0, 1, VOID)
    assert results['gt_segments']['is_instance'][np.unique(index_map)].tolist() == [
        False,
        True,
        True,
        True,
    ]
    assert results['img'][..., 0].tolist() == [[20, 20, 10], [10, 20, 10]]
    np.testing.assert_array_equal(target['gt_seg_map'], original)
    assert (target['img'] == 10).all()


def test_only_wanted_classes_are_pasted(target, source):
    transform = PanopticCopyPaste(selected=False, classes=[2])
    results = transform(target | {'mix_results': [source]})
    assert semantic(results) == [[2, 2, 7], [1, 1, 7]]
    assert (results['gt_seg_map'][1] == target['gt_seg_map'][1]).all()


def test_random_choice_has_none_to_all(target, source):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the generator of mmdet's CopyPaste)
    transform = PanopticCopyPaste()
    counts = set()
    for _ in range(50):
        results = transform(target | {'mix_results': [source]})
        counts.add(int((results['img'][..., 0] == 20).sum()))
    # nothing, car (1 pixel), bus (2 pixels), both
    assert counts == {0, 1, 2, 3}


def test_number_pasted_stays_below_its_bound(target, source):
    np.random.seed(0)  # noqa: NPY002
    transform = PanopticCopyPaste(max_num_pasted=2)
    for _ in range(30):
        results = transform(target | {'mix_results': [source]})
        assert (results['img'][..., 0] == 20).sum() < 3


def test_images_of_other_size_share_their_upper_left_part(target, source):
    source = image([[0], [0], [0]], BUS, value=20)
    transform = PanopticCopyPaste(selected=False)
    results = transform(target | {'mix_results': [source]})
    assert semantic(results) == [[2, 7, 7], [2, 1, 7]]


def test_image_without_instances_pastes_nothing(target):
    source = image([[0, 0, 1]] * 2, ROAD, GROUP, value=20)
    results = PanopticCopyPaste()(target | {'mix_results': [source]})
    np.testing.assert_array_equal(results['gt_seg_map'], target['gt_seg_map'])
    assert (results['img'] == 10).all()


def test_table_without_room_grows():
    ids = np.arange(255, dtype=np.uint8)[None]
    full = segment_table(np.array([ROAD] * 255, dtype=SEGMENT_DTYPE))
    one = segment_table(np.array([CAR], dtype=SEGMENT_DTYPE))
    other = np.full_like(ids, VOID)
    other[0, 3] = 0
    index_map, segments, _ = paste_segments((ids, full), (other, one), np.array([0]))
    assert index_map.dtype == np.uint16
    assert index_map[0, 3] == 256
    expected = np.full(255, 7)
    expected[3] = 1
    assert label_map(index_map, segments)[0].tolist() == expected.tolist()


def test_index_is_always_one_of_the_data_set():
    random.seed(0)
    indices = {PanopticCopyPaste().get_indexes([None] * 3) for _ in range(100)}
    assert indices == {0, 1, 2}


def test_missing_other_image_is_explained(target):
    with pytest.raises(ValueError, match='MultiImageMixDataset'):
        PanopticCopyPaste()(target)
