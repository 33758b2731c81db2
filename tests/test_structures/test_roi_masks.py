# Licensed under the Apache License, Version 2.0. See LICENSE.
import tracemalloc

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import FCNMaskHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from pycocotools import mask as mask_api

from mmdet_efficientps.structures.roi_masks import (
    boolean_masks,
    finite_logits,
    is_usable,
    paste,
    run_length_masks,
)

NAN, INF = float('nan'), float('inf')
BOXES = torch.tensor(
    [
        [3.2, 4.5, 30.1, 40.9],
        # beyond the image, over its full height, and thin
        [-10.0, -5.0, 70.0, 80.5],
        [20.0, -30.0, 50.0, 90.0],
        [5.0, 7.0, 5.6, 30.0],
    ]
)


def decode(masks):
    return mask_api.decode(masks).transpose(2, 0, 1).astype(bool)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('threshold', [0.5, 0.7])
def test_masks_are_those_of_the_mask_head_of_mmdet(seed, threshold):
    logits = 3 * torch.randn(4, 28, 28, generator=torch.Generator().manual_seed(seed))
    detections = InstanceData(
        bboxes=BOXES.clone(), labels=torch.zeros(4, dtype=torch.long)
    )
    (expected,) = FCNMaskHead(num_classes=1).predict_by_feat(
        (logits[:, None],),
        [detections],
        [dict(ori_shape=(50, 60), scale_factor=(1.0, 1.0))],
        ConfigDict(mask_thr_binary=threshold),
        rescale=True,
    )
    masks = boolean_masks(BOXES, logits, (50, 60), threshold)
    assert torch.equal(masks, expected.masks)
    assert masks.flatten(1).any(1).all()


@pytest.mark.parametrize('threshold', [0.1, 0.5, 1.0])
def test_run_length_masks_are_the_boolean_ones(threshold):
    logits = 3 * torch.randn(4, 28, 28, generator=torch.Generator().manual_seed(0))
    masks = boolean_masks(BOXES, logits, (50, 60), threshold)
    run_lengths = run_length_masks(BOXES, logits, (50, 60), threshold)
    assert [mask['size'] for mask in run_lengths] == [[50, 60]] * 4
    assert np.array_equal(decode(run_lengths), masks.numpy())


def test_a_mask_may_be_wider_than_high():
    pasted, region = paste(torch.tensor([[8.0, -8.0]]), (0, 0, 4, 2), (2, 4))
    # cells of 2 x 2 pixels; half a cell below and above is the ring of zeros
    assert region == (slice(0, 2), slice(0, 4))
    assert pasted[0].tolist() == [4.5, 3.0, -3.0, -4.5]


@pytest.mark.parametrize('shape', [(1, 1), (12, 512), (300, 1)])
def test_an_image_may_be_a_strip(shape):
    box = torch.tensor([[0.0, 0.0, shape[1], shape[0]]])
    logits = torch.full((1, 28, 28), 8.0)
    assert boolean_masks(box, logits, shape).all()
    assert mask_api.area(run_length_masks(box, logits, shape)) == [shape[0] * shape[1]]


def test_no_detections_are_no_masks():
    boxes, logits = torch.zeros(0, 4), torch.zeros(0, 28, 28)
    assert boolean_masks(boxes, logits, (9, 7)).shape == (0, 9, 7)
    assert run_length_masks(boxes, logits, (9, 7)) == []


@pytest.mark.parametrize(
    'box',
    [
        [8, 8, 8, 12],
        [12, 12, 8, 8],
        [NAN, 8, 12, 12],
        [0, 0, INF, 12],
        [20, 2, 30, 6],
    ],
)
def test_a_box_without_area_in_the_image_has_an_empty_mask(box):
    boxes = torch.tensor([box, [2, 2, 6, 6]], dtype=torch.float32)
    logits = torch.full((2, 4, 4), 8.0)
    masks = boolean_masks(boxes, logits, (16, 16))
    assert masks.sum((1, 2)).tolist() == [0, 16]
    run_lengths = run_length_masks(boxes, logits, (16, 16))
    assert mask_api.area(run_lengths).tolist() == [0, 16]


def test_a_mask_is_off_around_a_logit_that_is_no_number_and_no_other_mask_is():
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8]])
    logits = torch.full((2, 8, 8), INF)
    logits[0, 0, 0] = NAN
    masks = boolean_masks(boxes, logits, (8, 8))
    assert not masks[0, 0, 0]
    assert masks[0, 2:, 2:].all()
    assert masks[1].all()
    assert np.array_equal(decode(run_length_masks(boxes, logits, (8, 8))), masks)


def test_half_precision_logits_make_the_same_masks():
    logits = torch.randn(4, 28, 28, generator=torch.Generator().manual_seed(0)).half()
    expected = boolean_masks(BOXES, logits.float(), (50, 60))
    assert torch.equal(boolean_masks(BOXES, logits, (50, 60)), expected)


@pytest.mark.parametrize('threshold', [-1, 0, 1.5, NAN])
@pytest.mark.parametrize('make', [boolean_masks, run_length_masks])
def test_a_threshold_that_is_no_probability_names_the_field(make, threshold):
    with pytest.raises(ValueError, match='test_cfg.rcnn.mask_thr_binary'):
        make(BOXES, torch.zeros(4, 28, 28), (50, 60), threshold)


def test_detections_to_fuse_have_area_a_score_and_a_mask_of_numbers():
    boxes = torch.tensor([[0.0, 0, 4, 4]]).repeat(6, 1)
    boxes[1, 2] = 0
    boxes[2, 0] = -INF
    scores = torch.tensor([0.9, 0.9, 0.9, NAN, 0.9, 0.9])
    logits = torch.zeros(6, 2, 2)
    logits[4, 1, 1] = NAN
    # an infinite logit is a clear answer
    logits[5, 0, 0] = -INF
    usable = is_usable(boxes, scores, logits)
    assert usable.tolist() == [True, False, False, False, False, True]
    assert is_usable(boxes[:0], scores[:0], logits[:0]).tolist() == []


def test_one_can_calculate_with_finite_logits():
    logits = finite_logits(torch.tensor([1.5, INF, -INF, NAN, 3e38]))
    assert logits.dtype == torch.float32
    assert logits[0] == 1.5
    assert (logits[1:] == torch.tensor([1e30, -1e30, -1e30, 1e30])).all()
    assert torch.lerp(logits[1], logits[2], 0.5).isfinite()


def test_run_length_masks_of_a_large_image_take_the_memory_of_one_box():
    # 200 boolean masks would be 400 MB; numpy's share of the work is counted here.
    boxes = torch.tensor([[100.0, 100, 164, 164]]).repeat(200, 1)
    logits = torch.full((200, 28, 28), 8.0)
    tracemalloc.start()
    masks = run_length_masks(boxes, logits, (1024, 2048))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask_api.area(masks).tolist() == [64 * 64] * 200
    assert peak < 2e6
