# Licensed under the Apache License, Version 2.0. See LICENSE.
"""EfficientNet without squeeze-and-excitation, the backbone of EfficientPS."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import build_activation_layer
from mmdet.models.backbones import EfficientNet
from mmdet.models.layers import InvertedResidual
from mmdet.registry import MODELS

from ..layers import InPlaceABN, fold_activation


@MODELS.register_module()
class SEFreeEfficientNet(EfficientNet):
    """EfficientNet-B0 to B7 without squeeze-and-excitation (paper, section 3.1).

    The layers and their names are those of mmdet's EfficientNet less the ``se``
    modules, so its checkpoints fit. Norm and activation follow the released
    networks: every expansion, depthwise, stem and last conv is activated, the
    projection of an inverted residual is linear, except in the first stage (which
    has no expansion), where it is activated too, before the residual is added.

    Outputs with the default ``out_indices``, at strides 4, 8, 16 and 32: B0 has
    24, 40, 112 and 1280 channels, B5 40, 64, 176 and 2048.

    Args:
        arch (str): 'b0' to 'b7'. Defaults to 'b5'.
        out_indices (Sequence[int]): Stages to output. Defaults to (2, 3, 4, 6).
        norm_cfg (dict): Config of the norm layers.
            Defaults to ``dict(type='InPlaceABN', eps=1e-3)``.
        act_cfg (dict): Config of the activation.
            Defaults to ``dict(type='LeakyReLU', negative_slope=0.01)``.
        linear_first_stage (bool): Make the projection of the first stage linear
            as well. Defaults to False.
        kwargs: Other arguments of :class:`mmdet.models.EfficientNet`:
            ``drop_path_rate``, ``frozen_stages``, ``conv_cfg``, ``norm_eval``,
            ``with_cp``, ``init_cfg``.
    """

    layer_settings = {
        # kernel size, channels, SE ratio, stride, expansion, block type
        'b': [
            [[size, channels, 0, stride, expansion, block] for
             size, channels, _, stride, expansion, block in stage]
            for stage in EfficientNet.layer_settings['b']
        ]
    }  # fmt: skip
    arch_settings = {
        arch: EfficientNet.arch_settings[arch]
        for arch in ('b0', 'b1', 'b2', 'b3', 'b4', 'b5', 'b6', 'b7')
    }

    def __init__(
        self,
        arch: str = 'b5',
        out_indices: Sequence[int] = (2, 3, 4, 6),
        norm_cfg: dict = dict(type='InPlaceABN', eps=1e-3),
        act_cfg: dict = dict(type='LeakyReLU', negative_slope=0.01),
        linear_first_stage: bool = False,
        **kwargs,
    ) -> None:
        folded_norm_cfg, folded_act_cfg = fold_activation(norm_cfg, act_cfg)
        super().__init__(
            arch=arch,
            out_indices=out_indices,
            norm_cfg=folded_norm_cfg,
            act_cfg=folded_act_cfg,
            **kwargs,
        )
        # The base class gives the same norm_cfg to all convs and no activation to
        # the projections; which of them are linear is put right here.
        for module in self.modules():
            if not isinstance(module, InvertedResidual):
                continue
            projection = module.linear_conv
            linear = module.with_expand_conv or linear_first_stage
            if isinstance(projection.norm, InPlaceABN):
                if linear:
                    projection.norm.activation = 'identity'
            elif not linear:
                projection.activate = build_activation_layer(act_cfg)
                projection.with_activation = True

    def train(self, mode: bool = True) -> SEFreeEfficientNet:
        """Set training mode; returns self, which the base class forgets to."""
        super().train(mode)
        return self
