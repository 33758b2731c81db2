# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The two-way feature pyramid network (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..layers import SeparableConv, checkpoint_activations, fold_activation


@MODELS.register_module()
class TwoWayFPN(BaseModule):
    """Feature pyramid with a top-down and a parallel bottom-up path.

    Each path has its own 1x1 lateral convs. The top-down path adds the coarser
    level upsampled, the bottom-up path the finer level downsampled, both by
    nearest neighbour. Output i is a 3x3 conv on the sum of the two paths. Every
    conv is followed by norm and activation and has no bias. With the top-down path
    alone it is the feature pyramid network of :class:`mmdet.models.FPN`.

    Args:
        in_channels (Sequence[int]): Channels of the input levels, finest first.
        out_channels (int): Channels of every output. Defaults to 256.
        separable_output_convs (bool): Whether the output convs are depthwise
            separable, as in the paper, or plain, as in the released networks.
            Defaults to True.
        paths (Sequence[str]): The paths to build, one or both of 'top_down' and
            'bottom_up'. Defaults to both.
        norm_cfg (dict): Config of the norm layers.
            Defaults to ``dict(type='InPlaceABN')``.
        act_cfg (dict, optional): Config of the activation.
            Defaults to ``dict(type='LeakyReLU', negative_slope=0.01)``.
        with_cp (bool): Whether convs are computed again in backward instead of
            keeping their activations. Defaults to False.
        init_cfg (dict, optional): Initialisation config. Defaults to Xavier
            uniform, as mmdet's FPN.

    Raises:
        ValueError: If ``paths`` is empty or has anything else.
    """

    PATHS = ('top_down', 'bottom_up')

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        separable_output_convs: bool = True,
        paths: Sequence[str] = PATHS,
        norm_cfg: dict = dict(type='InPlaceABN'),
        act_cfg: dict | None = dict(type='LeakyReLU', negative_slope=0.01),
        with_cp: bool = False,
        init_cfg: dict | None = dict(
            type='Xavier', layer='Conv2d', distribution='uniform'
        ),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not paths or not set(paths) <= set(self.PATHS):
            raise ValueError(
                f'neck.paths is {paths!r}, must be one or both of {self.PATHS}'
            )
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        self.with_cp = with_cp
        folded_norm_cfg, folded_act_cfg = fold_activation(norm_cfg, act_cfg)

        def conv(channels: int, kernel_size: int) -> ConvModule:
            return ConvModule(
                channels,
                out_channels,
                kernel_size,
                padding=kernel_size // 2,
                norm_cfg=folded_norm_cfg,
                act_cfg=folded_act_cfg,
            )

        def output_conv() -> ConvModule | SeparableConv:
            if separable_output_convs:
                return SeparableConv(
                    out_channels, out_channels, norm_cfg=norm_cfg, act_cfg=act_cfg
                )
            return conv(out_channels, 3)

        # All lists are finest level first.
        self.top_down_convs, self.bottom_up_convs = (
            ModuleList(conv(c, 1) for c in self.in_channels) if path in paths else None
            for path in self.PATHS
        )
        self.output_convs = ModuleList(output_conv() for _ in self.in_channels)

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
        paths = []
        if self.top_down_convs is not None:
            coarsest_first = self._path(reversed(self.top_down_convs), reversed(inputs))
            paths.append(coarsest_first[::-1])
        if self.bottom_up_convs is not None:
            paths.append(self._path(self.bottom_up_convs, inputs))
        return tuple(
            self._call(conv, reduce(torch.add, levels))
            for conv, *levels in zip(self.output_convs, *paths, strict=True)
        )

    def _path(
        self, convs: Iterable[nn.Module], inputs: Iterable[Tensor]
    ) -> list[Tensor]:
        """Lateral conv of every level, each plus what the level before came to."""
        outs: list[Tensor] = []
        for conv, x in zip(convs, inputs, strict=True):
            lateral = self._call(conv, x)
            outs.append(lateral + resize_as(outs[-1], lateral) if outs else lateral)
        return outs

    def _call(self, conv: nn.Module, x: Tensor) -> Tensor:
        return checkpoint_activations(conv, x) if self.with_cp else conv(x)


def check_num_levels(in_channels: Sequence[int], inputs: Sequence[Tensor]) -> None:
    """Raise a ValueError unless a neck is given as many levels as it is made for."""
    if len(inputs) != len(in_channels):
        raise ValueError(
            f'neck.in_channels is for {len(in_channels)} levels, the backbone gives '
            f'{len(inputs)}: check backbone.out_indices'
        )


def resize_as(x: Tensor, reference: Tensor) -> Tensor:
    """Nearest-neighbour resize of ``x`` to the height and width of ``reference``."""
    return F.interpolate(x, size=reference.shape[-2:], mode='nearest')
