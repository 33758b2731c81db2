# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Depthwise separable convolution with a norm after each of its two convs."""

from __future__ import annotations

from mmcv.cnn import DepthwiseSeparableConvModule

from .inplace_abn import fold_activation


class SeparableConv(DepthwiseSeparableConvModule):
    """Depthwise conv, norm, activation, pointwise conv, norm, activation.

    The separable convolution of EfficientPS (section 3 of the paper): no bias,
    zero padding that keeps the size, and with iABN the activation is part of the
    norm layers.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int): Size of the depthwise kernel, odd. Defaults to 3.
        dilation (int | tuple[int, int]): Dilation of the depthwise kernel,
            (height, width). Defaults to 1.
        norm_cfg (dict): Config of both norm layers.
            Defaults to ``dict(type='InPlaceABN')``.
        act_cfg (dict, optional): Config of both activations.
            Defaults to ``dict(type='LeakyReLU', negative_slope=0.01)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        dilation: int | tuple[int, int] = 1,
        norm_cfg: dict | None = dict(type='InPlaceABN'),
        act_cfg: dict | None = dict(type='LeakyReLU', negative_slope=0.01),
    ) -> None:
        dilation = (dilation, dilation) if isinstance(dilation, int) else dilation
        norm_cfg, act_cfg = fold_activation(norm_cfg, act_cfg)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            padding=tuple(d * (kernel_size // 2) for d in dilation),
            dilation=dilation,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
