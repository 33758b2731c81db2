# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Our network against numbers measured on the authors' released one.

``golden_b0_256x512_seed0.npz`` holds outputs of the released code (B0, eval mode,
float32) under weights and inputs that are made here again from their rules.
"""

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_efficientps.utils.release_checkpoint import convert_release_state_dict

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / 'data'
RELEASE_CONFIG = (
    ROOT
    / 'configs/efficientps/efficientps-release_effb5_16xb1-160e_cityscapes-1024x2048.py'
)
PAPER_CONFIG = (
    ROOT / 'configs/efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'
)
NUM_THINGS, NUM_STUFF = 8, 11
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


def build(config: Path, arch: str = 'b5', engine: str = 'auto'):
    """Build the network of a config, B0 or B5, without loading any weights."""
    cfg = Config.fromfile(config).model
    cfg.backbone.init_cfg = None
    if arch == 'b0':
        cfg.backbone.arch = 'b0'
        cfg.neck.in_channels = [24, 40, 112, 1280]
    for part in (cfg.backbone, cfg.neck, cfg.semantic_head, cfg.roi_head.mask_head):
        part.norm_cfg.engine = engine
    return MODELS.build(cfg).eval()


@pytest.fixture(scope='module')
def golden():
    with np.load(DATA / 'golden_b0_256x512_seed0.npz') as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope='module', params=['torch', 'auto'])
def network(request):
    keys = json.loads((DATA / 'official_b0_cityscapes_keys.json').read_text())
    model = build(RELEASE_CONFIG, 'b0', request.param)
    state = convert_release_state_dict(golden_state_dict(keys), NUM_THINGS, NUM_STUFF)
    model.load_state_dict(state, strict=True)
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
    keys = json.loads((DATA / f'official_{arch}_cityscapes_keys.json').read_text())
    source = {
        key: torch.zeros(shape, dtype=getattr(torch, dtype))
        for key, shape, dtype in keys
    }
    converted = convert_release_state_dict(source, NUM_THINGS, NUM_STUFF)
    ours = build(RELEASE_CONFIG, arch).state_dict()
    assert {k: v.shape for k, v in converted.items()} == {
        k: v.shape for k, v in ours.items()
    }


def test_unknown_keys_are_listed():
    source = {'backbone.conv_stem.weight': torch.zeros(1), 'head.what': torch.zeros(1)}
    with pytest.raises(KeyError, match='head.what'):
        convert_release_state_dict(source, NUM_THINGS, NUM_STUFF)


# The released heads have box deltas and a mask channel for background too, which are
# never used and which mmdet's heads do not have.
BACKGROUND_PARAMETERS = 4 * (1024 + 1) + (256 + 1)


@pytest.mark.parametrize(
    ('config', 'count'), [(RELEASE_CONFIG, 42_988_744), (PAPER_CONFIG, 40_902_856)]
)
def test_number_of_parameters(config, count):
    model = build(config)
    learnable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learnable + BACKGROUND_PARAMETERS == count


def test_number_of_parameters_of_each_part():
    model = build(RELEASE_CONFIG)
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
