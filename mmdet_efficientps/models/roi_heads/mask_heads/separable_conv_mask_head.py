# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Mask R-CNN's mask head with separable convs (paper, section 3.4)."""

from __future__ import annotations

from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from mmengine.model import ModuleList
from torch import Tensor

from ...layers import SeparableConv, checkpoint_activations


@MODELS.register_module()
class SeparableConvMaskHead(FCNMaskHead):
    """:class:`mmdet.models.FCNMaskHead` whose convs are depthwise separable.

    Args:
        num_convs (int): Number of separable convs before the upsampling.
            Defaults to 4.
        in_channels (int): Channels of the RoI features. Defaults to 256.
        conv_kernel_size (int): Size of the depthwise kernels. Defaults to 3.
        conv_out_channels (int): Channels of every conv. Defaults to 256.
        norm_cfg (dict): Config of the norm layers.
            Defaults to ``dict(type='InPlaceABN')``.
        act_cfg (dict, optional): Config of the activation.
            Defaults to ``dict(type='LeakyReLU', negative_slope=0.01)``.
        with_cp (bool): Whether the head is computed again in backward instead of
            keeping its activations. Defaults to False.
        kwargs: Other arguments of :class:`mmdet.models.FCNMaskHead`, such as
            ``num_classes``, ``class_agnostic`` and ``loss_mask``.
    """

    def __init__(
        self,
        num_convs: int = 4,
        in_channels: int = 256,
        conv_kernel_size: int = 3,
        conv_out_channels: int = 256,
        norm_cfg: dict = dict(type='InPlaceABN'),
        act_cfg: dict | None = dict(type='LeakyReLU', negative_slope=0.01),
        with_cp: bool = False,
        **kwargs,
    ) -> None:
        # The base class is built without its plain convs.
        super().__init__(
            num_convs=0,
            in_channels=conv_out_channels if num_convs else in_channels,
            conv_out_channels=conv_out_channels,
            **kwargs,
        )
        self.num_convs = num_convs
        self.in_channels = in_channels
        self.conv_kernel_size = conv_kernel_size
        self.norm_cfg = norm_cfg
        self.with_cp = with_cp
        self.convs = ModuleList(
            SeparableConv(
                in_channels if i == 0 else conv_out_channels,
                conv_out_channels,
                conv_kernel_size,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
            )
            for i in range(num_convs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Predict masks.

        Args:
            x (Tensor): RoI features, (K, in_channels, m, m).

        Returns:
            Tensor: Logits, (K, num_classes, 2 * m, 2 * m).
        """
        if not self.with_cp:
            return super().forward(x)
        return checkpoint_activations(super().forward, x)
