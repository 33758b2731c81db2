# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Bidirectional feature pyramid with weighted fusion, for comparison."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..layers import SeparableConv, fold_activation
from .two_way_fpn import check_num_levels, resize_as


class WeightedFusion(BaseModule):
    """Weighted mean of features of one size, then a separable 3x3 conv.

    The weights are learnt, one for each input, kept positive by a ReLU and divided
    by their sum ("fast normalised fusion").

    Args:
        num_inputs (int): Number of inputs.
        channels (int): Channels of every input and of the output.
        norm_cfg (dict): Config of the norm layers.
        act_cfg (dict, optional): Config of the activation.
    """

    # keeps the division finite should all weights become 0
    EPS = 1e-4

    def __init__(
        self, num_inputs: int, channels: int, norm_cfg: dict, act_cfg: dict | None
    ) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.conv = SeparableConv(
            channels, channels, norm_cfg=norm_cfg, act_cfg=act_cfg
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """``num_inputs`` times (N, channels, h, w) to (N, channels, h, w)."""
        weights = self.weights.relu()
        weights = weights / (weights.sum() + self.EPS)
        fused = sum(w * x for w, x in zip(weights, inputs, strict=True))
        return self.conv(fused)


class BiFPNLayer(BaseModule):
    """Once from the coarsest level to the finest and back again.

    Args:
        num_levels (int): Number of levels.
        channels (int): Channels of every level.
        norm_cfg (dict): Config of the norm layers.
        act_cfg (dict, optional): Config of the activation.
    """

    def __init__(
        self, num_levels: int, channels: int, norm_cfg: dict, act_cfg: dict | None
    ) -> None:
        super().__init__()

        def fusion(num_inputs: int) -> WeightedFusion:
            return WeightedFusion(num_inputs, channels, norm_cfg, act_cfg)

        # Finest level first. The coarsest level has no node on the way down, and
        # the last node of the way up has no third input.
        self.top_down = ModuleList(fusion(2) for _ in range(num_levels - 1))
        self.bottom_up = ModuleList(
            fusion(3 if i < num_levels - 1 else 2) for i in range(1, num_levels)
        )

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Levels (N, channels, h_i, w_i), finest first, to levels of the same sizes."""
        last = len(inputs) - 1
        middle = list(inputs)
        for i in reversed(range(last)):
            upsampled = resize_as(middle[i + 1], inputs[i])
            middle[i] = self.top_down[i](inputs[i], upsampled)
        outs = middle[:1]
        for i in range(1, last + 1):
            downsampled = F.max_pool2d(outs[-1], 3, stride=2, padding=1)
            own = inputs[i : i + 1] if i == last else (inputs[i], middle[i])
            outs.append(self.bottom_up[i - 1](*own, downsampled))
        return outs


@MODELS.register_module()
class BiFPN(BaseModule):
    """BiFPN over the levels of the backbone.

    Tan et al., "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020:
    weighted fusion, separable convs, repeated layers. Differs from it in having only
    the levels of the backbone, and in norm and activation after both convs of a
    separable one, as everywhere in EfficientPS.

    Args:
        in_channels (Sequence[int]): Channels of the input levels, finest first; each
            level has half the size of the one before, rounded up.
        out_channels (int): Channels of every output. Defaults to 256.
        num_layers (int): How often the layer is repeated. Defaults to 3, as in
            EfficientDet-D0.
        norm_cfg (dict): Config of the norm layers.
            Defaults to ``dict(type='InPlaceABN')``.
        act_cfg (dict, optional): Config of the activation.
            Defaults to ``dict(type='LeakyReLU', negative_slope=0.01)``.
        init_cfg (dict, optional): Initialisation config. Defaults to Xavier
            uniform, as mmdet's FPN.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_layers: int = 3,
        norm_cfg: dict = dict(type='InPlaceABN'),
        act_cfg: dict | None = dict(type='LeakyReLU', negative_slope=0.01),
        init_cfg: dict | None = dict(
            type='Xavier', layer='Conv2d', distribution='uniform'
        ),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels = tuple(in_channels)
        folded_norm_cfg, folded_act_cfg = fold_activation(norm_cfg, act_cfg)
        self.lateral_convs = ModuleList(
            ConvModule(
                channels,
                out_channels,
                1,
                norm_cfg=folded_norm_cfg,
                act_cfg=folded_act_cfg,
            )
            for channels in self.in_channels
        )
        self.layers = nn.Sequential(
            *(
                BiFPNLayer(len(self.in_channels), out_channels, norm_cfg, act_cfg)
                for _ in range(num_layers)
            )
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the levels of a backbone.

        Args:
            inputs (Sequence[Tensor]): Level i has shape (N, in_channels[i], h_i,
                w_i), finest first.

        Returns:
            tuple[Tensor]: Level i has shape (N, out_channels, h_i, w_i).

        Raises:
            ValueError: If the number of levels is not ``len(in_channels)``.
        """
        check_num_levels(self.in_channels, inputs)
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, inputs, strict=True)]
        return tuple(self.layers(laterals))
