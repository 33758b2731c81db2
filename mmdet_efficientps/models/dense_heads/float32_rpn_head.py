# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Region proposals that are right in mixed precision."""

from __future__ import annotations

from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class Float32RPNHead(RPNHead):
    """:class:`mmdet.models.RPNHead` whose outputs are float32 under autocast.

    mmdet makes anchors of the type of the scores. In half precision, pixels beyond
    1024 are then rounded, to whole ones in float16 and to eights in bfloat16, many
    scores become equal, and mmcv's NMS takes no half. The convolutions still run in
    half precision. Without autocast nothing differs. Arguments as the base class.
    """

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict on one level.

        Args:
            x (Tensor): Features, (N, C, h, w).

        Returns:
            tuple[Tensor, Tensor]: Objectness (N, anchors, h, w) and box deltas
            (N, 4 * anchors, h, w), float32.
        """
        score, deltas = super().forward_single(x)
        return score.float(), deltas.float()
