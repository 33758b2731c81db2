# Licensed under the Apache License, Version 2.0. See LICENSE.
import os

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import distributed as dist
from torch import nn

from mmdet_efficientps.models.layers import (
    InPlaceABN,
    InPlaceABNSync,
    SeparableConv,
    fold_activation,
)
from mmdet_efficientps.models.layers import inplace_abn as module
from mmdet_efficientps.models.layers.inplace_abn import adopt_batch_norm

ENGINES = ['torch']
if module.compiled_engine_serves('cpu', torch.float32):
    ENGINES.append('compiled')
WEIGHT = [1.5, -0.7, 0.0, 1e-3]
BIAS = [0.2, -0.3, 0.1, 0.5]


def make_layer(engine, dtype=torch.float32, cls=InPlaceABN, **kwargs):
    layer = cls(4, engine=engine, **kwargs).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(WEIGHT))
        layer.bias.copy_(torch.tensor(BIAS))
        layer.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
        layer.running_var.copy_(torch.tensor([0.5, 1.0, 2.0, 1.5]))
    return layer


def reference(layer, x, training):
    """The formula in plain autograd, running statistics by nn.BatchNorm2d."""
    norm = nn.BatchNorm2d(4, eps=layer.eps, affine=False).to(x.dtype)
    norm.running_mean.copy_(layer.running_mean)
    norm.running_var.copy_(layer.running_var)
    norm.train(training)
    view = (1, -1, 1, 1)
    weight = layer.weight.detach().clone().requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    # |w| with the derivative 1 at zero
    absolute = torch.where(weight < 0, -weight, weight)
    z = norm(x) * (absolute + layer.eps).view(view) + bias.view(view)
    if layer.activation == 'leaky_relu':
        z = F.leaky_relu(z, layer.activation_param)
    return z, weight, bias, norm


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('activation', ['leaky_relu', 'identity'])
def test_iabn_equals_the_formula(engine, training, activation):
    torch.manual_seed(0)
    # double precision: a weight of 1e-5 would amplify rounding in the inversion
    dtype = torch.float64
    layer = make_layer(engine, dtype, activation=activation).train(training)
    x = torch.randn(3, 4, 5, 6, dtype=dtype)
    ours_in, ref_in = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, weight, bias, norm = reference(layer, ref_in, training)
    # the layer may overwrite its input, which a leaf does not allow
    y = layer(ours_in * 1)
    # the compiled engine holds the slope in single precision
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-8)
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(ours_in.grad, ref_in.grad, rtol=0, atol=1e-7)
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(layer.bias.grad, bias.grad, rtol=1e-6, atol=1e-7)
    if training:
        torch.testing.assert_close(layer.running_mean, norm.running_mean)
        torch.testing.assert_close(layer.running_var, norm.running_var)
        assert layer.num_batches_tracked == 1


def test_iabn_is_batch_norm_with_the_absolute_weight_plus_eps():
    layer = make_layer('torch', eps=1e-3, activation='identity').eval()
    norm = nn.BatchNorm2d(4, eps=1e-3)
    norm.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 3, 3)
    raw = norm.eval()(x)
    norm.weight.data = norm.weight.data.abs() + 1e-3
    torch.testing.assert_close(layer(x.clone()), norm(x), rtol=0, atol=1e-6)
    assert (raw - norm(x)).abs().max() > 1e-3


def test_the_torch_engine_keeps_only_its_output_for_backward():
    layer = make_layer('torch').train()
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t) or t, lambda t: t
    ):
        y = layer(x * 1)
    large = [t for t in kept if t.numel() >= y.numel()]
    assert [t.data_ptr() for t in large] == [y.data_ptr()]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_input_keeps_its_dtype_and_float_statistics(dtype):
    torch.manual_seed(0)
    layer = InPlaceABN(4, engine='torch').train()
    x = torch.randn(8, 4, 16, 16)
    expected = F.leaky_relu(
        F.batch_norm(x, None, None, training=True, eps=layer.eps), 0.01
    )
    half = x.to(dtype).requires_grad_()
    y = layer(half * 1)
    assert y.dtype == dtype
    assert layer.running_mean.dtype == torch.float32
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.05)
    y.sum().backward()
    assert half.grad.dtype == dtype
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize('engine', ENGINES)
def test_empty_input_passes_and_leaves_the_statistics(engine):
    layer = make_layer(engine).train()
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    y = layer(torch.zeros(0, 4, 14, 14))
    assert y.shape == (0, 4, 14, 14)
    # distributed training waits for a gradient of every parameter
    y.sum().backward()
    assert layer.weight.grad.abs().sum() == layer.bias.grad.abs().sum() == 0
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_one_value_per_channel_is_refused_in_training():
    with pytest.raises(ValueError, match='more than one value per channel'):
        InPlaceABN(4).train()(torch.zeros(1, 4, 1, 1))


def test_both_engines_have_the_state_dict_of_batch_norm():
    expected = nn.BatchNorm2d(4).state_dict().keys()
    for cls in (InPlaceABN, InPlaceABNSync):
        assert cls(4, engine='torch').state_dict().keys() == expected


def test_a_missing_compiled_engine_is_named(monkeypatch):
    monkeypatch.setattr(module, '_compiled_engine', lambda: None)
    with pytest.raises(ImportError, match='inplace-abn.*pip install'):
        InPlaceABN(4, engine='compiled')


def test_auto_falls_back_to_torch_without_the_compiled_engine(monkeypatch):
    monkeypatch.setattr(module, 'compiled_engine_serves', lambda *_: False)
    x = torch.randn(2, 4, 3, 3)
    y = make_layer('auto').eval()(x.clone())
    torch.testing.assert_close(y, make_layer('torch').eval()(x.clone()))


@pytest.mark.parametrize(
    'kwargs',
    [dict(activation='relu'), dict(activation_param=0.0), dict(engine='cuda')],
)
def test_wrong_arguments_are_named(kwargs):
    with pytest.raises(ValueError, match=f'norm_cfg.{next(iter(kwargs))}'):
        InPlaceABN(4, **kwargs)


def test_iabn_is_built_by_mmcv_under_the_name_bn():
    name, layer = build_norm_layer(dict(type='mmdet.InPlaceABN', eps=1e-3), 8)
    assert (name, layer.eps) == ('bn', 1e-3)


def test_fold_activation_moves_the_activation_into_iabn_only():
    leaky = dict(type='LeakyReLU', negative_slope=0.2)
    norm, act = fold_activation(dict(type='InPlaceABN'), leaky)
    assert norm == dict(type=InPlaceABN, activation='leaky_relu', activation_param=0.2)
    assert act is None
    norm, act = fold_activation(dict(type='InPlaceABNSync'), None)
    assert norm['activation'] == 'identity'
    assert fold_activation(dict(type='BN'), leaky) == (dict(type='BN'), leaky)
    with pytest.raises(ValueError, match='act_cfg.type'):
        fold_activation(dict(type='InPlaceABN'), dict(type='Swish'))


@pytest.mark.parametrize('layer', [InPlaceABN, InPlaceABNSync])
@pytest.mark.parametrize(
    'how', ['{name}', 'mmdet.{name}', 'mmdet_efficientps.models.{name}', 'class']
)
def test_iabn_is_known_under_every_name_mmengine_takes(layer, how):
    kind = layer if how == 'class' else how.format(name=layer.__name__)
    leaky = dict(type='LeakyReLU', negative_slope=0.2)
    norm, act = fold_activation(dict(type=kind, eps=1e-3), leaky)
    assert norm == dict(
        type=layer, eps=1e-3, activation='leaky_relu', activation_param=0.2
    )
    assert act is None
    norm, act = fold_activation(dict(type=kind), None)
    assert (norm['activation'], act) == ('identity', None)
    conv = SeparableConv(4, 4, norm_cfg=dict(type=kind), act_cfg=leaky)
    for part in (conv.depthwise_conv, conv.pointwise_conv):
        assert type(part.norm) is layer
        assert part.norm.activation_param == 0.2
        assert not part.with_activation


@pytest.mark.parametrize('kind', ['LeakyReLU', 'torch.nn.LeakyReLU', nn.LeakyReLU])
def test_the_activation_is_known_under_every_name(kind):
    norm, _ = fold_activation(
        dict(type='InPlaceABN'), dict(type=kind, negative_slope=0.2, inplace=True)
    )
    assert (norm['activation'], norm['activation_param']) == ('leaky_relu', 0.2)
    norm, _ = fold_activation(dict(type='InPlaceABN'), dict(type=nn.Identity))
    assert norm['activation'] == 'identity'


@pytest.mark.parametrize('kind', ['mmengine.BN', nn.BatchNorm2d, 'NoSuchNorm'])
def test_other_norms_keep_their_activation(kind):
    leaky = dict(type='LeakyReLU')
    assert fold_activation(dict(type=kind), leaky) == (dict(type=kind), leaky)
    assert fold_activation(None, leaky) == (None, leaky)


def test_adopted_batch_norm_weights_compute_the_same():
    conv = nn.Conv2d(3, 4, 3, bias=False)
    norm = nn.BatchNorm2d(4, eps=1e-3).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, -0.01]))
        norm.running_mean.normal_()
        norm.bias.normal_()
    x = torch.randn(2, 3, 6, 6)
    expected = norm(conv(x))
    layer = InPlaceABN(4, eps=1e-3, activation='identity').eval()
    layer.load_state_dict(norm.state_dict())
    adopt_batch_norm(conv, layer)
    torch.testing.assert_close(layer(conv(x)), expected, rtol=1e-5, atol=1e-6)


def sync_worker(rank, world, port, inputs, grads, results):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    dist.init_process_group('gloo', rank=rank, world_size=world)
    layer = make_layer('auto', torch.float64, InPlaceABNSync).train()
    x = inputs[rank].clone().requires_grad_()
    y = layer(x * 1)
    y.backward(grads[rank])
    results[rank] = [
        t.detach()
        for t in (y, x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean)
    ] + [layer.running_var.clone()]
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize('sizes', [(2, 3), (4, 0)])
def test_sync_iabn_over_two_processes_equals_one_on_the_whole_batch(sizes):
    torch.manual_seed(0)
    x = torch.randn(sum(sizes), 4, 5, 6, dtype=torch.float64)
    grad = torch.randn_like(x)
    whole = make_layer('torch', torch.float64).train()
    leaf = x.clone().requires_grad_()
    y = whole(leaf * 1)
    y.backward(grad)

    with mp.Manager() as manager:
        results = manager.dict()
        port = 20000 + os.getpid() % 20000
        args = (2, port, x.split(sizes), grad.split(sizes), results)
        mp.spawn(sync_worker, args, nprocs=2)
        ranks = [results[0], results[1]]
    joined = [torch.cat(parts) for parts in zip(*[r[:2] for r in ranks], strict=True)]
    torch.testing.assert_close(joined[0], y.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(joined[1], leaf.grad, rtol=0, atol=1e-9)
    for i, value in ((2, whole.weight.grad), (3, whole.bias.grad)):
        torch.testing.assert_close(
            ranks[0][i] + ranks[1][i], value, rtol=1e-6, atol=1e-9
        )
    for rank in ranks:
        torch.testing.assert_close(rank[4], whole.running_mean)
        torch.testing.assert_close(rank[5], whole.running_var)
