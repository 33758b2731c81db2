# Licensed under the Apache License, Version 2.0. See LICENSE.
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet_efficientps.models import SeparableConv, SeparableConvMaskHead


def make_roi_head():
    def extractor(size):
        return dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=2),
            out_channels=8,
            featmap_strides=[4, 8],
        )

    return MODELS.build(
        ConfigDict(
            type='mmdet.EfficientPSRoIHead',
            bbox_roi_extractor=extractor(7),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=8,
                fc_out_channels=16,
                num_classes=3,
            ),
            mask_roi_extractor=extractor(14),
            mask_head=dict(
                type='SeparableConvMaskHead',
                in_channels=8,
                conv_out_channels=8,
                num_classes=3,
            ),
            test_cfg=dict(
                score_thr=0.0,
                nms=dict(type='nms', iou_threshold=0.5),
                max_per_img=10,
                mask_thr_binary=0.5,
            ),
        )
    ).eval()


def test_mask_logits_are_those_of_each_own_class_and_boxes_are_rescaled():
    torch.manual_seed(0)
    head = make_roi_head()
    x = (torch.randn(2, 8, 16, 16), torch.randn(2, 8, 8, 8))
    boxes = torch.tensor([[4.0, 8.0, 30.0, 40.0], [0.0, 0.0, 64.0, 64.0]])
    detections = [
        InstanceData(bboxes=boxes, labels=torch.tensor([2, 0])),
        InstanceData(bboxes=boxes[:1], labels=torch.tensor([1])),
    ]
    metas = [dict(scale_factor=(2.0, 4.0)), dict(scale_factor=(1.0, 1.0))]
    with torch.no_grad():
        results = head.predict_mask(x, metas, detections, rescale=True)
        rois = torch.cat([torch.tensor([[0.0], [0.0], [1.0]]), boxes[[0, 1, 0]]], dim=1)
        every_class = head._mask_forward(x, rois)['mask_preds']
    torch.testing.assert_close(results[0].mask_logits[0], every_class[0, 2])
    torch.testing.assert_close(results[0].mask_logits[1], every_class[1, 0])
    torch.testing.assert_close(results[1].mask_logits[0], every_class[2, 1])
    expected = torch.tensor([[2.0, 2.0, 15.0, 10.0], [0.0, 0.0, 32.0, 16.0]])
    torch.testing.assert_close(results[0].bboxes, expected)


def test_an_image_without_detections_has_no_mask_logits():
    head = make_roi_head()
    x = (torch.randn(1, 8, 16, 16), torch.randn(1, 8, 8, 8))
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    (results,) = head.predict_mask(
        x, [dict(scale_factor=(1.0, 1.0))], [empty], rescale=True
    )
    assert results.mask_logits.shape == (0, 28, 28)


def test_masks_are_predicted_for_sure_detections_only():
    torch.manual_seed(0)
    head = make_roi_head()
    x = (torch.randn(1, 8, 16, 16), torch.randn(1, 8, 8, 8))
    corners = torch.rand(30, 2) * 30
    proposals = InstanceData(bboxes=torch.cat([corners, corners + 20], dim=1))
    meta = dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0))
    samples = [DetDataSample(metainfo=meta)]
    masked = []
    forward = head._mask_forward

    def count(features, rois):
        masked.append(len(rois))
        return forward(features, rois)

    head._mask_forward = count
    with torch.no_grad():
        (every,) = head.predict(x, [proposals], samples)
        threshold = every.scores.median().item()
        (sure,) = head.predict(x, [proposals], samples, score_thr=threshold)
    expected = every[every.scores >= threshold]
    assert masked == [len(every), len(expected)]
    assert 0 < len(expected) < len(every)
    assert torch.equal(sure.bboxes, expected.bboxes)
    torch.testing.assert_close(sure.mask_logits, expected.mask_logits)


def test_mask_head_is_separable_and_has_no_plain_convs_left():
    head = SeparableConvMaskHead(num_classes=8)
    assert len(head.convs) == 4
    assert all(isinstance(conv, SeparableConv) for conv in head.convs)
    # 3x3 depthwise and 1x1 in place of 3x3: 4 * (9 + 256 + iABN) * 256 weights
    count = sum(p.numel() for p in head.convs.parameters())
    assert count == 4 * (256 * 9 + 256 * 256 + 2 * 512)
    with torch.no_grad():
        assert head.eval()(torch.zeros(2, 256, 14, 14)).shape == (2, 8, 28, 28)


def test_mask_head_trains_without_any_positive():
    head = SeparableConvMaskHead(num_classes=2, in_channels=8, conv_out_channels=8)
    head.train()
    loss = head(torch.zeros(0, 8, 14, 14)).sum()
    loss.backward()
    assert loss == 0
    assert head.conv_logits.weight.grad.abs().sum() == 0
