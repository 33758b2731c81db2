# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from mmengine.testing import assert_allclose


def make_head(type):
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            type=type,
            in_channels=8,
            feat_channels=8,
            anchor_generator=dict(
                type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[32]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            train_cfg=dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=0.7,
                    neg_iou_thr=0.3,
                    min_pos_iou=0.001,
                ),
                sampler=dict(
                    type='RandomSampler',
                    num=16,
                    pos_fraction=0.5,
                    add_gt_as_proposals=False,
                ),
                allowed_border=0,
                pos_weight=-1,
            ),
            test_cfg=dict(
                nms_pre=50,
                max_per_img=20,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0,
            ),
        )
    ).eval()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_proposals_of_wide_images_are_exact_in_half_precision(dtype):
    # One row of cells over 2048 pixels. Zero deltas: proposals are the anchors,
    # 256 pixels wide and centred at multiples of 32.
    head = make_head('Float32RPNHead')
    torch.nn.init.zeros_(head.rpn_reg.weight)
    torch.nn.init.zeros_(head.rpn_reg.bias)
    feats = (torch.rand(1, 8, 1, 64),)
    metas = [dict(img_shape=(32, 2048))]
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype):
        scores, deltas = head(feats)
        assert scores[0].dtype == deltas[0].dtype == torch.float32
        (proposals,) = head.predict_by_feat(scores, deltas, batch_img_metas=metas)
    left, right = proposals.bboxes[:, 0], proposals.bboxes[:, 2]
    inside = (left > 0) & (right < 2048)
    assert (left[inside] > 1024).any()
    assert_allclose(right[inside] - left[inside], torch.full_like(left[inside], 256))
    assert (left[inside] % 32 == 0).all()


def test_without_autocast_it_is_the_head_of_mmdet():
    feats = (torch.rand(2, 8, 4, 6),)
    ours, theirs = make_head('Float32RPNHead'), make_head('RPNHead')
    for a, b in zip(ours(feats), theirs(feats), strict=True):
        assert torch.equal(a[0], b[0])


def test_an_image_narrower_than_every_anchor_is_trained_on():
    # Anchors of 256 pixels on an image of 12 x 512, padded to one row of 32 pixels.
    head = make_head('Float32RPNHead')
    outputs = head((torch.rand(1, 8, 1, 16),))
    meta = dict(img_shape=(12, 512), pad_shape=(32, 512))
    box = InstanceData(
        bboxes=torch.tensor([[130.0, 0, 250, 12]]), labels=torch.zeros(1).long()
    )
    losses = head.loss_by_feat(*outputs, [box], [meta])
    assert losses['loss_rpn_cls'][0] > 0
    assert losses['loss_rpn_bbox'][0] > 0
    # the rule is back for the next image
    assert head.train_cfg.allowed_border == 0
