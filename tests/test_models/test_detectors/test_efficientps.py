# Licensed under the Apache License, Version 2.0. See LICENSE.
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

from mmdet_efficientps import get_config
from mmdet_efficientps.models import InPlaceABN, InPlaceABNSync
from mmdet_efficientps.structures.run_length_masks import masks_to_rle

CONFIG = (
    Path(__file__).parents[3]
    / 'configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'
)

RELEASE = 'efficientps-release_effb0_16xb1-160e_cityscapes-1024x2048'


@pytest.fixture(scope='module')
def cfg():
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.init_cfg = None
    # everything an untrained network finds goes into the fusion
    cfg.test_cfg.rcnn.score_thr = 0.0
    cfg.test_cfg.panoptic.score_thr = 0.0
    return cfg


@pytest.fixture(scope='module')
def model(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    # masks of an untrained network may be off everywhere, and are then not fused
    torch.nn.init.constant_(model.roi_head.mask_head.conv_logits.bias, 1.0)
    return model


def make_sample(height, width, num_things, labelled=True, ignored=0):
    """A training sample with rectangles as things and one stuff class."""
    sample = DetDataSample()
    sample.set_metainfo(
        dict(
            img_shape=(height, width),
            ori_shape=(height, width),
            scale_factor=(1.0, 1.0),
            pad_shape=(height, width),
        )
    )
    sem = np.full((height, width), 18 if labelled else 255, dtype=np.uint8)
    for name, count in (('gt_instances', num_things), ('ignored_instances', ignored)):
        boxes, masks = [], np.zeros((count, height, width), dtype=np.uint8)
        for i in range(count):
            x, y = 4 + 8 * i, 6 + 4 * i
            boxes.append([x, y, x + 20, y + 16])
            masks[i, y : y + 16, x : x + 20] = 1
            sem[y : y + 16, x : x + 20] = 2
        instances = InstanceData(
            bboxes=HorizontalBoxes(np.array(boxes, dtype=np.float32).reshape(-1, 4)),
            masks=BitmapMasks(masks, height, width),
        )
        instances.labels = torch.full((count,), 2)
        setattr(sample, name, instances)
    sample.gt_sem_seg = PixelData(sem_seg=torch.as_tensor(sem)[None])
    return sample


def make_batch(*samples):
    images = [
        torch.randint(0, 255, (3, *s.img_shape), dtype=torch.uint8) for s in samples
    ]
    return dict(inputs=images, data_samples=list(samples))


LOSSES = {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'}


@pytest.mark.parametrize(
    'samples',
    [
        [dict(num_things=3), dict(num_things=1, ignored=2)],
        [dict(num_things=0), dict(num_things=0)],
        [dict(num_things=0, labelled=False), dict(num_things=0, labelled=False)],
        [dict(num_things=0, ignored=1), dict(num_things=2)],
    ],
    ids=['things', 'no thing', 'nothing labelled', 'only a crowd'],
)
def test_every_kind_of_image_trains(model, samples):
    model.train()
    model.zero_grad()
    batch = make_batch(*[make_sample(64, 96, **s) for s in samples])
    data = model.data_preprocessor(batch, training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    assert LOSSES | {'loss_seg'} <= losses.keys()
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # distributed training waits for every one of them
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_loss_leaves_the_ground_truth_alone(model):
    batch = make_batch(make_sample(64, 96, num_things=3))
    data = model.data_preprocessor(batch, training=True)
    before = deepcopy(data['data_samples'][0])
    model.train()
    model.loss(data['inputs'], data['data_samples'])
    after = data['data_samples'][0]
    assert torch.equal(after.gt_instances.labels, before.gt_instances.labels)
    assert torch.equal(after.gt_instances.bboxes, before.gt_instances.bboxes)
    assert torch.equal(after.gt_sem_seg.sem_seg, before.gt_sem_seg.sem_seg)


def predict(model, image, ori_shape=None):
    height, width = image.shape[1:]
    ori_shape = ori_shape or (height, width)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(height, width),
            ori_shape=ori_shape,
            scale_factor=(width / ori_shape[1], height / ori_shape[0]),
        )
    )
    with torch.no_grad():
        return model.eval().test_step(dict(inputs=[image], data_samples=[sample]))[0]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_trains_and_predicts(model, dtype):
    model.train()
    model.zero_grad()
    batch = make_batch(make_sample(64, 96, 3), make_sample(64, 96, 0))
    data = model.data_preprocessor(batch, training=True)
    with torch.autocast('cpu', dtype=dtype):
        losses = model.loss(data['inputs'], data['data_samples'])
    total, _ = model.parse_losses(losses)
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    total.backward()
    with torch.autocast('cpu', dtype=dtype):
        result = predict(model, batch['inputs'][0], (64, 96))
    assert len(result.pred_instances) > 0
    assert result.pred_instances.bboxes.dtype == torch.float32
    assert result.pred_panoptic_seg.sem_seg.shape == (1, 64, 96)


@pytest.mark.parametrize(
    ('shape', 'ori_shape'), [((64, 96), (64, 96)), ((50, 70), (101, 139))]
)
def test_one_pass_predicts_all_three_at_the_original_size(model, shape, ori_shape):
    image = torch.randint(0, 255, (3, *shape), dtype=torch.uint8)
    result = predict(model, image, ori_shape)
    panoptic = result.pred_panoptic_seg.sem_seg
    assert panoptic.shape == (1, *ori_shape)
    classes = panoptic % INSTANCE_OFFSET
    is_instance = panoptic >= INSTANCE_OFFSET
    assert (classes[is_instance] < 8).all()
    assert ((classes[~is_instance] >= 8) & (classes[~is_instance] <= 19)).all()
    instances = result.pred_instances
    assert len(instances) > 0
    assert instances.masks.shape == (len(instances), *ori_shape)
    assert instances.masks.dtype == torch.bool
    assert (instances.bboxes >= 0).all()
    assert (instances.bboxes[:, 2] <= ori_shape[1] + 1e-3).all()
    assert (instances.bboxes[:, 3] <= ori_shape[0] + 1e-3).all()
    assert result.pred_sem_seg.sem_seg.shape == (1, *ori_shape)
    assert result.pred_sem_seg.sem_seg.max() < 19


@pytest.mark.parametrize(
    ('switch', 'field'),
    [
        ('with_panoptic', 'pred_panoptic_seg'),
        ('with_instances', 'pred_instances'),
        ('with_semantic', 'pred_sem_seg'),
    ],
)
def test_each_prediction_can_be_switched_off(cfg, switch, field):
    cfg = deepcopy(cfg)
    cfg.test_cfg.panoptic[switch] = False
    model = MODELS.build(cfg)
    result = predict(model, torch.zeros(3, 64, 64, dtype=torch.uint8))
    fields = {'pred_panoptic_seg', 'pred_instances', 'pred_sem_seg'}
    assert fields & set(result.keys()) == fields - {field}


@pytest.mark.parametrize(
    ('wanted', 'idle'),
    [
        ('with_semantic', ('rpn_head', 'roi_head')),
        ('with_instances', ('semantic_head',)),
    ],
)
def test_heads_that_nothing_needs_do_not_run(cfg, wanted, idle):
    model = MODELS.build(deepcopy(cfg))
    for switch in ('with_panoptic', 'with_instances', 'with_semantic'):
        model.test_cfg.panoptic[switch] = switch == wanted

    def refuse(*args, **kwargs):
        raise AssertionError('this head was not needed')

    for name in idle:
        head = getattr(model, name)
        head.forward = head.predict = refuse
    predict(model, torch.zeros(3, 64, 64, dtype=torch.uint8))


def test_run_length_masks_are_those_of_the_bitmaps(cfg, model):
    image = torch.randint(0, 255, (3, 50, 70), dtype=torch.uint8)
    bitmaps = predict(model, image, (101, 139))
    encoding = MODELS.build(deepcopy(cfg))
    encoding.load_state_dict(model.state_dict())
    encoding.test_cfg.panoptic.mask_format = 'rle'
    result = predict(encoding, image, (101, 139))
    assert result.pred_instances.masks == masks_to_rle(bitmaps.pred_instances.masks)
    assert len(result.pred_instances) > 0
    assert torch.equal(result.pred_instances.scores, bitmaps.pred_instances.scores)


def test_an_unknown_mask_format_names_the_field(cfg):
    model = MODELS.build(deepcopy(cfg))
    model.test_cfg.panoptic.mask_format = 'polygon'
    with pytest.raises(ValueError, match="panoptic.mask_format is 'polygon'.*'rle'"):
        predict(model, torch.zeros(3, 64, 64, dtype=torch.uint8))


def test_a_network_without_things_is_refused_at_the_start(cfg):
    cfg = deepcopy(cfg)
    cfg.panoptic_fusion_head.num_things_classes = 0
    with pytest.raises(ValueError, match='num_things_classes is 0.*stuff alone'):
        MODELS.build(cfg)


STRIPS = [(12, 512), (1, 1), (1, 300), (300, 1), (512, 12), (2, 33)]


@pytest.fixture(scope='module', params=['small', 'release b0'])
def network(request, cfg):
    if request.param == 'small':
        network_cfg = deepcopy(cfg)
    else:
        network_cfg = get_config(RELEASE).model
        network_cfg.backbone.init_cfg = None
        network_cfg.test_cfg.rcnn.score_thr = 0.0
        network_cfg.test_cfg.panoptic.score_thr = 0.0
    torch.manual_seed(0)
    return MODELS.build(network_cfg)


@pytest.mark.parametrize('shape', STRIPS)
def test_a_strip_is_predicted(network, shape):
    image = torch.randint(0, 255, (3, *shape), dtype=torch.uint8)
    result = predict(network, image)
    assert result.pred_panoptic_seg.sem_seg.shape == (1, *shape)
    assert result.pred_sem_seg.sem_seg.shape == (1, *shape)
    assert result.pred_instances.masks.shape[1:] == shape


@pytest.mark.parametrize('shape', STRIPS)
def test_a_strip_trains_beside_another_image(network, shape):
    height, width = shape
    strip = make_sample(height, width, num_things=0)
    strip.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(np.array([[0, 0, width, height]], np.float32)),
        labels=torch.tensor([2]),
        masks=BitmapMasks(np.ones((1, height, width), np.uint8), height, width),
    )
    network.train()
    batch = make_batch(strip, make_sample(64, 96, num_things=1))
    data = network.data_preprocessor(batch, training=True)
    losses = network.loss(data['inputs'], data['data_samples'])
    total, _ = network.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()


def test_a_single_value_per_channel_cannot_train_and_says_so(model):
    # 1 x 1 pixels are padded to 32 x 32, which is one cell at stride 32.
    model.train()
    batch = make_batch(make_sample(1, 1, num_things=0))
    data = model.data_preprocessor(batch, training=True)
    with pytest.raises(ValueError, match='more than one value per channel.*larger'):
        model.loss(data['inputs'], data['data_samples'])


@pytest.mark.parametrize('name', ['mmdet.InPlaceABNSync', InPlaceABNSync])
def test_every_name_of_a_norm_makes_the_same_network(cfg, name):
    def build(kind):
        own = deepcopy(cfg)
        own.backbone.norm_cfg = dict(type=kind, eps=1e-3)
        own.backbone.act_cfg = dict(type='LeakyReLU', negative_slope=0.3)
        own.roi_head.mask_head.type = 'SeparableConvMaskHead'
        for part in (own.neck, own.semantic_head, own.roi_head.mask_head):
            part.norm_cfg = dict(type=kind)
            part.act_cfg = dict(type='LeakyReLU', negative_slope=0.3)
        return MODELS.build(own)

    def activations(network):
        return {
            key: (layer.activation, layer.activation_param)
            for key, layer in network.named_modules()
            if isinstance(layer, InPlaceABN)
        } | {
            key: layer.negative_slope
            for key, layer in network.named_modules()
            if isinstance(layer, torch.nn.LeakyReLU)
        }

    expected = activations(build('InPlaceABNSync'))
    assert len(expected) > 80
    assert activations(build(name)) == expected


def test_panoptic_map_does_not_depend_on_what_else_is_predicted(cfg, model):
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    alone = MODELS.build(deepcopy(cfg))
    alone.load_state_dict(model.state_dict())
    scores = predict(model, image).pred_instances.scores
    # half of the detections are for AP only
    for network in (model, alone):
        network.panoptic_fusion_head.test_cfg.score_thr = scores.median().item()
    both = predict(model, image)
    alone.test_cfg.panoptic.with_instances = False
    alone.test_cfg.panoptic.with_semantic = False
    result = predict(alone, image)
    model.panoptic_fusion_head.test_cfg.score_thr = 0.0
    assert 'pred_instances' not in result
    expected = both.pred_panoptic_seg.sem_seg
    assert torch.equal(result.pred_panoptic_seg.sem_seg, expected)
    assert (expected >= INSTANCE_OFFSET).any()


def test_padding_by_a_larger_image_in_the_batch_does_not_move_anything(cfg):
    # The receptive field reaches into the padding, so features near the border may
    # differ: what must not differ is where things are. A network whose semantic
    # logits are a function of place alone shows just that.
    model = MODELS.build(deepcopy(cfg)).eval()

    def logits_of_place(x):
        height, width = x[0].shape[2:]
        rows = torch.arange(height).view(1, 1, -1, 1).expand(len(x[0]), 1, -1, width)
        planes = torch.full((len(x[0]), 19, height, width), -9.0)
        planes[:, 8:9] = 0.0
        # class 10 from row 8 of the stride-4 map on, that is from pixel 32 on
        planes[:, 10:11] = rows - 7.5
        return dict(seg_preds=planes)

    model.semantic_head.forward = logits_of_place
    model.test_cfg.panoptic.with_instances = False
    model.panoptic_fusion_head.test_cfg.score_thr = 2.0  # no instance is this sure
    small = torch.randint(0, 255, (3, 50, 70), dtype=torch.uint8)
    large = torch.randint(0, 255, (3, 120, 90), dtype=torch.uint8)
    samples = []
    for image in (small, large):
        shape = tuple(image.shape[1:])
        samples.append(
            DetDataSample(
                metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
            )
        )
    with torch.no_grad():
        batch = dict(inputs=[small, large], data_samples=samples)
        together = model.test_step(batch)[0]
    alone = predict(model, small)
    for result in (together, alone):
        sem = result.pred_sem_seg.sem_seg[0]
        assert sem.shape == (50, 70)
        assert (sem[:32] == 8).all()
        assert (sem[32:] == 10).all()
    assert torch.equal(
        together.pred_panoptic_seg.sem_seg, alone.pred_panoptic_seg.sem_seg
    )


def test_tensor_mode_runs(model):
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
    with torch.no_grad():
        outputs = model.eval()(torch.zeros(1, 3, 64, 64), [sample], mode='tensor')
    assert outputs[-1].shape == (1, 19, 16, 16)


def test_frozen_norm_layers_keep_statistics_and_weights(cfg):
    model = MODELS.build(dict(cfg, freeze_norm=True))
    learnable = [p.requires_grad for p in model.parameters()]
    model.train()
    assert [p.requires_grad for p in model.parameters()] == learnable
    before = {k: v.clone() for k, v in model.state_dict().items() if 'running' in k}
    batch = make_batch(make_sample(64, 96, num_things=3))
    data = model.data_preprocessor(batch, training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    model.parse_losses(losses)[0].backward()
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    learnt = {n for n, p in model.named_parameters() if p.grad is not None}
    assert not [n for n in learnt if '.bn.' in n]
    assert [n for n in learnt if n.endswith('conv.weight')]


CHECKPOINTED = ('backbone', 'neck', 'semantic_head', 'rpn_head', 'roi_head.mask_head')


def test_activation_checkpointing_changes_neither_losses_nor_gradients(cfg):
    norm_cfg = dict(type='InPlaceABN')
    cfg = deepcopy(cfg)
    cfg.backbone.update(
        frozen_stages=1, norm_eval=False, act_cfg=dict(type='LeakyReLU')
    )
    cfg.roi_head.mask_head.type = 'SeparableConvMaskHead'
    parts = [
        cfg.backbone,
        cfg.neck,
        cfg.semantic_head,
        cfg.rpn_head,
        cfg.roi_head.mask_head,
    ]
    for part in parts[:3] + parts[4:]:
        part.norm_cfg = norm_cfg
    batch = make_batch(make_sample(64, 96, 3), make_sample(64, 96, 0))
    results = []
    for with_cp in (False, True):
        for part in parts:
            part.with_cp = with_cp
        torch.manual_seed(0)
        model = MODELS.build(cfg).train()
        data = model.data_preprocessor(deepcopy(batch), training=True)
        losses = model.loss(data['inputs'], data['data_samples'])
        total, _ = model.parse_losses(losses)
        total.backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        results.append((losses, grads, dict(model.named_buffers())))
    (losses, grads, buffers), (cp_losses, cp_grads, cp_buffers) = results
    for name, expected in losses.items():
        torch.testing.assert_close(cp_losses[name], expected, rtol=0, atol=0)
    for name, expected in grads.items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(
            cp_grads[name], expected, rtol=1e-6, atol=1e-6 * scale
        )
    for name, expected in buffers.items():
        assert torch.equal(cp_buffers[name], expected), name


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_losses_are_taken_in_float32_under_autocast(model, dtype):
    """Other than convs and linear layers nothing sees half precision."""
    model.train()
    batch = make_batch(make_sample(64, 96, 3))
    data = model.data_preprocessor(batch, training=True)
    seen = {}

    def note(name):
        def hook(module, args):
            seen[name] = args[0].dtype

        return hook

    head = model.roi_head
    parts = {
        'rpn_cls': model.rpn_head.loss_cls,
        'rpn_bbox': model.rpn_head.loss_bbox,
        'cls': head.bbox_head.loss_cls,
        'bbox': head.bbox_head.loss_bbox,
        'mask': head.mask_head.loss_mask,
        'seg': model.semantic_head.loss_seg,
    }
    handles = [
        part.register_forward_pre_hook(note(name)) for name, part in parts.items()
    ]
    with torch.autocast('cpu', dtype=dtype):
        half = model.semantic_head.conv_logits(torch.zeros(1, 256, 1, 1)).dtype
        model.loss(data['inputs'], data['data_samples'])
    for handle in handles:
        handle.remove()
    assert half == dtype
    assert seen == dict.fromkeys(parts, torch.float32)
