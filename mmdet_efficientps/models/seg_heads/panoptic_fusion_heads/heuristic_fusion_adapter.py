# Licensed under the Apache License, Version 2.0. See LICENSE.
"""mmdet's heuristic fusion in place of that of EfficientPS, for comparison."""

from __future__ import annotations

import torch
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.registry import MODELS
from mmdet.utils import OptConfigType, OptMultiConfig
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_efficientps.structures.roi_masks import boolean_masks, is_usable

from .efficientps_fusion_head import EfficientPSFusionHead
from .panoptic_fusion import check_labels, semantic_argmax


@MODELS.register_module()
class HeuristicFusionAdapter(EfficientPSFusionHead):
    """:class:`mmdet.models.HeuristicFusionHead` on the predictions of EfficientPS.

    That head lays binary masks by descending score on a semantic map (Kirillov et
    al., "Panoptic Segmentation", CVPR 2019). It wants both at image size, and one
    semantic class for all things together, after the stuff classes. Here it gets
    them from the logits EfficientPS predicts, so that one line of a config exchanges
    the fusion of a trained network. The thresholds are those of EfficientPS:
    ``overlap_thr`` is mmdet's ``mask_overlap``, ``min_stuff_area`` its
    ``stuff_area_limit``; ``mask_logits_scale`` has no effect.

    Args:
        num_things_classes: Number of thing classes.
        num_stuff_classes: Number of stuff classes.
        test_cfg: As for :class:`EfficientPSFusionHead`.
        init_cfg: Unused; there is nothing to initialise.
    """

    def __init__(
        self,
        num_things_classes: int = 8,
        num_stuff_classes: int = 11,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, test_cfg, init_cfg)
        self.heuristic = HeuristicFusionHead(
            num_things_classes,
            num_stuff_classes,
            test_cfg=ConfigDict(
                mask_overlap=self._setting('overlap_thr'),
                stuff_area_limit=self._setting('min_stuff_area'),
            ),
        )

    def _fuse(
        self,
        seg_logits: Tensor,
        results: InstanceData,
        out_shape: tuple[int, int],
        valid_shape: tuple[float, float],
    ) -> Tensor:
        """Make the panoptic map, (H, W) int32, of an image's confident detections."""
        check_labels(results.labels, self.num_things_classes)
        classes = semantic_argmax(seg_logits, out_shape, valid_shape)
        merged = torch.where(
            classes < self.num_things_classes,
            self.num_stuff_classes,
            classes - self.num_things_classes,
        )
        # The head looks for the largest of C values: a byte will do for each.
        channels = torch.arange(self.num_stuff_classes + 1, device=merged.device)
        one_hot = (merged == channels[:, None, None]).byte()
        usable = is_usable(results.bboxes, results.scores, results.mask_logits)
        results = results[usable]
        instances = InstanceData(
            bboxes=results.bboxes,
            scores=results.scores,
            labels=results.labels,
            masks=boolean_masks(results.bboxes, results.mask_logits, out_shape),
        )
        (panoptic,) = self.heuristic.predict([instances], [one_hot])
        return panoptic.sem_seg[0]
