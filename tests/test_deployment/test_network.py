# Licensed under the Apache License, Version 2.0. See LICENSE.
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import nn

from mmdet_efficientps import get_config
from mmdet_efficientps.deployment.network import (
    DeployedNetwork,
    UnsupportedNetworkError,
)

PADDED, SIZE = (128, 160), (113, 150)
RELEASE = 'efficientps-release_effb0_16xb1-160e_cityscapes-1024x2048'
PANOPTIC_FPN = 'panoptic-fpn_lite0-small_1xb2-760_toy-city-256x512'

GENERIC = dict(
    _delete_=True,
    type='GenericRoIExtractor',
    roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2),
    out_channels=16,
    featmap_strides=[4, 8, 16, 32],
)


def build(config, **options):
    config = copy.deepcopy(config)
    config.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    torch.manual_seed(0)
    return MODELS.build(config.model).eval()


@torch.no_grad()
def expected(model, image):
    """Detections and semantic logits as the network itself predicts them."""
    meta = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=meta)
    features = model.extract_feat(image)
    proposals = model.rpn_head.predict(features, [sample], rescale=False)
    (found,) = model.roi_head.predict(features, proposals, [sample])
    seg_logits = model.semantic_head(features)['seg_preds'][0]
    return found.bboxes, found.scores, found.labels, found.mask_logits, seg_logits


def check_equal(model):
    image = torch.zeros(1, 3, *PADDED)
    generator = torch.Generator().manual_seed(0)
    image[..., : SIZE[0], : SIZE[1]] = torch.randn(3, *SIZE, generator=generator)
    with torch.no_grad():
        ours = DeployedNetwork(model)(image, torch.tensor(SIZE))
    theirs = expected(model, image)
    assert len(ours.bboxes) > 10
    for value, other in zip(ours[:5], theirs, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)
    assert (ours.bboxes[:, 2] <= SIZE[1]).all()
    assert (ours.bboxes[:, 3] <= SIZE[0]).all()


@pytest.mark.parametrize(
    'norm',
    ['InPlaceABNSync', 'InPlaceABN', 'BN', 'SyncBN'],
)
def test_every_norm_layer_is_replaced_by_what_computes_the_same(
    tiny_config, like_trained, norm
):
    norm_cfg = dict(type=norm)
    options = {
        f'{part}.norm_cfg': norm_cfg
        for part in ('backbone', 'neck', 'semantic_head', 'roi_head.mask_head')
    }
    if norm.startswith('InPlace'):
        # A residual network has its activations elsewhere.
        del options['backbone.norm_cfg']
    model = like_trained(build(tiny_config, **options))
    check_equal(model)
    layers = DeployedNetwork(model).modules()
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in layers)


@pytest.mark.parametrize('engine', ['compiled', 'torch'])
def test_either_engine_of_iabn_is_replaced(tiny_config, like_trained, engine):
    if engine == 'compiled':
        pytest.importorskip('inplace_abn')
    norm_cfg = dict(type='InPlaceABN', engine=engine)
    model = build(tiny_config, **{'neck.norm_cfg': norm_cfg})
    check_equal(like_trained(model))


@pytest.mark.parametrize(
    'options',
    [
        {'roi_head.bbox_head.reg_class_agnostic': True},
        {'roi_head.mask_head.class_agnostic': True},
        {'roi_head.mask_head.upsample_cfg': dict(type='nearest', scale_factor=2)},
        {'test_cfg.rpn.min_bbox_size': 12},
        {'test_cfg.rpn.nms_pre': -1, 'test_cfg.rpn.max_per_img': 50},
        {'test_cfg.rcnn.nms.class_agnostic': True},
        {'semantic_head.with_mc': False},
        {'neck.paths': ('top_down',)},
        {'neck': dict(_delete_=True, type='BiFPN', in_channels=[8, 16, 32, 64],
                      out_channels=16)},
        {'semantic_head': dict(_delete_=True, type='PanopticFPNHead', in_channels=16,
                               inner_channels=32, num_things_classes=0,
                               num_stuff_classes=18)},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_every_variant_of_a_part_computes_the_same(tiny_config, like_trained, options):
    model = like_trained(build(tiny_config, **options))
    check_equal(model)


def test_the_released_networks_count_their_boxes_inclusively():
    config = get_config(RELEASE)
    config.model.backbone.init_cfg = None
    # An untrained network is sure of nothing.
    model = build(config, **{'test_cfg.rcnn.score_thr': 0.05})
    torch.manual_seed(0)
    for layer in (
        model.rpn_head.rpn_cls,
        model.rpn_head.rpn_reg,
        model.roi_head.bbox_head.fc_cls,
        model.roi_head.bbox_head.fc_reg,
    ):
        nn.init.normal_(layer.weight, std=1.0)
    check_equal(model)


def test_the_network_that_is_deployed_stays_as_it_was(tiny_config, like_trained):
    model = like_trained(build(tiny_config))
    before = copy.deepcopy(model.state_dict())
    text = repr(model)
    DeployedNetwork(model)
    assert repr(model) == text
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'panoptic_fusion_head.type': 'HeuristicFusionAdapter'},
            'panoptic_fusion_head.type is HeuristicFusionAdapter',
        ),
        (
            {'test_cfg.rcnn.nms.type': 'soft_nms'},
            r"model.test_cfg.rcnn.nms.type is 'soft_nms'",
        ),
        (
            {'roi_head.mask_roi_extractor': GENERIC},
            'model.roi_head.mask_roi_extractor.type is GenericRoIExtractor',
        ),
        (
            {'rpn_head.bbox_coder.type': 'LegacyDeltaXYWHBBoxCoder'},
            'model.rpn_head.bbox_coder.type is LegacyDeltaXYWHBBoxCoder',
        ),
        (
            {'roi_head.bbox_roi_extractor.roi_layer.pool_mode': 'max'},
            "model.roi_head.bbox_roi_extractor.roi_layer.pool_mode is 'max'",
        ),
    ],
)
def test_what_cannot_be_exported_is_named_by_its_field(tiny_config, options, message):
    with pytest.raises(UnsupportedNetworkError, match=message):
        DeployedNetwork(build(tiny_config, **options))


def test_networks_of_another_type_are_refused():
    config = get_config(PANOPTIC_FPN)
    config.model.backbone.init_cfg = None
    with pytest.raises(UnsupportedNetworkError, match='model.type is PanopticFPN: '):
        DeployedNetwork(build(config))
