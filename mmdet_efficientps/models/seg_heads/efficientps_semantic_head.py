# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The semantic head of EfficientPS (paper, section 3.3): LSFE, DPC and MC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.necks.rfp import ASPP
from mmdet.models.seg_heads.base_semantic_head import BaseSemanticHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..layers import SeparableConv, checkpoint_activations, fold_activation
from ..losses import BootstrappedCrossEntropyLoss


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize to (height, width); every resize of the head is this one."""
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=False)


class LSFE(BaseModule):
    """Large scale feature extractor: two separable 3x3 convs.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        norm_cfg (dict): Config of the norm layers.
        act_cfg (dict): Config of the activation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm_cfg: dict, act_cfg: dict
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            SeparableConv(
                in_channels, out_channels, norm_cfg=norm_cfg, act_cfg=act_cfg
            ),
            SeparableConv(
                out_channels, out_channels, norm_cfg=norm_cfg, act_cfg=act_cfg
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        return self.convs(x)


class DPC(BaseModule):
    """Dense prediction cell: separable convs of searched dilation rates.

    Chen et al., "Searching for Efficient Multi-Scale Architectures for Dense Image
    Prediction", NeurIPS 2018. One branch looks at the input; three see its output,
    and one the output of the last of those; their concatenation is reduced by a
    1x1 conv.

    Args:
        in_channels (int): Channels of the input and of every branch.
        out_channels (int): Channels of the output.
        norm_cfg (dict): Config of the norm layers.
        act_cfg (dict): Config of the activation.
    """

    # (height, width) of the dilation of each branch, and the branch it is fed by;
    # None is the input of the cell.
    BRANCHES = (
        ((1, 6), None),
        ((1, 1), 0),
        ((6, 21), 0),
        ((18, 15), 0),
        ((6, 3), 3),
    )

    def __init__(
        self, in_channels: int, out_channels: int, norm_cfg: dict, act_cfg: dict
    ) -> None:
        super().__init__()
        self.branches = ModuleList(
            SeparableConv(
                in_channels,
                in_channels,
                dilation=dilation,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
            )
            for dilation, _ in self.BRANCHES
        )
        folded_norm_cfg, folded_act_cfg = fold_activation(norm_cfg, act_cfg)
        self.reduce = ConvModule(
            len(self.BRANCHES) * in_channels,
            out_channels,
            1,
            norm_cfg=folded_norm_cfg,
            act_cfg=folded_act_cfg,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        outs: list[Tensor] = []
        for branch, (_, source) in zip(self.branches, self.BRANCHES, strict=True):
            outs.append(branch(x if source is None else outs[source]))
        return self.reduce(torch.cat(outs, dim=1))


class ASPPCell(BaseModule):
    """Atrous spatial pyramid pooling, reduced by a 1x1 conv; not in the paper.

    :class:`mmdet.models.necks.rfp.ASPP` with the branches of DeepLabv3 (Chen et al.,
    2017): 1x1 conv, three dilated 3x3 convs, the mean over the image. Its convs have
    a bias and ReLU instead of norm layers. Arguments as :class:`LSFE`.
    """

    # 1: a 1x1 conv, and as the last one that of the mean over the image
    DILATIONS = (1, 6, 12, 18, 1)

    def __init__(
        self, in_channels: int, out_channels: int, norm_cfg: dict, act_cfg: dict
    ) -> None:
        super().__init__()
        self.aspp = ASPP(in_channels, out_channels, self.DILATIONS)
        folded_norm_cfg, folded_act_cfg = fold_activation(norm_cfg, act_cfg)
        self.reduce = ConvModule(
            len(self.DILATIONS) * out_channels,
            out_channels,
            1,
            norm_cfg=folded_norm_cfg,
            act_cfg=folded_act_cfg,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        return self.reduce(self.aspp(x))


class MC(LSFE):
    """Mismatch correction module: two separable convs, then upsampling.

    Reconciles features of coarse levels with the finer level they are added to.
    Arguments as :class:`LSFE`.
    """

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:  # type: ignore[override]
        """(N, in_channels, h, w) to (N, out_channels, *size)."""
        return _resize(self.convs(x), size)


CELLS = {'LSFE': LSFE, 'DPC': DPC, 'ASPP': ASPPCell}


@MODELS.register_module()
class EfficientPSSemanticHead(BaseSemanticHead):
    """Semantic head with LSFE on the fine levels, DPC on the coarse ones, and MC.

    Classes are things first, stuff after them. The logits come at stride 4; the
    loss is taken on them resized to the size of the labels.

    Args:
        num_things_classes (int): Number of thing classes. Defaults to 8.
        num_stuff_classes (int): Number of stuff classes. Defaults to 11.
        in_channels (int): Channels of the four neck levels. Defaults to 256.
        inner_channels (int): Channels inside the head. Defaults to 128.
        large_scale_cell (str): What looks at strides 4 and 8: 'LSFE', 'DPC' or
            'ASPP'. Defaults to 'LSFE'.
        small_scale_cell (str): What looks at strides 16 and 32. Defaults to 'DPC'.
        with_mc (bool): Whether coarse features go through mismatch correction
            before they are added to finer ones; without it they are only resized.
            Defaults to True.
        norm_cfg (dict): Config of the norm layers.
            Defaults to ``dict(type='InPlaceABN')``.
        act_cfg (dict, optional): Config of the activation.
            Defaults to ``dict(type='LeakyReLU', negative_slope=0.01)``.
        with_cp (bool): Whether cells and logits are computed again in backward
            instead of keeping activations. Defaults to False.
        loss_seg (dict): Config of the loss, called with logits (N, C, H, W) and
            labels (N, H, W).
            Defaults to ``dict(type='BootstrappedCrossEntropyLoss')``.
        init_cfg (dict, optional): Initialisation config.

    Raises:
        ValueError: If a cell is none of the three.
    """

    def __init__(
        self,
        num_things_classes: int = 8,
        num_stuff_classes: int = 11,
        in_channels: int = 256,
        inner_channels: int = 128,
        large_scale_cell: str = 'LSFE',
        small_scale_cell: str = 'DPC',
        with_mc: bool = True,
        norm_cfg: dict = dict(type='InPlaceABN'),
        act_cfg: dict | None = dict(type='LeakyReLU', negative_slope=0.01),
        with_cp: bool = False,
        loss_seg: dict = dict(type='BootstrappedCrossEntropyLoss'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_things_classes + num_stuff_classes,
            seg_rescale_factor=1,
            loss_seg=loss_seg,
            init_cfg=init_cfg,
        )
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.with_cp = with_cp

        for field, name in (
            ('large_scale_cell', large_scale_cell),
            ('small_scale_cell', small_scale_cell),
        ):
            if name not in CELLS:
                raise ValueError(
                    f'semantic_head.{field} is {name!r}, must be one of {list(CELLS)}'
                )

        def cell(cls: type, channels: int) -> BaseModule:
            return cls(channels, inner_channels, norm_cfg=norm_cfg, act_cfg=act_cfg)

        # named after what the paper has there
        self.lsfe4 = cell(CELLS[large_scale_cell], in_channels)
        self.lsfe8 = cell(CELLS[large_scale_cell], in_channels)
        self.dpc16 = cell(CELLS[small_scale_cell], in_channels)
        self.dpc32 = cell(CELLS[small_scale_cell], in_channels)
        self.mc8 = cell(MC, inner_channels) if with_mc else _resize
        self.mc4 = cell(MC, inner_channels) if with_mc else _resize
        self.conv_logits = nn.Conv2d(4 * inner_channels, self.num_classes, 1)

    def forward(self, x: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the logits.

        Args:
            x (Sequence[Tensor]): Neck outputs at strides 4, 8, 16, 32, each of
                shape (N, in_channels, h, w).

        Returns:
            dict[str, Tensor]: ``seg_preds``, logits of shape (N, C, h4, w4) at
            stride 4, and ``seg_feats``, their input of 4 * inner_channels channels.
        """
        p4, p8, p16, p32 = x
        d32 = self._call(self.dpc32, p32)
        d16 = self._call(self.dpc16, p16)
        l8 = self._call(self.lsfe8, p8) + self._call(
            self.mc8, d16 + _resize(d32, d16.shape[-2:]), p8.shape[-2:]
        )
        l4 = self._call(self.lsfe4, p4) + self._call(self.mc4, l8, p4.shape[-2:])
        return self._call(self._logits, l4, l8, d16, d32)

    def _logits(self, l4: Tensor, *coarser: Tensor) -> dict[str, Tensor]:
        """What the levels have to say together, at the size of the first."""
        levels = [l4, *(_resize(level, l4.shape[-2:]) for level in coarser)]
        feats = torch.cat(levels, dim=1)
        return dict(seg_preds=self.conv_logits(feats), seg_feats=feats)

    def _call(self, part: Callable, *inputs: Any) -> Any:
        return checkpoint_activations(part, *inputs) if self.with_cp else part(*inputs)

    def loss(
        self, x: Sequence[Tensor], batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Compute the semantic loss.

        Args:
            x (Sequence[Tensor]): Neck outputs, as in :meth:`forward`.
            batch_data_samples (list[DetDataSample]): Each with
                ``gt_sem_seg.sem_seg`` of shape (1, H, W), class index or 255.

        Returns:
            dict[str, Tensor]: ``loss_seg``, a scalar.
        """
        target = torch.cat([s.gt_sem_seg.sem_seg for s in batch_data_samples]).long()
        logits = self.forward(x)['seg_preds'].float()
        if not isinstance(self.loss_seg, BootstrappedCrossEntropyLoss):
            # It does this itself, without logits of this size ever being there.
            logits = _resize(logits, target.shape[-2:])
        return dict(loss_seg=self.loss_seg(logits, target))
