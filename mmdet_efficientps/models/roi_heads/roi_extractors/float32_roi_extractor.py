# Licensed under the Apache License, Version 2.0. See LICENSE.
"""RoI features that are right in mixed precision, and fast on a CPU if asked."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor

from .gathered_roi_align import can_gather, gathered_roi_align


@MODELS.register_module()
class Float32RoIExtractor(SingleRoIExtractor):
    """:class:`mmdet.models.SingleRoIExtractor` in float32 under autocast.

    mmdet turns RoIs into the type of the features. In half precision their area
    overflows from 256x256 pixels, which puts them on the last level whatever their
    size, pixels beyond 1024 are rounded, and mmcv's RoIAlign takes no bfloat16. Nor
    does it look at strides: on a CPU, features in channels-last give wrong values
    without a word. Elsewhere nothing differs. Arguments as the base class.

    Attributes:
        gathers (bool): Whether RoIs on a CPU go through
            :func:`~.gathered_roi_align.gathered_roi_align`, which is equal up to
            rounding. False for training, whose results it would change in the last
            digits; :func:`~mmdet_efficientps.models.prepare_for_inference` sets it.
    """

    gathers = False

    def forward(
        self,
        feats: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
    ) -> Tensor:
        """Extract the features of RoIs.

        Args:
            feats (tuple[Tensor]): Feature maps of the levels, (N, C, h, w) each, of
                any floating point type and layout.
            rois (Tensor): (K, 5), image index and x1, y1, x2, y2 in pixels of the
                network input.
            roi_scale_factor (float, optional): Factor to enlarge RoIs by.

        Returns:
            Tensor: Shape ``(K, C, *output_size)``, float32, in channels-last if
            ``gathers`` on a CPU.
        """
        with torch.autocast(rois.device.type, enabled=False):
            rois = rois.float()
            feats = tuple(feat.float() for feat in feats)
            if (
                self.gathers
                and rois.device.type == 'cpu'
                and all(map(can_gather, self.roi_layers))
            ):
                return self._gather(feats, rois, roi_scale_factor)
            feats = tuple(feat.contiguous() for feat in feats)
            return super().forward(feats, rois, roi_scale_factor)

    def _gather(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None
    ) -> Tensor:
        """Do what the base class does by weighted sums of cells."""
        level_of = self.map_roi_levels(rois, len(feats))
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        size = self.roi_layers[0].output_size
        out = rois.new_empty((len(rois), *size, self.out_channels)).permute(0, 3, 1, 2)
        for level, (feat, layer) in enumerate(zip(feats, self.roi_layers, strict=True)):
            chosen = (level_of == level).nonzero().squeeze(1)
            if len(chosen):
                out[chosen] = gathered_roi_align(
                    feat,
                    rois[chosen],
                    layer.output_size,
                    layer.spatial_scale,
                    layer.sampling_ratio,
                    layer.aligned,
                )
        return out
