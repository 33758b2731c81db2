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


@pytest.mark.parametrize('cell', ['LSFE', 'DPC', 'ASPP'])
@pytest.mark.parametrize('scale', ['large_scale_cell', 'small_scale_cell'])
def test_each_scale_takes_any_cell(scale, cell):
    torch.manual_seed(0)
    head = make_head('BN', **{scale: cell})
    out = head(features(64, 96, batch=2))['seg_preds']
    assert tuple(out.shape) == (2, 5, 16, 24)
    out.sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def reach(head, level):
    """Distance in pixels that a change in the middle of a level of features goes."""
    head.eval()
    x = features(1024, 1024)
    before = head(x)['seg_preds']
    middle = x[level].shape[-1] // 2
    x[level][..., middle, middle] += 10
    rows, _ = (head(x)['seg_preds'] - before).abs().amax((0, 1)).nonzero(as_tuple=True)
    return 4 * (rows.max() - rows.min()).item() / 2


def test_dpc_and_aspp_look_farther_than_lsfe():
    torch.manual_seed(0)
    distances = {
        cell: reach(make_head('BN', small_scale_cell=cell), level=2)
        for cell in ('LSFE', 'DPC', 'ASPP')
    }
    # LSFE: two 3x3 convs at stride 16; DPC: three of dilation 1, 18 and 6 in height
    assert distances['DPC'] - 25 * 16 == distances['LSFE'] - 2 * 16
    # the mean over the image makes ASPP see all of it
    assert distances['ASPP'] == 1020 / 2


def test_without_mc_coarse_features_are_only_resized():
    torch.manual_seed(0)
    with_mc, without = make_head('BN'), make_head('BN', with_mc=False)
    keys = set(with_mc.state_dict()) - set(without.state_dict())
    assert {key.split('.')[0] for key in keys} == {'mc8', 'mc4'}
    without.eval()
    x = features(64, 64)
    coarse = without.dpc16(x[2]) + torch.nn.functional.interpolate(
        without.dpc32(x[3]), scale_factor=2, mode='bilinear'
    )
    l8 = without.lsfe8(x[1]) + torch.nn.functional.interpolate(
        coarse, scale_factor=2, mode='bilinear'
    )
    l4 = without.lsfe4(x[0]) + torch.nn.functional.interpolate(
        l8, scale_factor=2, mode='bilinear'
    )
    torch.testing.assert_close(without(x)['seg_feats'][:, :4], l4)


def test_unknown_cells_name_the_field():
    with pytest.raises(ValueError, match="small_scale_cell is 'PPM'.*'LSFE', 'DPC'"):
        make_head(small_scale_cell='PPM')
