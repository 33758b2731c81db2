# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Names and class order of the authors' released networks, mapped to ours.

The released state dicts differ from ours in the names of their modules and in the
order of classes: stuff before things in the semantic head, background before the
classes in the box head, and one channel for it in the mask head.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.backbones.efficientnet import model_scaling
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdet_efficientps.models.backbones import SEFreeEfficientNet
from mmdet_efficientps.utils.checkpoint_loading import (
    CheckpointError,
    check_keys,
    check_state_dict,
)

# Stages of the released backbone that share one stage of mmdet's EfficientNet,
# which starts a stage only where the stride is 2: released stage -> (ours, first).
_STAGES = {0: (1, None), 1: (2, None), 2: (3, None), 3: (4, None), 4: (4, 3)}
_STAGES.update({5: (5, None), 6: (5, 5)})

_BLOCK = re.compile(r'backbone\.blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)')
# conv and norm names of a block without and with expansion.
_BLOCK_NAMES = {
    False: dict(
        conv_dw='depthwise_conv.conv',
        bn1='depthwise_conv.bn',
        conv_pw='linear_conv.conv',
        bn2='linear_conv.bn',
    ),
    True: dict(
        conv_pw='expand_conv.conv',
        bn1='expand_conv.bn',
        conv_dw='depthwise_conv.conv',
        bn2='depthwise_conv.bn',
        conv_pwl='linear_conv.conv',
        bn3='linear_conv.bn',
    ),
}
_PREFIXES = {
    'backbone.conv_stem.': 'backbone.layers.0.conv.',
    'backbone.bn1.': 'backbone.layers.0.bn.',
    'backbone.conv_head.': 'backbone.layers.6.conv.',
    'backbone.bn2.': 'backbone.layers.6.bn.',
    'bbox_head.': 'roi_head.bbox_head.',
    'mask_head.': 'roi_head.mask_head.',
    'neck.fpn_convs.': 'neck.output_convs.',
    'rpn_head.': 'rpn_head.',
    'semantic_head.aligning_convs.0.': 'semantic_head.mc8.',
    'semantic_head.aligning_convs.1.': 'semantic_head.mc4.',
    'semantic_head.conv_logits.': 'semantic_head.conv_logits.',
    'semantic_head.lateral_convs_ls.0.': 'semantic_head.lsfe8.',
    'semantic_head.lateral_convs_ls.1.': 'semantic_head.lsfe4.',
    'semantic_head.lateral_convs_ss.0.': 'semantic_head.dpc32.',
    'semantic_head.lateral_convs_ss.1.': 'semantic_head.dpc16.',
}
_LATERAL = re.compile(r'neck\.lateral_convs_(top|bottom)\.(\d+)\.')
_DPC = re.compile(r'(semantic_head\.dpc\d+)\.(convs|conv)\.')
_NUM_LEVELS = 4


def release_key_to_ours(key: str, stage_depths: Mapping[int, int]) -> str:
    """Translate one key of a released state dict.

    Args:
        key (str): Key as in the released networks, such as 'backbone.bn1.weight'.
        stage_depths (Mapping[int, int]): Number of blocks of each released
            backbone stage.

    Returns:
        str: Key of :class:`~mmdet_efficientps.models.EfficientPS`; a key that no
        released network has is returned as it is.
    """
    if match := _BLOCK.fullmatch(key):
        stage, block = int(match[1]), int(match[2])
        name = _BLOCK_NAMES[stage > 0].get(match[3])
        if stage not in _STAGES or name is None:
            return key
        ours, after = _STAGES[stage]
        if after is not None:
            block += stage_depths.get(after, 0)
        return f'backbone.layers.{ours}.{block}.{name}.{match[4]}'
    if match := _LATERAL.match(key):
        # Named by where the path starts; the bottom-up one is listed coarsest first.
        level = int(match[2])
        if match[1] == 'top':
            prefix = f'neck.top_down_convs.{level}.'
        else:
            prefix = f'neck.bottom_up_convs.{_NUM_LEVELS - 1 - level}.'
        return prefix + key[match.end() :]
    for old, new in _PREFIXES.items():
        if key.startswith(old):
            key = new + key[len(old) :]
            return _DPC.sub(
                lambda m: m[1] + ('.branches.' if m[2] == 'convs' else '.reduce.'), key
            )
    return key


def release_arch(source: Mapping[str, Tensor]) -> str | None:
    """Tell which EfficientNet a released state dict has for a backbone.

    Args:
        source (Mapping[str, Tensor]): State dict of a released network.

    Returns:
        str | None: 'b0' to 'b7', None if it is none of them.
    """
    blocks = {match.groups()[:2] for key in source if (match := _BLOCK.match(key))}
    head = source.get('backbone.conv_head.weight')
    if head is None:
        return None
    base = SEFreeEfficientNet.layer_settings['b']
    for arch, setting in SEFreeEfficientNet.arch_settings.items():
        _, *stages, last = model_scaling(base, setting)
        if (sum(map(len, stages)), last[0][1]) == (len(blocks), len(head)):
            return arch
    return None


def release_num_classes(source: Mapping[str, Tensor]) -> tuple[int, int]:
    """Tell the numbers of classes of a released state dict.

    Args:
        source (Mapping[str, Tensor]): State dict of a released network.

    Returns:
        tuple[int, int]: Numbers of thing and of stuff classes.
    """
    num_things = len(source['bbox_head.fc_cls.bias']) - 1
    return num_things, len(source['semantic_head.conv_logits.bias']) - num_things


def convert_release_state_dict(
    source: Mapping[str, Tensor], model: nn.Module, reinitialize: bool = False
) -> dict[str, Tensor]:
    """Rename and reorder a state dict of the released networks.

    Args:
        source (Mapping[str, Tensor]): State dict of a released network.
        model (nn.Module): The release variant of
            :class:`~mmdet_efficientps.models.EfficientPS` it is for, which says what
            keys and shapes to expect.
        reinitialize (bool): Where the numbers of classes differ, take the last layers
            from ``model`` and log which. Defaults to False.

    Returns:
        dict[str, Tensor]: State dict of ``model``, with each of its keys. It computes
        what the release does; boxes need the release's anchors and coder too.

    Raises:
        CheckpointError: If the state dict is that of another network, backbone or
            number of classes; if keys are left over or missing or have another
            shape. Lists them.
    """
    _check_arch(source, model)
    stage_depths: dict[int, int] = {}
    for key in source:
        if match := _BLOCK.fullmatch(key):
            stage, block = int(match[1]), int(match[2])
            stage_depths[stage] = max(stage_depths.get(stage, 0), block + 1)
    ours = {key: release_key_to_ours(key, stage_depths) for key in source}
    expected = model.state_dict()
    check_keys(ours.values(), expected, 'the checkpoint')

    num_things, num_stuff = release_num_classes(source)
    head: Any = model.semantic_head
    wanted = head.num_things_classes, head.num_stuff_classes
    if (num_things, num_stuff) != wanted and not reinitialize:
        raise CheckpointError(
            f'the checkpoint is for {num_things} thing and {num_stuff} stuff classes, '
            f'the network for {wanted[0]} and {wanted[1]}. Build the network for those '
            f'of the checkpoint (the tool: --num-classes {num_things} {num_stuff}), or '
            'give reinitialize=True (--num-classes with classes of your own) to have '
            'the last layers initialised anew and train them'
        )
    things = torch.arange(num_things)
    rows = {
        # things first in place of stuff first
        'semantic_head.conv_logits': torch.cat(
            [num_stuff + things, torch.arange(num_stuff)]
        ),
        # background last in place of first
        'roi_head.bbox_head.fc_cls': torch.cat([1 + things, torch.zeros(1).long()]),
        # four box deltas and one mask a class, none of them for background
        'roi_head.bbox_head.fc_reg': torch.arange(4, 4 + 4 * num_things),
        'roi_head.mask_head.conv_logits': 1 + things,
    }
    converted = {}
    for key, value in source.items():
        order = rows.get(ours[key].rpartition('.')[0])
        converted[ours[key]] = value if order is None else value[order]
    if (num_things, num_stuff) != wanted:
        fresh = [key for key in expected if key.rpartition('.')[0] in rows]
        converted.update({key: expected[key].clone() for key in fresh})
        print_log(
            f'the checkpoint has {num_things} thing and {num_stuff} stuff classes, the '
            f'network {wanted[0]} and {wanted[1]}: {len(fresh)} tensors are '
            f'initialised anew and have to be trained: {", ".join(fresh)}',
            logger='current',
            level=logging.WARNING,
        )
    check_state_dict(converted, expected, 'the checkpoint')
    return converted


def _check_arch(source: Mapping[str, Tensor], model: nn.Module) -> None:
    """Refuse state dicts of other networks and backbones, saying which they are."""
    if 'backbone.layers.0.conv.weight' in source:
        raise CheckpointError(
            'the checkpoint has the key names of this package already: it needs no '
            'conversion'
        )
    if 'backbone.conv_stem.weight' not in source:
        raise CheckpointError(
            'the checkpoint is not of a released EfficientPS network: it has no '
            'backbone.conv_stem.weight, its keys are like '
            f'{", ".join(list(source)[:5])}'
        )
    arch = release_arch(source)
    backbone: Any = model.backbone
    if arch and SEFreeEfficientNet.arch_settings[arch] != backbone.arch_setting:
        raise CheckpointError(
            f'the checkpoint has an EfficientNet-{arch.upper()} for a backbone, the '
            f'network has not: use a config with arch={arch!r} (the tool: '
            f'--arch {arch})'
        )
