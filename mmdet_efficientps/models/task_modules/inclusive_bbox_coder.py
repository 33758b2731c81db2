# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The box coder of mmdet 1.x, exactly.

Inclusive boxes, the convention of mmdet 1.x and of the released networks: x1, y1, x2,
y2 name the first and the last pixel of a box, so that its width is x2 - x1 + 1 and a
box around a whole image of width W ends at W - 1. In the current convention
coordinates are continuous, and the same box ends at W.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.task_modules.coders import LegacyDeltaXYWHBBoxCoder
from mmdet.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class InclusiveDeltaXYWHBBoxCoder(LegacyDeltaXYWHBBoxCoder):
    """Coder of inclusive boxes whose decoding inverts its encoding.

    :class:`mmdet.models.task_modules.LegacyDeltaXYWHBBoxCoder` encodes alike, but
    leaves out a half pixel on every side when it decodes. With centre gx and width gw
    a box is [gx - gw / 2 + 0.5, gx + gw / 2 - 0.5].

    Args:
        target_means (Sequence[float]): Means of the deltas. Defaults to zeros.
        target_stds (Sequence[float]): Standard deviations of the deltas. Defaults
            to ones.
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        super().__init__(target_means, target_stds)

    def decode(
        self,
        bboxes: Tensor,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = 16 / 1000,
    ) -> Tensor:
        """Apply deltas to boxes.

        Args:
            bboxes (Tensor): Inclusive boxes, (N, 4) as x1, y1, x2, y2 in pixels.
            pred_bboxes (Tensor): Deltas dx, dy, dw, dh, (N, 4) or (N, 4 * C).
            max_shape (Sequence[int], optional): Height and width of the image; boxes
                are clipped to [0, width - 1] and [0, height - 1].
            wh_ratio_clip (float): dw and dh are clamped to ±abs(ln(wh_ratio_clip)).
                Defaults to 16 / 1000.

        Returns:
            Tensor: Inclusive boxes, of the shape of ``pred_bboxes``.
        """
        decoded = super().decode(bboxes, pred_bboxes, None, wh_ratio_clip)
        boxes = decoded.view(len(decoded), -1, 4)
        boxes = boxes + boxes.new_tensor([0.5, 0.5, -0.5, -0.5])
        if max_shape is not None:
            height, width = max_shape[:2]
            last = boxes.new_tensor([width - 1, height - 1, width - 1, height - 1])
            boxes = boxes.clamp(min=0).minimum(last)
        return boxes.view_as(decoded)
