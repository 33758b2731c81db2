# Licensed under the Apache License, Version 2.0. See LICENSE.
import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_efficientps import get_config
from mmdet_efficientps.models import InPlaceABN, prepare_for_inference
from mmdet_efficientps.models.inference import (
    ChannelsLastLinear,
    fold_norms,
    pad_within_convs,
)

SMALL = 'efficientps_lite0-small_1xb2-760_toy-city-256x512'
PAPER_B0 = 'efficientps_effb0_16xb1-50k_cityscapes-1024x2048'
RELEASE_B0 = 'efficientps-release_effb0_16xb1-160e_cityscapes-1024x2048'
OTHERS = (
    'efficientps_r50_16xb1-50k_cityscapes-1024x2048',
    'efficientps_mobilenet-v2_16xb1-50k_cityscapes-1024x2048',
    'efficientps_effb5_bifpn_16xb1-50k_cityscapes-1024x2048',
    'efficientps_effb5_syncbn_16xb1-50k_cityscapes-1024x2048',
)
HEIGHT, WIDTH = 64, 128


def make_model(name):
    """A network whose norms and scores are those of a trained one, in kind."""
    cfg = get_config(name).model
    cfg.backbone.init_cfg = None
    cfg.test_cfg.rpn.max_per_img = 100
    cfg.test_cfg.rcnn.update(score_thr=0.02, max_per_img=20)
    cfg.test_cfg.panoptic.update(score_thr=0.05, min_stuff_area=1)
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.weight.uniform_(0.5, 1.5)
                module.weight[::3] *= -1
                module.bias.uniform_(-0.5, 0.5)
                module.training, module.momentum = True, 1.0
        # The norms take the statistics of what they see.
        x = model.extract_feat(make_inputs())
        model.semantic_head(x)
        rois = torch.tensor([[0.0, 8, 8, 60, 50], [0, 50, 5, 120, 60]])
        model.roi_head._mask_forward(x, rois)
        model.eval()
        # Scores that are not all nearly the same, so that rounding orders none anew.
        model.roi_head.bbox_head.fc_cls.weight.mul_(30)
        model.rpn_head.rpn_cls.weight.mul_(30)
        model.roi_head.mask_head.conv_logits.bias.fill_(1)
    return model


def make_inputs():
    torch.manual_seed(1)
    return torch.randn(1, 3, HEIGHT, WIDTH)


def make_samples():
    shape = (HEIGHT, WIDTH)
    meta = dict(img_shape=shape, ori_shape=shape, batch_input_shape=shape)
    return [DetDataSample(metainfo=dict(meta, scale_factor=(1.0, 1.0)))]


@torch.no_grad()
def outputs(model):
    """What every part computes, on RoIs that do not depend on it."""
    x = model.extract_feat(make_inputs())
    # So many that what rounding does to them is no matter of chance.
    corners = 100 * torch.rand(30, 2, generator=torch.Generator().manual_seed(2))
    sides = 5 + 60 * torch.rand(30, 2, generator=torch.Generator().manual_seed(3))
    rois = torch.cat([torch.zeros(30, 1), corners - 20, corners - 20 + sides], 1)
    bbox, mask = model.roi_head._bbox_forward(x, rois), None
    mask = model.roi_head._mask_forward(x, rois)['mask_preds']
    scores, deltas = model.rpn_head(x)
    semantic = model.semantic_head(x)['seg_preds']
    return [
        *scores, *deltas, semantic, bbox['cls_score'], bbox['bbox_pred'], mask
    ]  # fmt: skip


@torch.no_grad()
def predict(model):
    return model.predict(make_inputs(), make_samples())[0]


def assert_same_up_to_rounding(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        assert b.std() > 0
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4 * b.abs().max().item())


@pytest.fixture(scope='module', params=[SMALL, PAPER_B0, RELEASE_B0])
def model(request):
    return make_model(request.param)


@pytest.mark.parametrize('channels_last', [True, False])
def test_a_prepared_network_computes_the_same(model, channels_last):
    prepared = prepare_for_inference(model, channels_last=channels_last)
    assert_same_up_to_rounding(outputs(prepared), outputs(model))


def test_a_prepared_network_predicts_the_same(model):
    expected, result = predict(model), predict(prepare_for_inference(model))
    panoptic = expected.pred_panoptic_seg.sem_seg
    assert panoptic.max() >= 1000, 'nothing to compare'
    assert (result.pred_panoptic_seg.sem_seg != panoptic).float().mean() < 0.001
    assert (
        result.pred_sem_seg.sem_seg != expected.pred_sem_seg.sem_seg
    ).float().mean() < 0.001
    ours, theirs = result.pred_instances, expected.pred_instances
    assert len(theirs) > 2
    # Rounding may put two of nearly the same score the other way round.
    distance, match = torch.cdist(ours.bboxes, theirs.bboxes, p=torch.inf).min(1)
    assert len(match.unique()) == len(ours) == len(theirs)
    assert distance.max() < 0.02
    torch.testing.assert_close(ours.scores, theirs.scores[match], rtol=1e-3, atol=1e-4)
    assert torch.equal(ours.labels, theirs.labels[match])


def test_the_network_itself_stays_as_it_is(model):
    before = copy.deepcopy(model.state_dict())
    prepared = prepare_for_inference(model, dtype=torch.bfloat16)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not {id(p) for p in model.parameters()} & {
        id(p) for p in prepared.parameters()
    }
    assert any(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in prepared.parameters())


def test_no_norm_is_left_and_rois_are_gathered(model):
    prepared = prepare_for_inference(model)
    assert not [m for m in prepared.modules() if isinstance(m, _BatchNorm)]
    assert prepared.roi_head.bbox_roi_extractor.gathers
    assert prepared.roi_head.mask_roi_extractor.gathers
    assert not model.roi_head.bbox_roi_extractor.gathers


@pytest.mark.slow
@pytest.mark.parametrize('name', OTHERS)
def test_other_parts_are_prepared_as_well(name):
    # In double precision, where rounding of so many layers cannot be taken for a fault.
    model = make_model(name).double()
    prepared = prepare_for_inference(model)
    assert not [m for m in prepared.modules() if isinstance(m, _BatchNorm)]
    x = make_inputs().double()
    for ours, expected in zip(
        neck_and_logits(prepared, x), neck_and_logits(model, x), strict=True
    ):
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


@torch.no_grad()
def neck_and_logits(model, x):
    x = model.extract_feat(x)
    return [*x, model.semantic_head(x)['seg_preds']]


def test_what_leaves_the_parts_is_float32_in_half_precision():
    model = make_model(SMALL)
    prepared = prepare_for_inference(model, dtype=torch.float16)
    assert prepared.backbone.layers[0].conv.weight.dtype == torch.float16
    # What autocast loses, layer after layer, is the measure.
    with torch.autocast('cpu', torch.float16):
        casted = outputs(model)
    for ours, other, expected in zip(
        outputs(prepared), casted, outputs(model), strict=True
    ):
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() < 1.5 * (other.float() - expected).norm()
    result = predict(prepared)
    assert result.pred_instances.bboxes.dtype == torch.float32
    assert result.pred_panoptic_seg.sem_seg.shape == (1, HEIGHT, WIDTH)


@pytest.mark.slow  # for the import of the compiler
def test_compiled_is_what_works_on_whole_maps():
    prepared = prepare_for_inference(make_model(SMALL), compile=True)
    compiled = {n for n, m in prepared.named_modules() if m._compiled_call_impl}
    assert compiled == {'backbone', 'neck', 'semantic_head', 'rpn_head'}


def test_roi_layers_of_mmcv_get_what_they_can_read():
    extractor = MODELS.build(
        ConfigDict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            out_channels=4,
            featmap_strides=[4, 8],
        )
    )
    feats = tuple(torch.randn(1, 4, 32 >> k, 32 >> k) for k in range(2))
    rois = bbox2roi([torch.tensor([[4.0, 8, 60, 90], [0, 0, 128, 128]])])
    expected = extractor(feats, rois)
    last = tuple(f.contiguous(memory_format=torch.channels_last) for f in feats)
    assert torch.equal(prepare_for_inference(extractor)(last, rois), expected)


def make_norm(cls, channels, **kwargs):
    norm = cls(channels, **kwargs).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1.5, 1.5, channels))
        norm.bias.copy_(torch.linspace(1, -1, channels))
        norm.running_mean.copy_(torch.linspace(-0.3, 0.7, channels))
        norm.running_var.copy_(torch.linspace(0.2, 3, channels))
    return norm


@pytest.mark.parametrize(
    'norm',
    [
        make_norm(nn.BatchNorm2d, 6),
        make_norm(nn.SyncBatchNorm, 6),
        make_norm(InPlaceABN, 6, engine='torch', activation_param=0.2),
        make_norm(InPlaceABN, 6, engine='torch', eps=0.1),
        make_norm(InPlaceABN, 6, engine='torch', activation='identity'),
    ],
)
@pytest.mark.parametrize('bias', [True, False])
@torch.no_grad()
def test_conv_and_norm_become_a_conv(norm, bias):
    block = nn.Sequential(nn.Conv2d(4, 6, 3, bias=bias), copy.deepcopy(norm)).eval()
    x = torch.randn(2, 4, 9, 9)
    expected = block(x)
    fold_norms(block)
    assert not isinstance(block[1], _BatchNorm)
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
def test_norms_that_follow_no_conv_of_their_own_stay():
    orders = (('norm', 'conv', 'act'), ('conv', 'act', 'norm'))
    other_orders = [
        ConvModule(6, 6, 1, norm_cfg=dict(type='BN'), order=order) for order in orders
    ]
    shared = nn.Conv2d(6, 6, 1)
    twice = nn.Sequential(
        shared, make_norm(nn.BatchNorm2d, 6), shared, make_norm(nn.BatchNorm2d, 6)
    )
    no_statistics = nn.Sequential(
        nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, track_running_stats=False)
    )
    between = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(), make_norm(nn.BatchNorm2d, 6))
    model = nn.Sequential(*other_orders, twice, no_statistics, between).eval()
    for block in other_orders:
        block.bn.load_state_dict(make_norm(nn.BatchNorm2d, 6).state_dict())
    x = torch.randn(1, 6, 5, 5)
    expected = model(x)
    fold_norms(model)
    assert len([m for m in model.modules() if isinstance(m, _BatchNorm)]) == 6
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize('size', [(8, 8), (7, 10)])
@pytest.mark.parametrize(('kernel', 'dilation'), [(3, 1), (5, 1), (3, 2)])
@torch.no_grad()
def test_convs_of_stride_one_pad_themselves(size, kernel, dilation):
    net = nn.Sequential(
        Conv2dAdaptivePadding(4, 4, kernel, dilation=dilation, groups=4, bias=False),
        Conv2dAdaptivePadding(4, 4, 3, stride=2),
    )
    x = torch.randn(1, 4, *size)
    expected = net(x)
    pad_within_convs(net)
    assert type(net[0]) is nn.Conv2d
    assert type(net[1]) is Conv2dAdaptivePadding
    torch.testing.assert_close(net(x), expected)


@torch.no_grad()
def test_a_linear_layer_reads_maps_as_they_lie():
    linear = nn.Linear(5 * 3 * 4, 7)
    x = torch.randn(2, 5, 3, 4)
    ours = ChannelsLastLinear(linear, 5)
    torch.testing.assert_close(ours(x), linear(x.flatten(1)))
