# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic segmentation from several views of an image, merged before the fusion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.ops import batched_nms
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_flip, scale_boxes
from mmdet.utils import InstanceList
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_efficientps.structures.bilinear_sampling import image_axis, sample
from mmdet_efficientps.structures.fusion_inputs import FusionInputs

from ..detectors.efficientps import EfficientPS, no_detections
from ..seg_heads.panoptic_fusion_heads import valid_logits_shape

_FLIPPED_DIMS = {'horizontal': [-1], 'vertical': [-2], 'diagonal': [-2, -1]}


def unflip(maps: Tensor, img_meta: dict) -> Tensor:
    """Turn maps of a view the way the image is.

    Args:
        maps (Tensor): (..., h, w).
        img_meta (dict): Meta of the view; ``flip`` and ``flip_direction`` are those of
            mmcv's ``RandomFlip``, and a view without them is not flipped.

    Returns:
        Tensor: Of the same shape.

    Examples:
        >>> meta = dict(flip=True, flip_direction='horizontal')
        >>> unflip(torch.tensor([[1, 2, 3]]), meta)
        tensor([[3, 2, 1]])
    """
    if not img_meta.get('flip'):
        return maps
    return maps.flip(_FLIPPED_DIMS[img_meta['flip_direction']])


def merge_seg_logits(seg_logits: Sequence[Tensor], metas: Sequence[dict]) -> Tensor:
    """Average the semantic logits of the views of an image.

    Args:
        seg_logits (Sequence[Tensor]): Of each view, (C, h, w), at any stride of the
            padded input.
        metas (Sequence[dict]): Of each view, as :func:`valid_logits_shape` and
            :func:`unflip` need it.

    Returns:
        Tensor: (C, h', w'), float32, without padding: as many cells as the finest
        view has for the image.
    """
    valid_shapes = [
        valid_logits_shape(logits, meta)
        for logits, meta in zip(seg_logits, metas, strict=True)
    ]
    height, width = (math.ceil(max(sides)) for sides in zip(*valid_shapes, strict=True))
    total = seg_logits[0].new_zeros(
        (len(seg_logits[0]), height, width), dtype=torch.float32
    )
    for logits, meta, (valid_y, valid_x) in zip(
        seg_logits, metas, valid_shapes, strict=True
    ):
        cells = logits[:, : math.ceil(valid_y), : math.ceil(valid_x)].float()
        rows = image_axis(height, valid_y, cells.shape[1], cells.device)
        columns = image_axis(width, valid_x, cells.shape[2], cells.device)
        for of_class, grid in zip(total, cells, strict=True):
            of_class += unflip(sample(grid, rows, columns), meta)
    return total.div_(len(seg_logits))


@dataclass
class _View:
    """What the network says about one view of each image of a batch."""

    metas: list[dict]
    features: tuple[Tensor, ...] | None
    detections: InstanceList
    seg_logits: Tensor


@MODELS.register_module()
class PanopticTTAModel(BaseTTAModel):
    """:class:`EfficientPS` with test-time augmentation.

    The views of an image, resized and flipped, are merged before there is any map of
    the image, so that one fusion makes one result of them:

    - boxes of all views are brought to the original image, and the non-maximum
      suppression of ``test_cfg.rcnn`` (``nms``, ``max_per_img``) leaves the best of
      those that views have in common;
    - the mask head looks at each of these boxes in every view, and its logits are
      averaged;
    - semantic logits are averaged on the grid of the finest view.

    A single view that is not flipped gives just what the network gives. Predictions and
    switches are those of :class:`EfficientPS`. The neck outputs of all views are kept
    until the masks are made, in float32 and with 256 channels about 4.5 GB for the
    twelve views of an image of 1024x2048 pixels.

    Boxes of networks with inclusive boxes are told by ``nms.offset``, which is 1 for
    them.

    Args:
        module (dict | EfficientPS): The network.
        kwargs: Arguments of :class:`mmengine.model.BaseTTAModel`.

    Raises:
        TypeError: If the network is of another kind.

    Examples:
        In a config, for ``tools/test.py --tta``::

            tta_model = dict(type='PanopticTTAModel')
            tta_pipeline = [
                dict(type='LoadImageFromFile'),
                dict(
                    type='PanopticTestTimeAug',
                    scale=(2048, 1024),
                    ratios=(0.75, 1.0, 1.25),
                ),
            ]
    """

    def __init__(self, module: dict | EfficientPS, **kwargs: Any) -> None:
        super().__init__(module, **kwargs)
        if not isinstance(self.module, EfficientPS):
            raise TypeError(
                'PanopticTTAModel merges what EfficientPS gives its fusion, but the '
                f'model of the config is a {type(self.module).__name__}: test it '
                'without --tta'
            )

    def test_step(self, data: dict) -> SampleList:
        """Predict the images of a batch from their views.

        Args:
            data (dict): As for :meth:`predict_fusion_inputs`.

        Returns:
            list[DetDataSample]: Those of the first view, with the predictions of
            :meth:`EfficientPS.add_predictions`.
        """
        inputs = self.predict_fusion_inputs(data, **self.module.needed_parts())
        return self.module.add_predictions(data['data_samples'][0], inputs)

    def predict_fusion_inputs(
        self,
        data: dict,
        score_thr: float = 0.0,
        with_detections: bool = True,
        with_semantic: bool = True,
    ) -> list[FusionInputs]:
        """Run the network on all views, and merge what it says up to the fusion.

        Args:
            data (dict): ``inputs`` and ``data_samples``, for each view a list of
                those of each image: what mmengine's ``pseudo_collate`` makes of
                results of :class:`PanopticTestTimeAug`.
            score_thr (float): As for :meth:`EfficientPS.predict_fusion_inputs`, as
                are the others. Defaults to 0.
            with_detections (bool): Whether to detect. Defaults to True.
            with_semantic (bool): Whether to give semantic logits. Defaults to True.

        Returns:
            list[FusionInputs]: One for each image, at the size of the original.
        """
        batches = [
            {'inputs': images, 'data_samples': samples}
            for images, samples in zip(
                data['inputs'], data['data_samples'], strict=True
            )
        ]
        flipped = any(sample.get('flip') for sample in batches[0]['data_samples'])
        if len(batches) == 1 and not flipped:
            batch = self.module.data_preprocessor(batches[0], False)
            return self.module.predict_fusion_inputs(
                batch['inputs'],
                batch['data_samples'],
                score_thr=score_thr,
                with_detections=with_detections,
                with_semantic=with_semantic,
            )

        views = [
            self._run(batch, score_thr, with_detections, with_semantic)
            for batch in batches
        ]
        numbers = range(len(views[0].metas))
        merged = [self._merge_boxes(views, number) for number in numbers]
        if with_detections:
            self._add_masks(views, merged)
        return [
            self._fusion_inputs(views, number, results)
            for number, results in zip(numbers, merged, strict=True)
        ]

    def merge_preds(self, data_samples_list: list[SampleList]) -> SampleList:
        """Not used: views are merged before they become predictions."""
        raise NotImplementedError(
            'PanopticTTAModel merges what comes before the fusion, in test_step: '
            'finished predictions of views are not merged'
        )

    def _run(
        self,
        batch: dict,
        score_thr: float,
        with_detections: bool,
        with_semantic: bool,
    ) -> _View:
        """Run the network on one view of each image, without masks."""
        batch = self.module.data_preprocessor(batch, False)
        images, samples = batch['inputs'], batch['data_samples']
        x = self.module.extract_feat(images)
        detections = [no_detections(images) for _ in samples]
        if with_detections:
            proposals = self.module.rpn_head.predict(x, samples, rescale=False)
            detections = self.module.roi_head.predict_boxes(
                x, proposals, samples, score_thr
            )
        return _View(
            [sample.metainfo for sample in samples],
            x if with_detections else None,
            detections,
            self.module.semantic_head(x)['seg_preds']
            if with_semantic
            else images.new_zeros(len(images), 0, 1, 1),
        )

    def _merge_boxes(self, views: list[_View], number: int) -> InstanceData:
        """Merge the detections of an image, boxes in pixels of the original."""
        cfg = self.module.roi_head.test_cfg
        bboxes = torch.cat(
            [
                self._to_image(view.detections[number].bboxes, view.metas[number])
                for view in views
            ]
        )
        scores = torch.cat([view.detections[number].scores for view in views])
        labels = torch.cat([view.detections[number].labels for view in views])
        if len(bboxes):
            kept, indices = batched_nms(bboxes, scores, labels, cfg.nms)
            kept, indices = kept[: cfg.max_per_img], indices[: cfg.max_per_img]
            bboxes, scores, labels = kept[:, :4], kept[:, 4], labels[indices]
        return InstanceData(
            bboxes=bboxes,
            scores=scores,
            labels=labels,
            mask_logits=bboxes.new_zeros(len(bboxes), 1, 1),
        )

    def _add_masks(self, views: list[_View], merged: InstanceList) -> None:
        """Give the merged detections of each image their average mask logits."""
        of_views = []
        for view in views:
            own = [
                InstanceData(
                    bboxes=self._to_view(results.bboxes, meta), labels=results.labels
                )
                for results, meta in zip(merged, view.metas, strict=True)
            ]
            own = self.module.roi_head.predict_mask(view.features, view.metas, own)
            of_views.append(
                [
                    unflip(results.mask_logits, meta)
                    for results, meta in zip(own, view.metas, strict=True)
                ]
            )
            view.features = None
        for results, logits in zip(merged, zip(*of_views, strict=True), strict=True):
            results.mask_logits = torch.stack(logits).mean(0)

    def _fusion_inputs(
        self, views: list[_View], number: int, results: InstanceData
    ) -> FusionInputs:
        """Put together what the fusion of an image works on."""
        metas = [view.metas[number] for view in views]
        seg_logits = merge_seg_logits(
            [view.seg_logits[number] for view in views], metas
        )
        out_height, out_width = metas[0]['ori_shape'][:2]
        height, width = seg_logits.shape[1:]
        return FusionInputs(
            results.bboxes,
            results.scores,
            results.labels,
            results.mask_logits,
            seg_logits,
            (height, width),
            (out_height, out_width),
        )

    def _to_image(self, bboxes: Tensor, img_meta: dict) -> Tensor:
        """Bring boxes of a view to the original image."""
        w_scale, h_scale = img_meta['scale_factor']
        return scale_boxes(self._mirrored(bboxes, img_meta), (1 / w_scale, 1 / h_scale))

    def _to_view(self, bboxes: Tensor, img_meta: dict) -> Tensor:
        """Bring boxes of the original image to a view."""
        return self._mirrored(scale_boxes(bboxes, img_meta['scale_factor']), img_meta)

    def _mirrored(self, bboxes: Tensor, img_meta: dict) -> Tensor:
        """Mirror boxes within a view if it is flipped."""
        if not img_meta.get('flip'):
            return bboxes
        offset = self.module.roi_head.test_cfg.nms.get('offset', 0)
        height, width = img_meta['img_shape'][:2]
        shape = height - offset, width - offset
        return bbox_flip(bboxes, shape, img_meta['flip_direction'])
