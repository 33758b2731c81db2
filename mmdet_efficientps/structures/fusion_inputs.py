# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What the network says about an image, before it becomes masks and maps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class FusionInputs:
    """Everything that the panoptic fusion of an image works on.

    All of it is small beside the image, and there is no map of the size of the image:
    it can be kept to fuse again with other thresholds, and joined with that of other
    views or parts of the image before the fusion.

    Attributes:
        bboxes (Tensor): Boxes of the detections, (N, 4), float, as x1, y1, x2, y2 in
            pixels of the result; pixel i covers [i, i + 1].
        scores (Tensor): (N, ), float in 0..1, descending.
        labels (Tensor): Thing classes, (N, ), int64.
        mask_logits (Tensor): Mask logits of each box's own class, (N, m, m), float.
        seg_logits (Tensor): Semantic logits, (C, h, w), float, things first.
        valid_shape (tuple[float, float]): Height and width of the part of
            ``seg_logits`` that shows the image, in cells, not necessarily whole; the
            rest is padding.
        out_shape (tuple[int, int]): Height and width of the result in pixels.
    """

    bboxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor
    seg_logits: Tensor
    valid_shape: tuple[float, float]
    out_shape: tuple[int, int]

    def confident(self, score_thr: float) -> FusionInputs:
        """Leave out the detections of which the network is less sure.

        Args:
            score_thr (float): Smallest score that stays.

        Returns:
            FusionInputs: Shares the semantic logits with this one.
        """
        sure = self.scores >= score_thr
        return FusionInputs(
            self.bboxes[sure],
            self.scores[sure],
            self.labels[sure],
            self.mask_logits[sure],
            self.seg_logits,
            self.valid_shape,
            self.out_shape,
        )

    def to(self, device: str) -> FusionInputs:
        """Give the same on another device.

        Args:
            device (str): Torch device.

        Returns:
            FusionInputs: With all tensors there.
        """
        return FusionInputs(
            self.bboxes.to(device),
            self.scores.to(device),
            self.labels.to(device),
            self.mask_logits.to(device),
            self.seg_logits.to(device),
            self.valid_shape,
            self.out_shape,
        )
