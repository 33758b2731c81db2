# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Our network against numbers measured on the authors' released one.

``golden_b0_256x512_seed0.npz`` holds outputs of the released code (B0, eval mode,
float32) under weights and inputs that are made here again from their rules.
"""

import copy
import functools
import importlib.util
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import load_checkpoint
from mmengine.structures import InstanceData, PixelData

from mmdet_efficientps.checkpoints import (
    convert_release_state_dict,
    release_arch,
    release_num_classes,
)
from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / 'data'
SPEC = importlib.util.spec_from_file_location(
    'efficientps_release_to_mmdet',
    ROOT / 'tools/model_converters/efficientps_release_to_mmdet.py',
)
converter = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(converter)
RELEASE_CONFIG = {
    arch: ROOT
    / 'configs/efficientps'
    / f'efficientps-release_eff{arch}_16xb1-160e_cityscapes-1024x2048.py'
    for arch in ('b0', 'b5')
}
PAPER_CONFIG = (
    ROOT / 'configs/efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'
)
NUM_THINGS = 8
LINEAR = re.compile(r'^backbone\.blocks\.\d+\.[1-9]\d*\.conv_pwl\.weight$')


def golden_state_dict(keys: list) -> dict:
    """The weights of the golden run, from the rules they were made by."""
    norms = {k.rpartition('.')[0] for k, _, _ in keys if k.endswith('running_mean')}
    state = {}
    for key, shape, _ in keys:
        module, _, name = key.rpartition('.')
        z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(size=shape)
        if name == 'running_mean':
            value = 0.1 * z
        elif name == 'running_var':
            value = 1 + abs(0.1 * z)
        elif name == 'num_batches_tracked':
            value = np.int64(0)
        elif module in norms:
            value = 1 + 0.1 * z if name == 'weight' else 0.1 * z
        elif name == 'bias':
            value = 0.01 * z
        else:
            gain = 0.2 if LINEAR.match(key) else 1.5
            value = z * np.sqrt(gain / np.prod(shape[1:]))
        dtype = torch.int64 if name == 'num_batches_tracked' else torch.float32
        state[key] = torch.as_tensor(np.asarray(value)).to(dtype)
    return state


def build(config: Path, engine: str = 'auto'):
    """Build the network of a config without loading any weights."""
    cfg = Config.fromfile(config).model
    for part in (cfg.backbone, cfg.neck, cfg.semantic_head, cfg.roi_head.mask_head):
        part.norm_cfg.engine = engine
    return MODELS.build(cfg).eval()


# For tests that only look at a network.
built = functools.cache(build)


def official_keys(arch: str) -> list:
    return json.loads((DATA / f'official_{arch}_cityscapes_keys.json').read_text())


def empty_state_dict(arch: str) -> dict:
    """A released state dict of zeros."""
    return {
        key: torch.zeros(shape, dtype=getattr(torch, dtype))
        for key, shape, dtype in official_keys(arch)
    }


@pytest.fixture(scope='module')
def golden():
    with np.load(DATA / 'golden_b0_256x512_seed0.npz') as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    """A B0 checkpoint as the release saves it, with the weights of the golden run."""
    path = tmp_path_factory.mktemp('release') / 'released.pth'
    meta = dict(
        mmdet_version='1.0rc0', epoch=160, iter=476000, config='x', CLASSES=('a', 'b')
    )
    state = golden_state_dict(official_keys('b0'))
    torch.save(dict(meta=meta, state_dict=state, optimizer=dict(state={})), path)
    return path


@pytest.fixture(scope='module')
def converted(released):
    """What the command line tool makes of it."""
    path = released.with_name('converted.pth')
    converter.main([str(released), str(path), '--arch', 'b0'])
    return path


@pytest.fixture(scope='module', params=['torch', 'auto'])
def network(request, converted):
    model = build(RELEASE_CONFIG['b0'], request.param)
    load_checkpoint(model, str(converted), strict=True)
    return model


@pytest.fixture(scope='module')
def outputs(network):
    image = np.random.default_rng(0).standard_normal((1, 3, 256, 512))
    with torch.no_grad():
        x = torch.as_tensor(image, dtype=torch.float32)
        backbone = network.backbone(x)
        neck = network.neck(backbone)
        rpn_cls, rpn_reg = network.rpn_head(neck)
        logits = network.semantic_head(neck)['seg_preds']
    # the release gives logits at the size of the image, stuff before things
    logits = F.interpolate(logits, scale_factor=4, mode='bilinear', align_corners=False)
    logits = torch.cat([logits[:, NUM_THINGS:], logits[:, :NUM_THINGS]], dim=1)
    named = {'semantic_logits': logits[0].numpy()}
    for name, levels in (
        ('backbone', backbone),
        ('neck', neck),
        ('rpn_cls', rpn_cls),
        ('rpn_reg', rpn_reg),
    ):
        for level, value in enumerate(levels):
            named[f'{name}.{level}'] = value[0].numpy()
    return named


OUTPUTS = [
    *(
        f'{part}.{i}'
        for part in ('backbone', 'neck', 'rpn_cls', 'rpn_reg')
        for i in range(4)
    ),
    'semantic_logits',
]


@pytest.mark.parametrize('name', OUTPUTS)
def test_outputs_equal_the_release(name, outputs, golden):
    meta = json.loads(bytes(golden['meta_json']))
    ours = outputs[name]
    if name in golden:
        np.testing.assert_allclose(ours, golden[name], rtol=0, atol=1e-4)
        return
    how = meta[name]
    assert list(ours.shape) == how['shape']
    every, step, corners = how['cs'], how['ss'], how['cc']
    for part, value in (
        ('s', ours[::every, ::step, ::step]),
        ('tl', ours[::corners, :8, :8]),
        ('br', ours[::corners, -8:, -8:]),
        ('cmean', ours.astype(np.float64).mean((1, 2))),
        ('cstd', ours.astype(np.float64).std((1, 2))),
    ):
        np.testing.assert_allclose(
            value, golden[f'{name}.{part}'], rtol=0, atol=1e-4, err_msg=part
        )


def test_box_head_equals_the_release(network, golden):
    rois = np.random.default_rng(3).standard_normal((16, 256, 7, 7))
    with torch.no_grad():
        scores, deltas = network.roi_head.bbox_head(
            torch.as_tensor(rois, dtype=torch.float32)
        )
    # background is first in the release and has deltas of its own
    expected = np.roll(golden['bbox_cls'], -1, axis=1)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-4)
    expected = golden['bbox_reg'][:, 4:]
    np.testing.assert_allclose(deltas.numpy(), expected, rtol=0, atol=1e-4)


def test_mask_head_equals_the_release(network, golden):
    rois = np.random.default_rng(4).standard_normal((8, 256, 14, 14))
    with torch.no_grad():
        logits = network.roi_head.mask_head(torch.as_tensor(rois, dtype=torch.float32))
    expected = golden['mask_logits'][:, 1:]
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('arch', ['b0', 'b5'])
def test_every_key_of_the_release_has_its_place(arch):
    model = built(RELEASE_CONFIG[arch])
    converted = convert_release_state_dict(empty_state_dict(arch), model)
    assert {k: v.shape for k, v in converted.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


def test_a_released_state_dict_says_what_it_is_of():
    for arch in ('b0', 'b5'):
        source = empty_state_dict(arch)
        assert release_arch(source) == arch
        assert release_num_classes(source) == (8, 11)
    assert release_arch({'conv1.weight': torch.zeros(1)}) is None


def test_left_over_and_missing_keys_are_listed():
    source = empty_state_dict('b0')
    source['semantic_head.what'] = torch.zeros(1)
    source['backbone.blocks.1.0.what.weight'] = torch.zeros(1)
    del source['rpn_head.rpn_cls.bias']
    del source['neck.fpn_convs.0.conv.weight']
    model = built(RELEASE_CONFIG['b0'])
    with pytest.raises(CheckpointError) as error:
        convert_release_state_dict(source, model)
    lines = str(error.value).splitlines()
    assert lines[1:] == [
        '2 keys are missing: neck.output_convs.0.conv.weight, rpn_head.rpn_cls.bias',
        '2 keys are left over: semantic_head.what, backbone.blocks.1.0.what.weight',
    ]


def test_a_whole_stage_that_is_missing_is_listed():
    source = {
        key: value
        for key, value in empty_state_dict('b5').items()
        if not key.startswith('backbone.blocks.3.')
    }
    with pytest.raises(CheckpointError, match='keys are missing: backbone.layers.4.'):
        convert_release_state_dict(source, built(RELEASE_CONFIG['b5']))


def test_tensors_of_another_shape_are_listed():
    source = empty_state_dict('b0')
    source['rpn_head.rpn_cls.bias'] = torch.zeros(5)
    with pytest.raises(CheckpointError, match=r'rpn_cls\.bias is \(5,\), not \(3,\)'):
        convert_release_state_dict(source, built(RELEASE_CONFIG['b0']))


def test_the_other_backbone_is_told_by_name():
    source = empty_state_dict('b0')
    with pytest.raises(CheckpointError, match='EfficientNet-B0.*--arch b0'):
        convert_release_state_dict(source, built(RELEASE_CONFIG['b5']))


def test_another_network_is_refused(converted):
    model = built(RELEASE_CONFIG['b0'])
    with pytest.raises(CheckpointError, match='not of a released EfficientPS'):
        convert_release_state_dict({'layer1.0.conv1.weight': torch.zeros(1)}, model)
    ours = torch.load(converted, weights_only=True)['state_dict']
    with pytest.raises(CheckpointError, match='needs no conversion'):
        convert_release_state_dict(ours, model)


def test_the_converted_file_keeps_where_it_comes_from_and_the_class_names(converted):
    meta = torch.load(converted, weights_only=True)['meta']
    assert meta['converted_from'] == dict(
        file='released.pth', mmdet_version='1.0rc0', epoch=160, iter=476000
    )
    assert meta['dataset_meta'] == CityscapesPanopticDataset.METAINFO
    assert 'GPLv3' in meta['license']


def test_last_layers_start_anew_for_classes_of_your_own(released, tmp_path, caplog):
    MMLogger.get_current_instance().addHandler(caplog.handler)
    path = tmp_path / 'own.pth'
    arguments = [str(released), str(path), '--arch', 'b0', '--num-classes', '2', '5']
    converter.main(arguments)
    said = caplog.text
    state = torch.load(path, weights_only=True)['state_dict']
    layers = {
        'semantic_head.conv_logits': 7,
        'roi_head.bbox_head.fc_cls': 3,
        'roi_head.bbox_head.fc_reg': 8,
        'roi_head.mask_head.conv_logits': 2,
    }
    for name, rows in layers.items():
        for kind in ('weight', 'bias'):
            assert len(state[f'{name}.{kind}']) == rows
            assert f'{name}.{kind}' in said
    assert '8 tensors are initialised anew' in said
    # and all else is as released
    source = golden_state_dict(official_keys('b0'))
    torch.testing.assert_close(
        state['roi_head.bbox_head.shared_fcs.1.weight'],
        source['bbox_head.shared_fcs.1.weight'],
    )
    model = converter.build_release_model('b0', (2, 5))
    with pytest.raises(CheckpointError, match='--num-classes 8 11'):
        convert_release_state_dict(source, model)


class MoreThanWeights:
    pass


def test_files_with_more_than_weights_need_a_flag(released, tmp_path):
    checkpoint = torch.load(released, weights_only=True)
    checkpoint['meta']['hook'] = MoreThanWeights()
    source, target = tmp_path / 'more.pth', tmp_path / 'converted.pth'
    torch.save(checkpoint, source)
    arguments = [str(source), str(target), '--arch', 'b0']
    with pytest.raises(SystemExit, match='MoreThanWeights.*--unsafe-load'):
        converter.main(arguments)
    assert not target.exists()
    converter.main([*arguments, '--unsafe-load'])
    assert target.exists()


def test_a_checkpoint_that_is_there_is_not_overwritten(released, tmp_path):
    target = tmp_path / 'epoch_160.pth'
    target.write_bytes(b'days of training')
    with pytest.raises(SystemExit, match=r'epoch_160\.pth exists: give another name'):
        converter.main([str(released), str(target), '--arch', 'b0'])
    assert target.read_bytes() == b'days of training'


@pytest.fixture(scope='module')
def converted_b5(tmp_path_factory):
    """A B5 checkpoint as the tool writes it, with weights made by the same rules."""
    folder = tmp_path_factory.mktemp('release_b5')
    source, path = folder / 'released.pth', folder / 'converted.pth'
    torch.save(dict(state_dict=golden_state_dict(official_keys('b5'))), source)
    converter.main([str(source), str(path)])
    return path


@pytest.mark.parametrize(
    ('arch', 'size'), [('b0', (250, 371)), ('b0', (64, 96)), ('b5', (90, 133))]
)
def test_a_converted_checkpoint_predicts_at_any_size(arch, size, request):
    checkpoint = request.getfixturevalue(
        {'b0': 'converted', 'b5': 'converted_b5'}[arch]
    )
    model = init_detector(RELEASE_CONFIG[arch], str(checkpoint), device='cpu')
    assert (
        model.dataset_meta['classes'] == CityscapesPanopticDataset.METAINFO['classes']
    )
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    model.cfg.test_dataloader.dataset.pipeline = [
        dict(type='LoadCheckedImage'),
        dict(type='Resize', scale_factor=1.0),
        dict(
            type='PackDetInputs', meta_keys=('img_shape', 'ori_shape', 'scale_factor')
        ),
    ]
    result = inference_detector(model, image)
    assert result.pred_panoptic_seg.sem_seg.shape == (1, *size)
    assert result.pred_instances.masks.shape[1:] == size


def test_the_release_variant_trains():
    torch.manual_seed(0)
    cfg = Config.fromfile(RELEASE_CONFIG['b0']).model
    model = MODELS.build(cfg).train()
    masks = np.zeros((1, 128, 128), np.uint8)
    masks[0, 32:96, 16:80] = 1
    sample = DetDataSample(metainfo=dict(img_shape=(128, 128), ori_shape=(128, 128)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[16.0, 32.0, 80.0, 96.0]]),
        labels=torch.tensor([2]),
        masks=BitmapMasks(masks, 128, 128),
    )
    sample.gt_sem_seg = PixelData(sem_seg=torch.full((1, 128, 128), 8))
    batch = dict(
        inputs=[torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)] * 2,
        data_samples=[sample, copy.deepcopy(sample)],
    )
    batch = model.data_preprocessor(batch, training=True)
    # x2 and y2 name the last pixel
    boxes = batch['data_samples'][0].gt_instances.bboxes
    assert boxes.tolist() == [[16, 32, 79, 95]]
    losses = model(**batch, mode='loss')
    total = sum(
        sum(value) if isinstance(value, list) else value
        for name, value in losses.items()
        if 'loss' in name
    )
    total.backward()
    assert torch.isfinite(total)
    for part in (model.backbone, model.rpn_head, model.roi_head, model.semantic_head):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())


# The released heads have box deltas and a mask channel for background too, which are
# never used and which mmdet's heads do not have.
BACKGROUND_PARAMETERS = 4 * (1024 + 1) + (256 + 1)


@pytest.mark.parametrize(
    ('config', 'count'),
    [(RELEASE_CONFIG['b5'], 42_988_744), (PAPER_CONFIG, 40_902_856)],
)
def test_number_of_parameters(config, count):
    model = built(config)
    learnable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learnable + BACKGROUND_PARAMETERS == count


def test_number_of_parameters_of_each_part():
    model = built(RELEASE_CONFIG['b5'])
    parts = {
        'backbone': 23_148_912,
        'neck': 3_557_376,
        'rpn_head': 593_935,
        'roi_head.bbox_head': 13_941_805 - 4 * (1024 + 1),
        'roi_head.mask_head': 540_169 - (256 + 1),
        'semantic_head': 1_206_547,
    }
    for name, count in parts.items():
        part = model.get_submodule(name)
        assert sum(p.numel() for p in part.parameters()) == count, name
