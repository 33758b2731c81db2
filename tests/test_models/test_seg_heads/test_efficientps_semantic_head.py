# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData


def make_head(norm_type='InPlaceABN', **kwargs):
    return MODELS.build(
        dict(
            type='mmdet.EfficientPSSemanticHead',
            num_things_classes=2,
            num_stuff_classes=3,
            in_channels=8,
            inner_channels=4,
            norm_cfg=dict(type=norm_type),
            **kwargs,
        )
    )


def features(height, width, batch=1):
    return [
        torch.randn(batch, 8, -(-height // stride), -(-width // stride))
        for stride in (4, 8, 16, 32)
    ]


def samples(*maps):
    return [
        DetDataSample(gt_sem_seg=PixelData(sem_seg=torch.as_tensor(m)[None]))
        for m in maps
    ]


@pytest.mark.parametrize('size', [(64, 96), (100, 70), (33, 65)])
@pytest.mark.parametrize('norm_type', ['InPlaceABN', 'BN'])
def test_logits_are_at_stride_4_for_any_size(size, norm_type):
    out = make_head(norm_type).eval()(features(*size))
    expected = (1, 5, -(-size[0] // 4), -(-size[1] // 4))
    assert tuple(out['seg_preds'].shape) == expected


def test_loss_is_taken_at_the_size_of_the_labels():
    head = make_head(loss_seg=dict(type='BootstrappedCrossEntropyLoss', fraction=1.0))
    torch.nn.init.zeros_(head.conv_logits.weight)
    torch.nn.init.zeros_(head.conv_logits.bias)
    target = torch.full((64, 64), 255)
    target[:32] = 3
    losses = head.loss(features(64, 64, 2), samples(target, target))
    # equal logits: log 5 on the labelled half of the pixels
    torch.testing.assert_close(losses['loss_seg'], torch.tensor(5.0).log() / 2)


def test_an_image_without_labels_has_zero_loss_and_gradient():
    head = make_head()
    loss = head.loss(features(64, 64, 2), samples(*[torch.full((64, 64), 255)] * 2))
    assert loss['loss_seg'] == 0
    loss['loss_seg'].backward()
    assert head.conv_logits.weight.grad.abs().max() == 0


def test_an_image_alone_is_as_in_a_batch():
    torch.manual_seed(0)
    head = make_head().eval()
    batch = features(64, 64, 2)
    both = head(batch)['seg_preds']
    alone = head([x[1:] for x in batch])['seg_preds']
    torch.testing.assert_close(both[1:], alone)
