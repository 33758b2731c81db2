# Licensed under the Apache License, Version 2.0. See LICENSE.
import copy
from contextlib import nullcontext

import pytest
import torch
from mmdet.registry import MODELS, OPTIM_WRAPPERS
from mmdet.testing import demo_mm_inputs
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mmdet_efficientps import get_config
from mmdet_efficientps.engine.optimizers import EmulatedBfloat16

SMALL = 'efficientps_lite0-small_1xb2-760_toy-city-256x512'


@pytest.fixture
def _no_gpu(monkeypatch):
    monkeypatch.setattr(
        'mmdet_efficientps.engine.optimizers.amp_optim_wrapper.get_device',
        lambda: 'cpu',
    )


def build(model, kind='AmpOptimWrapper', **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return OPTIM_WRAPPERS.build(dict(type=kind, optimizer=optimizer, **kwargs))


@pytest.mark.usefixtures('_no_gpu')
@pytest.mark.parametrize('dtype', [None, 'bfloat16', torch.bfloat16])
def test_mixed_precision_on_a_cpu_is_bfloat16(dtype):
    net = nn.Linear(4, 4)
    wrapper = build(net, dtype=dtype, clip_grad=dict(max_norm=1.0))
    before = net.weight.detach().clone()
    with wrapper.optim_context(net):
        out = net(torch.ones(2, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().sum() * 1e6)
    assert net.weight.dtype == torch.float32
    # as long as the norm it is clipped to
    step = (before - net.weight) / 1e-3
    assert step.norm() <= 1
    assert step.norm() > 0.5


@pytest.mark.usefixtures('_no_gpu')
def test_float16_on_a_cpu_is_refused():
    with pytest.raises(ValueError, match="optim_wrapper.dtype is 'float16'"):
        build(nn.Linear(1, 1), dtype='float16')


@pytest.mark.usefixtures('_no_gpu')
def test_a_state_goes_from_device_to_device():
    on_cpu = build(nn.Linear(1, 1))
    on_gpu = build(nn.Linear(1, 1))
    on_gpu.loss_scaler = torch.amp.GradScaler('cpu', init_scale=4.0)
    on_gpu.loss_scaler.scale(torch.ones(1))
    of_cpu, of_gpu = copy.deepcopy((on_cpu.state_dict(), on_gpu.state_dict()))
    on_gpu.load_state_dict(of_cpu)
    assert on_gpu.loss_scaler.get_scale() == 4
    on_cpu.load_state_dict(copy.deepcopy(of_gpu))
    assert on_cpu.state_dict()['loss_scaler'] == {}
    on_gpu.loss_scaler.update(2.0)
    on_gpu.load_state_dict(of_gpu)
    assert on_gpu.loss_scaler.get_scale() == 4


@pytest.mark.parametrize('groups', [1, 4])
@pytest.mark.parametrize('bias', [True, False])
def test_emulated_convolutions_are_those_of_bfloat16(groups, bias):
    torch.manual_seed(0)
    # Small whole numbers: sums have no rounding, so that their order does not matter.
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=bias).bfloat16()
    for weight in conv.parameters():
        weight.data = torch.randint(-4, 5, weight.shape).bfloat16()
    image = torch.randint(-4, 5, (2, 4, 9, 12)).bfloat16()
    found = []
    for emulated in (False, True):
        conv.zero_grad()
        inputs = image.clone().requires_grad_()
        with EmulatedBfloat16() if emulated else nullcontext():
            out = conv(inputs)
            (out * out.detach().sign()).sum().backward()
        found.append([out, inputs.grad, *(p.grad for p in conv.parameters())])
    assert all(value.dtype == torch.bfloat16 for value in found[1])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_emulation_leaves_other_types_alone():
    image, weight = torch.rand(1, 3, 8, 8), torch.rand(4, 3, 3, 3, requires_grad=True)
    expected = nn.functional.conv2d(image, weight)
    with EmulatedBfloat16():
        out = nn.functional.conv2d(image, weight)
        out.sum().backward()
    assert out.equal(expected)
    assert weight.grad.dtype == torch.float32


def test_a_build_without_onednn_has_no_instructions(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert EmulatedBfloat16.is_needed()


@pytest.mark.usefixtures('_no_gpu')
@pytest.mark.parametrize('needed', [True, False])
def test_bfloat16_is_emulated_where_the_processor_lacks_it(monkeypatch, needed):
    monkeypatch.setattr(EmulatedBfloat16, 'is_needed', staticmethod(lambda: needed))
    active = []

    class Watched(nn.Conv2d):
        def forward(self, x):
            active.append(_get_current_dispatch_mode() is not None)
            x.register_hook(
                lambda _: active.append(_get_current_dispatch_mode() is not None)
            )
            return super().forward(x)

    net = Watched(3, 4, 1)
    wrapper = build(net)
    with wrapper.optim_context(net):
        out = net(torch.ones(1, 3, 4, 4, requires_grad=True))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().sum())
    assert active == [needed, needed]
    assert _get_current_dispatch_mode() is None


@pytest.mark.slow
@pytest.mark.usefixtures('_no_gpu')
def test_the_small_network_trains_to_nearly_the_same_losses():
    config = get_config(SMALL).model
    config.backbone.init_cfg = None
    curves = {}
    for kind in ('OptimWrapper', 'AmpOptimWrapper'):
        torch.manual_seed(0)
        model = MODELS.build(config).train()
        wrapper = build(model, kind, clip_grad=dict(max_norm=35))
        curves[kind] = []
        for step in range(4):
            torch.manual_seed(step)
            batch = demo_mm_inputs(
                2,
                image_shapes=[(3, 64, 128)] * 2,
                num_items=[3, 2],
                num_classes=8,
                with_mask=True,
                with_semantic=True,
            )
            logs = model.train_step(batch, wrapper)
            curves[kind].append(logs['loss'].item())
    exact, half = (torch.tensor(curve) for curve in curves.values())
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0)
    assert not torch.equal(half, exact)
