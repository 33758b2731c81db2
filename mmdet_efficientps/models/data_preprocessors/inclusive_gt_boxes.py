# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Ground truth boxes in the convention of mmdet 1.x."""

from __future__ import annotations

from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor, nn


@MODELS.register_module()
class InclusiveGTBoxes(nn.Module):
    """Make the ground truth boxes of a batch inclusive.

    Data sets give x2 and y2 as one past the last pixel of a box; inclusive boxes name
    the last pixel itself. For ``batch_augments`` of
    :class:`mmdet.models.DetDataPreprocessor`, which runs them in training only, so
    that the convention is a matter of the network and not of every data set.
    """

    def forward(
        self, inputs: Tensor, data_samples: SampleList
    ) -> tuple[Tensor, SampleList]:
        """Replace the boxes of all samples.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list[DetDataSample]): With ``gt_instances`` and, where
                there are any, ``ignored_instances``; ``bboxes`` (M, 4) as tensors.

        Returns:
            tuple[Tensor, list[DetDataSample]]: The arguments; boxes are replaced in
            the samples, not changed in place.
        """
        for sample in data_samples:
            for name in ('gt_instances', 'ignored_instances'):
                if name in sample:
                    boxes = sample.get(name).bboxes
                    sample.get(name).bboxes = boxes - boxes.new_tensor([0, 0, 1, 1])
        return inputs, data_samples
