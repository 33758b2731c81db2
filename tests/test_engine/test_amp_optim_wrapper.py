# Licensed under the Apache License, Version 2.0. See LICENSE.
import copy

import pytest
import torch
from mmdet.registry import MODELS, OPTIM_WRAPPERS
from mmdet.testing import demo_mm_inputs
from torch import nn

from mmdet_efficientps import get_config

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
