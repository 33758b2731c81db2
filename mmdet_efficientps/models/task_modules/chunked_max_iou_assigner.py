# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Which anchor belongs to which object, in memory that does not grow with objects."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmdet.models.task_modules.assigners import AssignResult, MaxIoUAssigner
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

# Overlaps that are there at once. mmdet makes ten tensors of this size on the way.
_CHUNK_PAIRS = 2**22


@TASK_UTILS.register_module()
class ChunkedMaxIoUAssigner(MaxIoUAssigner):
    """:class:`mmdet.models.task_modules.MaxIoUAssigner`, a few objects at a time.

    An image of 1024 x 2048 has 522 240 anchors at strides 4 to 32. mmdet compares all
    of them with all objects at once. Here their overlaps with some objects are
    computed, what they say is noted, and the next come. The result is the same.

    Args:
        kwargs: Arguments of the base class. ``gpu_assign_thr`` is not needed, and
            ``perm_repeat_gt_cfg`` is left to the base class.
    """

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign objects to priors.

        Args:
            pred_instances (InstanceData): ``priors``, (n, 4), xyxy in pixels.
            gt_instances (InstanceData): ``bboxes``, (k, 4), and ``labels``, (k, ).
            gt_instances_ignore (InstanceData, optional): ``bboxes`` of crowd regions.
                Defaults to None.
            kwargs: As the base class.

        Returns:
            AssignResult: As the base class gives it.
        """
        priors, boxes = pred_instances.priors, gt_instances.bboxes
        ignored = None if gt_instances_ignore is None else gt_instances_ignore.bboxes
        if not len(boxes):
            # All is background, in crowds too.
            return super().assign(pred_instances, gt_instances, **kwargs)
        most = max(len(boxes), 0 if ignored is None else len(ignored))
        if most * len(priors) <= _CHUNK_PAIRS or self.perm_repeat_gt_cfg is not None:
            return super().assign(
                pred_instances, gt_instances, gt_instances_ignore, **kwargs
            )
        in_crowd = self._in_crowd(priors, ignored)
        nothing = priors.new_zeros(len(priors), dtype=torch.long)
        # Number of the object, from 1, that overlaps most, and of the last one for
        # which a prior is the best there is.
        best, best_for = nothing.clone(), nothing.clone()
        largest = priors.new_full((len(priors),), -1.0)
        for start, chunk in _chunks(boxes, len(priors)):
            overlaps = self.iou_calculator(chunk, priors)
            if in_crowd is not None:
                overlaps[:, in_crowd] = -1
            values, indices = overlaps.max(dim=0)
            # Of equal overlaps the first counts.
            better = values > largest
            largest[better] = values[better]
            best[better] = indices[better] + start + 1
            if self.match_low_quality:
                self._note_best_priors(overlaps, start, best_for)
        assigned = torch.full_like(best, -1)
        assigned[self._is_negative(largest)] = 0
        positive = largest >= self.pos_iou_thr
        assigned[positive] = best[positive]
        assigned = torch.where(best_for > 0, best_for, assigned)
        labels = torch.full_like(assigned, -1)
        positive = assigned > 0
        labels[positive] = gt_instances.labels[assigned[positive] - 1]
        return AssignResult(len(boxes), assigned, largest, labels)

    def _in_crowd(self, priors: Tensor, ignored: Tensor | None) -> Tensor | None:
        """Priors that lie in crowd regions, (n, ), bool; None if that is not asked."""
        if self.ignore_iof_thr <= 0 or ignored is None or not len(ignored):
            return None
        inside = torch.zeros(len(priors), dtype=torch.bool, device=priors.device)
        for _, chunk in _chunks(ignored, len(priors)):
            if self.ignore_wrt_candidates:
                overlaps = self.iou_calculator(priors, chunk, mode='iof').T
            else:
                overlaps = self.iou_calculator(chunk, priors, mode='iof')
            inside |= overlaps.amax(dim=0) > self.ignore_iof_thr
        return inside

    def _note_best_priors(self, overlaps: Tensor, start: int, best_for: Tensor) -> None:
        """Note for which object a prior is the best; later objects come first."""
        values, indices = overlaps.max(dim=1)
        for i, value in enumerate(values):
            if value < self.min_pos_iou:
                continue
            chosen = overlaps[i] == value if self.gt_max_assign_all else indices[i]
            best_for[chosen] = start + i + 1

    def _is_negative(self, largest: Tensor) -> Tensor:
        """Priors that are background, (n, ), bool."""
        low, high = (
            self.neg_iou_thr
            if isinstance(self.neg_iou_thr, tuple)
            else (0, self.neg_iou_thr)
        )
        return (largest >= low) & (largest < high)


def _chunks(boxes: Tensor, num_priors: int) -> Iterator[tuple[int, Tensor]]:
    """Some boxes at a time, and the number of the first of them."""
    size = max(_CHUNK_PAIRS // max(num_priors, 1), 1)
    for start in range(0, len(boxes), size):
        yield start, boxes[start : start + size]
