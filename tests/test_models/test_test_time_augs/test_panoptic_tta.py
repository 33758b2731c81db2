# Licensed under the Apache License, Version 2.0. See LICENSE.
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.dataset import pseudo_collate

from mmdet_efficientps import get_config
from mmdet_efficientps.models.test_time_augs.panoptic_tta import merge_seg_logits

SMALL = 'efficientps_lite0-small_1xb2-760_toy-city-256x512'
RELEASE = 'efficientps-release_effb0_16xb1-160e_cityscapes-1024x2048'
FIELDS = ('bboxes', 'scores', 'labels', 'mask_logits', 'seg_logits')


def build(name):
    """An untrained network, everything it finds goes into the fusion."""
    cfg = get_config(name).model
    cfg.backbone.init_cfg = None
    cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    cfg.test_cfg.panoptic.update(score_thr=0.0, min_stuff_area=1)
    torch.manual_seed(0)
    model = MODELS.build(dict(type='PanopticTTAModel', module=cfg)).eval()
    # masks of an untrained network may be off everywhere, and are then not fused
    torch.nn.init.constant_(model.module.roi_head.mask_head.conv_logits.bias, 0.5)
    # nor does it tell its classes apart, so that the order of detections is chance
    torch.nn.init.normal_(model.module.roi_head.bbox_head.fc_cls.weight, std=0.3)
    return model


@pytest.fixture(scope='module')
def model():
    return build(SMALL)


@pytest.fixture(scope='module')
def release():
    return build(RELEASE)


def photograph(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def views_of(images, scale, ratios=(1.0,), flip=False):
    """A batch of images, resized and flipped."""
    pipeline = Compose(
        [dict(type='PanopticTestTimeAug', scale=scale, ratios=ratios, flip=flip)]
    )
    return pseudo_collate([pipeline(start(image)) for image in images])


def start(image):
    return dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])


def plain_batch(images, scale):
    pipeline = Compose(
        [
            dict(type='PanopticResize', scale=scale, keep_ratio=True),
            dict(type='PackPanopticTargets'),
        ]
    )
    return pseudo_collate([pipeline(start(image)) for image in images])


@torch.no_grad()
def predict(model, batch):
    return model.test_step(deepcopy(batch))


@torch.no_grad()
def merged(model, batch):
    return model.predict_fusion_inputs(deepcopy(batch))


def assert_equal_predictions(one, two):
    assert torch.equal(one.pred_panoptic_seg.sem_seg, two.pred_panoptic_seg.sem_seg)
    assert torch.equal(one.pred_sem_seg.sem_seg, two.pred_sem_seg.sem_seg)
    for field in ('bboxes', 'scores', 'labels', 'masks'):
        assert torch.equal(one.pred_instances[field], two.pred_instances[field]), field
    assert len(one.pred_instances) > 0


@pytest.mark.parametrize(
    ('size', 'scale'), [((64, 96), (96, 64)), ((50, 71), (96, 64))]
)
def test_one_view_as_it_is_gives_what_the_network_gives(model, size, scale):
    images = [photograph(*size, seed) for seed in range(2)]
    plain = predict(model.module, plain_batch(images, scale))
    for one, two in zip(predict(model, views_of(images, scale)), plain, strict=True):
        assert_equal_predictions(one, two)


def test_equal_views_give_what_one_gives(model):
    """The way through the merging changes nothing that views agree on."""
    images = [photograph(64, 96, seed) for seed in range(2)]
    plain = predict(model.module, plain_batch(images, (96, 64)))
    batch = views_of(images, (96, 64), ratios=(1.0, 1.0))
    for one, two in zip(predict(model, batch), plain, strict=True):
        assert_equal_predictions(one, two)


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize(
    ('network', 'offset'), [('model', 0), ('release', 1)], ids=['small', 'release']
)
def test_what_a_flipped_view_shows_is_turned_back(request, network, offset, direction):
    """The network sees one image twice: as it is, and as the mirror of its mirror.

    Inclusive boxes name pixels, so that the last of W is W - 1.
    """
    model = request.getfixturevalue(network)
    axes = {'horizontal': [1], 'vertical': [0], 'diagonal': [0, 1]}[direction]
    image = photograph(64, 96)
    mirror = np.ascontiguousarray(np.flip(image, axes))
    (plain,) = merged(model, views_of([image], (96, 64)))
    pipeline = Compose(
        [
            dict(type='RandomFlip', prob=1.0, direction=direction),
            dict(type='PackPanopticTargets'),
        ]
    )
    view = pipeline(start(mirror) | dict(scale_factor=(1.0, 1.0)))
    batch = {key: [[value]] for key, value in view.items()}
    (turned,) = merged(model, batch)

    dims = [axis - 2 for axis in axes]
    assert torch.equal(turned.seg_logits, plain.seg_logits.flip(dims))
    # RoIs are turned twice, and W - (W - x) is x but for its last bits.
    torch.testing.assert_close(
        turned.mask_logits, plain.mask_logits.flip(dims), rtol=0, atol=1e-6
    )
    assert torch.equal(turned.scores, plain.scores)
    expected = plain.bboxes.clone()
    if 1 in axes:
        expected[:, [2, 0]] = 96 - offset - plain.bboxes[:, [0, 2]]
    if 0 in axes:
        expected[:, [3, 1]] = 64 - offset - plain.bboxes[:, [1, 3]]
    assert len(expected) > 0
    torch.testing.assert_close(turned.bboxes, expected)


def test_a_mirrored_image_has_the_mirrored_result(model):
    image = photograph(64, 96)
    mirror = np.ascontiguousarray(image[:, ::-1])
    one, two = (
        merged(model, views_of([view], (96, 64), flip=True))[0]
        for view in (image, mirror)
    )
    assert torch.equal(one.seg_logits, two.seg_logits.flip(2))
    torch.testing.assert_close(one.scores, two.scores)
    torch.testing.assert_close(one.mask_logits, two.mask_logits.flip(2))
    expected = two.bboxes.clone()
    expected[:, [2, 0]] = 96 - two.bboxes[:, [0, 2]]
    torch.testing.assert_close(one.bboxes, expected)


def test_boxes_that_views_share_are_kept_once(model):
    batch = views_of([photograph(64, 96)], (96, 64), (0.75, 1.0, 1.5), flip=True)
    (inputs,) = merged(model, batch)
    assert 0 < len(inputs.scores) <= 20
    assert (inputs.scores.diff() <= 0).all()
    assert inputs.mask_logits.shape == (len(inputs.scores), 28, 28)
    for label in inputs.labels.unique():
        x1, y1, x2, y2 = inputs.bboxes[inputs.labels == label].T
        width = torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)
        height = torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)
        shared = width.clamp(min=0) * height.clamp(min=0)
        area = (x2 - x1) * (y2 - y1)
        iou = shared / (area[:, None] + area - shared)
        assert iou.fill_diagonal_(0).max() <= 0.5 + 1e-4


@pytest.mark.parametrize('size', [(37, 101), (3, 65), (1, 1)])
def test_all_views_of_any_size_make_one_result(model, size):
    images = [photograph(*size, seed) for seed in range(2)]
    batch = views_of(images, (96, 64), (0.75, 1.25, 2.0), flip=True)
    assert len(batch['inputs']) == 6
    for result in predict(model, batch):
        assert result.pred_panoptic_seg.sem_seg.shape == (1, *size)
        assert result.pred_sem_seg.sem_seg.shape == (1, *size)
        assert result.pred_instances.masks.shape[1:] == size


def test_nothing_found_in_any_view_is_a_result(model):
    cfg = model.module.roi_head.test_cfg
    before, cfg.score_thr = cfg.score_thr, 1.0
    try:
        batch = views_of([photograph(64, 96)], (96, 64), flip=True)
        (result,) = predict(model, batch)
    finally:
        cfg.score_thr = before
    assert len(result.pred_instances) == 0
    panoptic = result.pred_panoptic_seg.sem_seg
    assert torch.equal(panoptic.unique(), panoptic.unique().clamp(8, 19))


def test_heads_that_nothing_needs_do_not_run(model, monkeypatch):
    batch = views_of([photograph(64, 96)], (96, 64), flip=True)
    settings = model.module.test_cfg.panoptic

    def refuse(*args, **kwargs):
        raise AssertionError('this head was not needed')

    def switch_on(wanted):
        for kind in ('panoptic', 'instances', 'semantic'):
            monkeypatch.setitem(settings, f'with_{kind}', kind == wanted)

    with monkeypatch.context() as patch:
        patch.setattr(model.module.roi_head, 'predict_boxes', refuse)
        patch.setattr(model.module.rpn_head, 'predict', refuse)
        switch_on('semantic')
        assert 'pred_instances' not in predict(model, batch)[0]
    monkeypatch.setattr(model.module.semantic_head, 'forward', refuse)
    switch_on('instances')
    assert 'pred_sem_seg' not in predict(model, batch)[0]


def test_semantic_logits_are_averaged_on_the_finest_grid():
    """Against PyTorch's interpolation; padding has no part in it."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(3, 4, 8, generator=generator)
    fine = torch.randn(3, 8, 8, generator=generator)
    padded = F.pad(coarse, (0, 4, 0, 4), value=1e6)
    metas = [
        dict(img_shape=(16, 32), batch_input_shape=(32, 48)),
        dict(
            img_shape=(32, 32),
            batch_input_shape=(32, 32),
            flip=True,
            flip_direction='horizontal',
        ),
    ]
    resized = F.interpolate(coarse[None], (8, 8), mode='bilinear')[0]
    torch.testing.assert_close(
        merge_seg_logits([padded, fine], metas), (resized + fine.flip(2)) / 2
    )


def test_networks_of_other_kinds_are_refused():
    cfg = get_config('panoptic-fpn_lite0-small_1xb2-760_toy-city-256x512').model
    cfg.backbone.init_cfg = None
    with pytest.raises(TypeError, match='PanopticFPN: test it without --tta'):
        MODELS.build(dict(type='PanopticTTAModel', module=cfg))
