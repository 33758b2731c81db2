# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Cross entropy over the pixels a network does worst on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..layers import checkpoint_activations

# How many logits of pixels may be there at once; some multiples of it are needed.
_STRIP_VALUES = 2**22


@MODELS.register_module()
class BootstrappedCrossEntropyLoss(nn.Module):
    """Mean cross entropy of the worst pixels of the batch (paper, equation 1).

    The paper writes it as weights 4 / (W H) on the quarter of the pixels with the
    largest loss and 0 on the others. As in the released code the quarter is of all
    pixels of the batch, ignored ones included, which count as loss 0.

    Smaller logits are resized to the labels, bilinearly. Where that is by a whole
    number, and there are many pixels, strip after strip is resized, once more in
    backward, so that logits at the size of the labels, 150 MB for 19 classes and
    1024 x 2048 pixels, and what the loss makes of them, are never there as a whole.

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
            logits (Tensor): Shape (N, C, h, w), float, or (P, C) of single pixels.
            target (Tensor): Shape (N, H, W) or (P, ), int64, class or
                ``ignore_index``.

        Returns:
            Tensor: Scalar; 0 with a gradient of 0 where every pixel is ignored.
        """
        loss = self._pixel_losses(logits, target).flatten()
        count = max(int(self.fraction * loss.numel()), 1)
        worst = loss.topk(count, sorted=False).values if count < loss.numel() else loss
        return self.loss_weight * worst.mean()

    def _pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of every pixel, of the shape of the target."""
        if logits.dim() == 2:
            return self._cross_entropy(logits, target)
        height, width = target.shape[1:]
        num_rows = logits.shape[2]
        # Pixels that one row of logits, which are classes x columns, is resized to.
        row_values = logits[:, :, 0, 0].numel() * height // num_rows * width
        rows = max(_STRIP_VALUES // row_values, 1)
        if height % num_rows or rows >= num_rows:
            return self._strip_losses(logits, target, 0, num_rows)
        strips = [
            checkpoint_activations(
                self._strip_losses, logits, target, row, min(row + rows, num_rows)
            )
            for row in range(0, num_rows, rows)
        ]
        return torch.cat(strips, dim=1)

    def _strip_losses(
        self, logits: Tensor, target: Tensor, start: int, stop: int
    ) -> Tensor:
        """The loss of every pixel that some rows of the logits are resized to."""
        num_rows = logits.shape[2]
        if (start, stop) == (0, num_rows):
            resized = _resize(logits, target.shape[1:])
        else:
            factor = target.shape[1] // num_rows
            # Pixels half a row off its centre see the next one.
            first, last = max(start - 1, 0), min(stop + 1, num_rows)
            size = ((last - first) * factor, target.shape[2])
            resized = _resize(logits[:, :, first:last], size)
            top = (start - first) * factor
            resized = resized[:, :, top : top + (stop - start) * factor]
            target = target[:, start * factor : stop * factor]
        return self._cross_entropy(resized, target)

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, target, ignore_index=self.ignore_index, reduction='none'
        )


def _resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize to (height, width)."""
    if logits.shape[2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode='bilinear', align_corners=False)
