# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Names and class order of the authors' released networks, mapped to ours.

The released state dicts differ from ours in the names of their modules and in the
order of classes: stuff before things in the semantic head, background before the
classes in the box head, and one channel for it in the mask head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

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
        str: Key of :class:`~mmdet_efficientps.models.EfficientPS`.

    Raises:
        KeyError: If the key is none of a released network.
    """
    if match := _BLOCK.fullmatch(key):
        stage, block = int(match[1]), int(match[2])
        name = _BLOCK_NAMES[stage > 0][match[3]]
        ours, after = _STAGES[stage]
        if after is not None:
            block += stage_depths[after]
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
    raise KeyError(f'{key} is not a key of a released EfficientPS network')


def convert_release_state_dict(
    source: Mapping[str, Tensor], num_things: int, num_stuff: int
) -> dict[str, Tensor]:
    """Rename and reorder a state dict of the released networks.

    Args:
        source (Mapping[str, Tensor]): State dict of a released network.
        num_things (int): Number of thing classes, 8 for Cityscapes and KITTI.
        num_stuff (int): Number of stuff classes, 11 for Cityscapes and KITTI.

    Returns:
        dict[str, Tensor]: State dict for the release variant of
        :class:`~mmdet_efficientps.models.EfficientPS`, of the same arch. It computes
        what the release does; boxes need its legacy anchors and coder too.

    Raises:
        KeyError: If keys are left over that no released network has; lists them.
    """
    stage_depths: dict[int, int] = {}
    for key in source:
        if match := _BLOCK.fullmatch(key):
            stage, block = int(match[1]), int(match[2])
            stage_depths[stage] = max(stage_depths.get(stage, 0), block + 1)

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
    converted, unknown = {}, []
    for key, value in source.items():
        try:
            ours = release_key_to_ours(key, stage_depths)
        except KeyError:
            unknown.append(key)
            continue
        order = rows.get(ours.rpartition('.')[0])
        converted[ours] = value if order is None else value[order]
    if unknown:
        raise KeyError(
            f'{len(unknown)} keys are not of a released EfficientPS network: '
            f'{", ".join(unknown)}'
        )
    return converted
