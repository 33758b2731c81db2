# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Padding that makes no copy."""

from __future__ import annotations

from mmcv.cnn.bricks import Conv2dAdaptivePadding
from torch import nn


def pad_within_convs(model: nn.Module) -> None:
    """Replace convs that pad a copy of their input by convs that pad, in place.

    EfficientNets have :class:`mmcv.cnn.bricks.Conv2dAdaptivePadding`. At stride 1 it
    pads the same on both sides, as any conv can; others stay.

    Args:
        model (nn.Module): Any network.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if (
                isinstance(child, Conv2dAdaptivePadding)
                and child.stride == (1, 1)
                and all(size % 2 for size in child.kernel_size)
            ):
                setattr(module, name, _padding_conv(child))


def _padding_conv(layer: nn.Conv2d) -> nn.Conv2d:
    (height, width), (dilation_y, dilation_x) = layer.kernel_size, layer.dilation
    conv = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (height, width),
        padding=(dilation_y * (height // 2), dilation_x * (width // 2)),
        dilation=(dilation_y, dilation_x),
        groups=layer.groups,
        device='meta',
    )
    conv.weight, conv.bias = layer.weight, layer.bias
    return conv.train(layer.training)
