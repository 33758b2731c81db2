# Licensed under the Apache License, Version 2.0. See LICENSE.
"""mmdet's heuristic fusion in place of that of EfficientPS, for comparison."""

from __future__ import annotations

import torch
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.registry import MODELS
from mmdet.utils import OptConfigType, OptMultiConfig
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.structures.roi_masks import boolean_masks, is_usable

from .efficientps_fusion_head import EfficientPSFusionHead
from .panoptic_fusion import Fused, check_labels, semantic_argmax


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
            test_cfg=ConfigDict(),
        )

    def _fuse(self, inputs: FusionInputs, settings: dict[str, float]) -> Fused:
        """Fuse what is confident; which detections stay mmdet does not tell."""
        check_labels(inputs.labels, self.num_things_classes)
        out_shape = inputs.out_shape
        classes = semantic_argmax(inputs.seg_logits, out_shape, inputs.valid_shape)
        merged = torch.where(
            classes < self.num_things_classes,
            self.num_stuff_classes,
            classes - self.num_things_classes,
        )
        # The head looks for the largest of C values: a byte will do for each.
        channels = torch.arange(self.num_stuff_classes + 1, device=merged.device)
        one_hot = (merged == channels[:, None, None]).byte()
        usable = is_usable(inputs.bboxes, inputs.scores, inputs.mask_logits)
        bboxes = inputs.bboxes[usable]
        instances = InstanceData(
            bboxes=bboxes,
            scores=inputs.scores[usable],
            labels=inputs.labels[usable],
            masks=boolean_masks(bboxes, inputs.mask_logits[usable], out_shape),
        )
        self.heuristic.test_cfg.update(
            mask_overlap=settings['overlap_thr'],
            stuff_area_limit=settings['min_stuff_area'],
        )
        (panoptic,) = self.heuristic.predict([instances], [one_hot])
        return Fused(panoptic.sem_seg[0], None)
