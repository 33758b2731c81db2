# Licensed under the Apache License, Version 2.0. See LICENSE.
"""RoI features of inclusive boxes, as mmdet 1.x took them."""

from __future__ import annotations

from mmdet.registry import MODELS
from torch import Tensor

from .float32_roi_extractor import Float32RoIExtractor


@MODELS.register_module()
class InclusiveRoIExtractor(Float32RoIExtractor):
    """:class:`Float32RoIExtractor` for inclusive boxes.

    x2 and y2 name the last pixel of a box: it is as wide as x2 + 1 - x1, and its level
    follows from sqrt((x2 - x1 + 1) * (y2 - y1 + 1)). Arguments as the base class;
    what the released networks compute needs ``roi_layer.aligned=False``.
    """

    def forward(
        self,
        feats: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
    ) -> Tensor:
        """Extract the features of RoIs.

        Args:
            feats (tuple[Tensor]): Feature maps of the levels, (N, C, h, w) each.
            rois (Tensor): (K, 5), image index and x1, y1, x2, y2, inclusive, in
                pixels of the network input.
            roi_scale_factor (float, optional): Factor to enlarge RoIs by.

        Returns:
            Tensor: Shape ``(K, C, *output_size)``.
        """
        exclusive = rois + rois.new_tensor([0, 0, 0, 1, 1])
        return super().forward(feats, exclusive, roi_scale_factor)
