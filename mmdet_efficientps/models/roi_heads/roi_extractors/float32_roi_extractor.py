# Licensed under the Apache License, Version 2.0. See LICENSE.
"""RoI features that are right in mixed precision."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class Float32RoIExtractor(SingleRoIExtractor):
    """:class:`mmdet.models.SingleRoIExtractor` in float32 under autocast.

    mmdet turns RoIs into the type of the features. In half precision their area
    overflows from 256x256 pixels, which puts them on the last level whatever their
    size, pixels beyond 1024 are rounded, and mmcv's RoIAlign takes no bfloat16.
    Without autocast nothing differs. Arguments as the base class.
    """

    def forward(
        self,
        feats: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
    ) -> Tensor:
        """Extract the features of RoIs.

        Args:
            feats (tuple[Tensor]): Feature maps of the levels, (N, C, h, w) each, of
                any floating point type.
            rois (Tensor): (K, 5), image index and x1, y1, x2, y2 in pixels of the
                network input.
            roi_scale_factor (float, optional): Factor to enlarge RoIs by.

        Returns:
            Tensor: Shape (K, C, *output_size), float32.
        """
        with torch.autocast(rois.device.type, enabled=False):
            feats = tuple(feat.float() for feat in feats)
            return super().forward(feats, rois.float(), roi_scale_factor)
