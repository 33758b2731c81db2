# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Cross entropy over the pixels a network does worst on."""

from __future__ import annotations

import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class BootstrappedCrossEntropyLoss(nn.Module):
    """Mean cross entropy of the worst pixels of the batch (paper, equation 1).

    The paper writes it as weights 4 / (W H) on the quarter of the pixels with the
    largest loss and 0 on the others. As in the released code the quarter is of all
    pixels of the batch, ignored ones included, which count as loss 0.

    Args:
        fraction (float): Share of the pixels that count, in (0, 1]. 1 is the plain
            mean over all pixels. Defaults to 0.25.
        ignore_index (int): Label without a loss. Defaults to 255.
        loss_weight (float): Factor of the loss. Defaults to 1.
    """

    def __init__(
        self, fraction: float = 0.25, ignore_index: int = 255, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            raise ValueError(f'loss_seg.fraction is {fraction}, must be in (0, 1]')
        self.fraction = fraction
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits (Tensor): Shape (N, C, H, W), float.
            target (Tensor): Shape (N, H, W), int64, class or ``ignore_index``.

        Returns:
            Tensor: Scalar; 0 with a gradient of 0 where every pixel is ignored.
        """
        loss = F.cross_entropy(
            logits, target, ignore_index=self.ignore_index, reduction='none'
        ).flatten()
        count = max(int(self.fraction * loss.numel()), 1)
        worst = loss.topk(count, sorted=False).values if count < loss.numel() else loss
        return self.loss_weight * worst.mean()
