# Licensed under the Apache License, Version 2.0. See LICENSE.
import copy
import os

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from mmdet.registry import MODELS
from torch import distributed as dist
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_efficientps.models.layers import (
    InPlaceABN,
    InPlaceABNSync,
    SeparableConv,
    checkpoint_activations,
)
from mmdet_efficientps.models.layers import inplace_abn as module

NORMS = {
    'iabn': dict(type='InPlaceABN', engine='torch'),
    'bn': dict(type='BN'),
}
if module.compiled_engine_serves('cpu', torch.float32):
    NORMS['compiled iabn'] = dict(type='InPlaceABN', engine='compiled')
HEAD = dict(in_channels=8, norm_cfg=None)
PARTS = {
    'backbone': dict(type='SEFreeEfficientNet', arch='b0', drop_path_rate=0.5),
    'lite backbone': dict(type='EfficientNetLite', drop_path_rate=0.5),
    'neck': dict(type='TwoWayFPN', in_channels=[8] * 4, out_channels=8),
    'semantic head': dict(type='EfficientPSSemanticHead', inner_channels=8, **HEAD),
    'semantic head without mc': dict(
        type='EfficientPSSemanticHead', inner_channels=8, with_mc=False, **HEAD
    ),
    'mask head': dict(
        type='SeparableConvMaskHead',
        num_convs=2,
        conv_out_channels=8,
        num_classes=3,
        **HEAD,
    ),
}


def build(part, norm='iabn', **kwargs):
    norm_cfg = NORMS[norm]
    act_cfg = dict(type='LeakyReLU', negative_slope=0.01)
    torch.manual_seed(0)
    cfg = PARTS[part] | dict(norm_cfg=norm_cfg, act_cfg=act_cfg) | kwargs
    return MODELS.build(cfg).double().train()


def inputs_of(part):
    torch.manual_seed(1)
    if part.endswith('backbone'):
        # images ask for no gradient
        return torch.randn(2, 3, 64, 64, dtype=torch.float64)
    if part == 'mask head':
        return torch.randn(3, 8, 6, 6, dtype=torch.float64).requires_grad_()
    return [
        torch.randn(2, 8, 64 >> i, 64 >> i, dtype=torch.float64).requires_grad_()
        for i in range(4)
    ]


def run(part, net):
    """Forward and backward; gives outputs, gradients and buffers."""
    x = inputs_of(part)
    torch.manual_seed(2)
    out = net(x)
    out = out['seg_preds'] if isinstance(out, dict) else out
    outs = list(out) if isinstance(out, tuple) else [out]
    sum((o * torch.randn_like(o)).sum() for o in outs).backward()
    drawn_after = torch.rand(1)
    leaves = [x] if isinstance(x, torch.Tensor) else x
    grads = {str(i): leaf.grad for i, leaf in enumerate(leaves) if leaf.requires_grad}
    grads |= {name: p.grad for name, p in net.named_parameters()}
    return outs, grads, dict(net.named_buffers()), drawn_after


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('part', PARTS)
def test_gradients_and_statistics_are_those_without(part, norm):
    plain = build(part, norm)
    outs, grads, buffers, drawn_after = run(part, plain)
    net = build(part, norm, with_cp=True)
    assert net.with_cp
    assert net.state_dict().keys() == plain.state_dict().keys()
    again, cp_grads, cp_buffers, cp_drawn_after = run(part, net)
    for ours, expected in zip(again, outs, strict=True):
        assert torch.equal(ours, expected)
    for name, expected in grads.items():
        torch.testing.assert_close(cp_grads[name], expected, rtol=1e-6, atol=1e-9)
    # of which the batches that were counted are one
    for name, expected in buffers.items():
        assert torch.equal(cp_buffers[name], expected), name
        if name.endswith('num_batches_tracked'):
            assert expected == 1
    assert torch.equal(cp_drawn_after, drawn_after)
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, _BatchNorm))


def share_kept(part, with_cp):
    """Share of the outputs of norm layers that are there after the forward pass."""
    net = build(part, with_cp=with_cp)
    kept = []
    for norm in net.modules():
        if isinstance(norm, InPlaceABN):
            norm.register_forward_hook(
                lambda _m, _i, out: kept.append(StorageWeakRef(out.untyped_storage()))
            )
    out = net(inputs_of(part))
    share = sum(not ref.expired() for ref in kept) / len(kept)
    del out
    return share


@pytest.mark.parametrize('part', PARTS)
def test_outputs_of_norms_are_kept_only_without(part):
    assert share_kept(part, with_cp=False) == 1
    # what goes from one block to the next
    assert share_kept(part, with_cp=True) <= 0.5


def test_frozen_norms_keep_their_statistics_and_are_used():
    grads = []
    for with_cp in (False, True):
        net = build('neck', 'bn', with_cp=with_cp)
        for norm in net.modules():
            if isinstance(norm, _BatchNorm):
                norm.running_var.fill_(4.0)
                norm.eval()
        _, grad, buffers, _ = run('neck', net)
        grads.append(grad)
        assert all((v == 4).all() for k, v in buffers.items() if 'running_var' in k)
    for name in grads[0]:
        torch.testing.assert_close(grads[1][name], grads[0][name])


def test_statistics_are_tracked_again_after_an_error_in_backward():
    layer = nn.BatchNorm2d(2)
    calls = []

    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = layer

        def forward(self, x):
            calls.append(self.norm.momentum)
            if len(calls) == 2:
                raise MemoryError
            return self.norm(x).square()

    x = torch.randn(2, 2, 3, 3, requires_grad=True)
    out = checkpoint_activations(Fails(), x)
    with pytest.raises(MemoryError):
        out.sum().backward()
    assert calls == [0.1, 0]
    assert layer.momentum == 0.1
    assert layer.num_batches_tracked == 1


def test_without_gradients_it_is_a_call():
    calls = []
    with torch.no_grad():
        out = checkpoint_activations(lambda x: calls.append(x) or x + 1, torch.ones(1))
    assert out == 2
    assert len(calls) == 1


def ddp_worker(rank, world, port, results):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=world)
    torch.manual_seed(0)
    net = nn.Sequential(
        *(SeparableConv(4, 4, norm_cfg=dict(type=InPlaceABNSync)) for _ in range(2))
    ).double()

    class Net(nn.Module):
        def __init__(self, net, with_cp):
            super().__init__()
            self.net, self.with_cp = net, with_cp

        def forward(self, x):
            for part in self.net:
                x = checkpoint_activations(part, x) if self.with_cp else part(x)
            return x

    for with_cp in (False, True):
        own = Net(copy.deepcopy(net), with_cp).train()
        ddp = nn.parallel.DistributedDataParallel(own)
        torch.manual_seed(rank)
        # the second has nothing in the first step, and more in the second
        for step in range(2):
            x = torch.randn(2 * step if rank else 3, 4, 5, 6, dtype=torch.float64)
            ddp(x).square().sum().backward()
        results[rank, with_cp] = {
            **{k: p.grad.numpy() for k, p in own.named_parameters()},
            **{k: b.numpy() for k, b in own.named_buffers()},
        }
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_shared_statistics():
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(ddp_worker, (2, 21000 + os.getpid() % 20000, results), nprocs=2)
        results = dict(results)
    for rank in (0, 1):
        for name, expected in results[rank, False].items():
            np.testing.assert_allclose(
                results[rank, True][name], expected, rtol=1e-6, atol=1e-9
            )
            if name.endswith('num_batches_tracked'):
                assert expected == 2
