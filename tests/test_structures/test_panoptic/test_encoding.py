# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
from mmdet.evaluation.functional import INSTANCE_OFFSET

from mmdet_efficientps.structures.panoptic import decode_panoptic_seg, encode_panoptic


def test_ground_truth_is_encoded_as_predictions_are():
    index = np.array([[0, 1, 2, 3]])
    encoded = encode_panoptic(index, [0, 1, 0], [True, False, False], 3)
    # void, first instance of class 0, stuff 1, a crowd of class 0
    assert encoded.tolist() == [[3, INSTANCE_OFFSET, 1, 0]]


def test_what_was_encoded_comes_back():
    index = np.array([[0, 1], [2, 3]])
    ids, segments = decode_panoptic_seg(
        encode_panoptic(index, [1, 0, 0], [False, True, True], 2), 2
    )
    assert (ids == 0).tolist() == [[True, False], [False, False]]
    assert sorted(s['category'] for s in segments) == [0, 0, 1]
    assert len(np.unique(ids)) == 4


@pytest.mark.parametrize('num_classes', [1000, 1203])
def test_more_classes_than_the_encoding_has_room_for_are_refused(num_classes):
    with pytest.raises(ValueError, match=f'{num_classes} classes.*room for 999'):
        encode_panoptic(np.zeros((2, 2), int), [], [], num_classes)
