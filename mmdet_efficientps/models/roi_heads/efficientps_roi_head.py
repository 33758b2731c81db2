# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The RoI head of EfficientPS: it hands mask logits on instead of pasting them."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, scale_boxes
from mmdet.utils import InstanceList
from torch import Tensor


@MODELS.register_module()
class EfficientPSRoIHead(StandardRoIHead):
    """:class:`mmdet.models.StandardRoIHead` whose predictions keep mask logits.

    mmdet pastes and thresholds every mask at image size inside the head, after
    which the logits that the panoptic fusion works on are gone. Here the results
    have ``mask_logits`` of RoI size; :mod:`mmdet_efficientps.structures.roi_masks`
    makes masks of the image of them for whoever needs those. Under autocast all
    outputs of the heads are float32, so that losses are. Arguments as the base class.
    """

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """Run the box head; arguments and result as the base class."""
        results = super()._bbox_forward(x, rois)
        return results | {
            name: results[name].float() for name in ('cls_score', 'bbox_pred')
        }

    def _mask_forward(self, *args, **kwargs) -> dict:
        """Run the mask head; arguments and result as the base class."""
        results = super()._mask_forward(*args, **kwargs)
        return results | {'mask_preds': results['mask_preds'].float()}

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
        score_thr: float = 0.0,
    ) -> InstanceList:
        """Predict boxes, and mask logits of those that are sure enough.

        Args:
            x (tuple[Tensor]): Neck outputs.
            rpn_results_list (list[InstanceData]): Proposals of each image.
            batch_data_samples (list[DetDataSample]): With the meta of each image.
            rescale (bool): Whether to scale the boxes to the original image.
                Defaults to False.
            score_thr (float): Detections below are dropped before their masks cost
                anything. Defaults to 0, which leaves it to ``test_cfg.score_thr``.

        Returns:
            list[InstanceData]: As :meth:`predict_mask`, with ``scores`` and
            ``labels`` (N, ).
        """
        sure = self.predict_boxes(x, rpn_results_list, batch_data_samples, score_thr)
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.predict_mask(x, metas, sure, rescale=rescale)

    def predict_boxes(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        score_thr: float = 0.0,
    ) -> InstanceList:
        """Predict boxes that are sure enough.

        Args:
            x (tuple[Tensor]): Neck outputs.
            rpn_results_list (list[InstanceData]): Proposals of each image.
            batch_data_samples (list[DetDataSample]): With the meta of each image.
            score_thr (float): As for :meth:`predict`. Defaults to 0.

        Returns:
            list[InstanceData]: ``bboxes`` (N, 4) as x1, y1, x2, y2 in pixels of the
            network input, ``scores`` and ``labels`` (N, ).
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        detections = self.predict_bbox(
            x, metas, rpn_results_list, rcnn_test_cfg=self.test_cfg, rescale=False
        )
        return [results[results.scores >= score_thr] for results in detections]

    def predict_mask(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """Predict the mask logits of detections.

        Args:
            x (tuple[Tensor]): Neck outputs.
            batch_img_metas (list[dict]): Meta of each image, with ``scale_factor``
                (width, height) if ``rescale``.
            results_list (list[InstanceData]): Detections of each image, ``bboxes``
                (N, 4) as x1, y1, x2, y2 in pixels of the network input.
            rescale (bool): Whether to scale the boxes to the original image.
                Defaults to False.

        Returns:
            list[InstanceData]: The same objects, with ``mask_logits`` (N, m, m),
            float, of the class of each detection, m = 28 with the default head,
            and rescaled ``bboxes``.
        """
        rois = bbox2roi([results.bboxes for results in results_list])
        logits = self._mask_forward(x, rois)['mask_preds']
        if not self.mask_head.class_agnostic:
            labels = torch.cat([results.labels for results in results_list])
            logits = logits[torch.arange(len(labels), device=labels.device), labels]
        else:
            logits = logits[:, 0]
        sizes = [len(results) for results in results_list]
        for results, own, meta in zip(
            results_list, logits.split(sizes), batch_img_metas, strict=True
        ):
            results.mask_logits = own
            if rescale:
                w_scale, h_scale = meta['scale_factor']
                results.bboxes = scale_boxes(results.bboxes, (1 / w_scale, 1 / h_scale))
        return results_list
