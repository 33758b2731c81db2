# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The EfficientPS detector: one pass, three kinds of prediction."""

from __future__ import annotations

import copy

import torch
from mmdet.models.detectors.panoptic_two_stage_segmentor import (
    TwoStagePanopticSegmentor,
)
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.structures.roi_masks import boolean_masks, run_length_masks

from ..seg_heads.panoptic_fusion_heads import fusion_inputs, semantic_argmax

MASK_FORMATS = {'bitmap': boolean_masks, 'rle': run_length_masks}


@MODELS.register_module()
class EfficientPS(TwoStagePanopticSegmentor):
    """EfficientPS (Mohan & Valada, IJCV 2021).

    A shared backbone and neck, a semantic head, a Mask R-CNN style instance head,
    and a fusion of the two without parameters. ``test_cfg.panoptic`` is for the
    fusion head, and has settings of this class. The first three are switches, all
    True by default; a head that nothing switched on needs does not run, and masks are
    predicted for the detections that somebody uses:

    - ``with_panoptic``: make ``pred_panoptic_seg``, of the detections from
      ``test_cfg.panoptic.score_thr``.
    - ``with_instances``: make ``pred_instances``, of all detections from
      ``test_cfg.rcnn.score_thr``.
    - ``with_semantic``: make ``pred_sem_seg``.
    - ``mask_format``: what ``pred_instances.masks`` are: ``'bitmap'``, a tensor of
      image-sized masks as everywhere in mmdet and by default, or ``'rle'``, a list of
      COCO's run-length masks, which for large images is far cheaper and what metrics
      work on. :class:`PredictionNeedsHook` chooses by the metrics of a test.

    Args:
        freeze_norm (bool): Whether all norm layers keep their statistics and
            weights in training, for the paper's final stage. Defaults to False.
        kwargs: Arguments of :class:`mmdet.models.TwoStagePanopticSegmentor`.

    Raises:
        ValueError: If there is no thing class.
    """

    def __init__(self, freeze_norm: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        if self.panoptic_fusion_head.num_things_classes < 1:
            raise ValueError(
                'panoptic_fusion_head.num_things_classes is 0: the instance head needs '
                'something to find. For a data set of stuff alone train a network for '
                'semantic segmentation, or make at least one of its classes a thing'
            )
        self.freeze_norm = freeze_norm
        # What is frozen must not ask for gradients when the model is wrapped for
        # distributed training, which is before the first call of `train`.
        self.train()

    @property
    def cfg(self) -> Config:
        """The config that mmdet's ``init_detector`` built the model from."""
        return self._cfg

    @cfg.setter
    def cfg(self, config: Config) -> None:
        if isinstance(config, Config):
            own = _OwnConfig.__new__(_OwnConfig)
            own.__dict__.update(config.__dict__)
            config = own
        self._cfg = config

    def train(self, mode: bool = True) -> EfficientPS:
        """Set training mode, but for norm layers if they are frozen."""
        super().train(mode)
        if self.freeze_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval().requires_grad_(False)
        return self

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Compute all losses.

        Differs from the base class only in not copying the ground truth: it makes
        a deep copy of all masks and maps in every iteration to set the labels the
        RPN sees to zero.

        Args:
            batch_inputs (Tensor): Images of shape (N, C, H, W), normalised.
            batch_data_samples (list[DetDataSample]): With ``gt_instances``,
                ``ignored_instances`` and ``gt_sem_seg``.

        Returns:
            dict[str, Tensor]: ``loss_rpn_cls``, ``loss_rpn_bbox``, ``loss_cls``,
            ``loss_bbox``, ``loss_mask``, ``loss_seg`` and the accuracy ``acc``.
        """
        x = self.extract_feat(batch_inputs)
        losses, proposals = self.rpn_head.loss_and_predict(
            x,
            [_class_agnostic(sample) for sample in batch_data_samples],
            proposal_cfg=self.train_cfg.get('rpn_proposal', self.test_cfg.rpn),
        )
        losses.update(self.roi_head.loss(x, proposals, batch_data_samples))
        losses.update(self.semantic_head.loss(x, batch_data_samples))
        return losses

    def predict_fusion_inputs(
        self,
        batch_inputs: Tensor,
        batch_data_samples: SampleList,
        rescale: bool = True,
        score_thr: float = 0.0,
        with_detections: bool = True,
        with_semantic: bool = True,
    ) -> list[FusionInputs]:
        """Run the network up to the fusion.

        ``panoptic_fusion_head.fuse`` makes the panoptic map of what this gives.

        Args:
            batch_inputs (Tensor): Images of shape (N, C, H, W), normalised and
                padded at the right and bottom.
            batch_data_samples (list[DetDataSample]): With the meta of each image.
            rescale (bool): Whether boxes and result are at the size of the original
                image, or at that of the network input without padding. Defaults
                to True.
            score_thr (float): Detections below cost no mask and are left out.
                Defaults to 0, which leaves it to ``test_cfg.rcnn.score_thr``.
            with_detections (bool): Whether RPN and RoI head run; there are no
                detections otherwise. Defaults to True.
            with_semantic (bool): Whether the semantic head runs; the semantic logits
                have no channels otherwise. Defaults to True.

        Returns:
            list[FusionInputs]: One for each image.
        """
        x = self.extract_feat(batch_inputs)
        if with_detections:
            proposals = self.rpn_head.predict(x, batch_data_samples, rescale=False)
            detections = self.roi_head.predict(
                x, proposals, batch_data_samples, rescale=rescale, score_thr=score_thr
            )
        else:
            detections = [no_detections(batch_inputs)] * len(batch_data_samples)
        if with_semantic:
            seg_logits = self.semantic_head(x)['seg_preds']
        else:
            seg_logits = batch_inputs.new_zeros(len(batch_data_samples), 0, 1, 1)
        return [
            fusion_inputs(results, logits, sample.metainfo, rescale)
            for results, logits, sample in zip(
                detections, seg_logits, batch_data_samples, strict=True
            )
        ]

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: SampleList,
        rescale: bool = True,
    ) -> SampleList:
        """Predict panoptic, instance and semantic segmentation in one pass.

        Args:
            batch_inputs (Tensor): Images of shape (N, C, H, W), normalised and
                padded at the right and bottom.
            batch_data_samples (list[DetDataSample]): With the meta of each image.
            rescale (bool): Whether predictions are at the size of the original
                image, or at that of the network input without padding. Defaults
                to True.

        Returns:
            list[DetDataSample]: The same objects, with what :meth:`add_predictions`
            gives them.

        Raises:
            ValueError: If ``mask_format`` is neither of the two.
        """
        inputs = self.predict_fusion_inputs(
            batch_inputs, batch_data_samples, rescale, **self.needed_parts()
        )
        return self.add_predictions(batch_data_samples, inputs)

    def needed_parts(self) -> dict:
        """What the predictions that are switched on need of the network.

        Returns:
            dict: The arguments ``score_thr``, ``with_detections`` and
            ``with_semantic`` of :meth:`predict_fusion_inputs`.
        """
        panoptic, instances, semantic = (
            self._is_on(kind) for kind in ('panoptic', 'instances', 'semantic')
        )
        return {
            # The fusion takes the sure ones only.
            'score_thr': 0.0 if instances else self.panoptic_fusion_head.score_thr,
            'with_detections': panoptic or instances,
            'with_semantic': panoptic or semantic,
        }

    def _is_on(self, kind: str) -> bool:
        """Look a switch of ``test_cfg.panoptic`` up."""
        return self.test_cfg.panoptic.get(f'with_{kind}', True)

    def add_predictions(
        self, batch_data_samples: SampleList, batch_fusion_inputs: list[FusionInputs]
    ) -> SampleList:
        """Make the predictions of what the network says about each image.

        Args:
            batch_data_samples (list[DetDataSample]): Where the predictions go.
            batch_fusion_inputs (list[FusionInputs]): One for each of them.

        Returns:
            list[DetDataSample]: The same objects, with, as far as switched on in
            ``test_cfg.panoptic`` (H, W is the ``out_shape``):

            - ``pred_panoptic_seg.sem_seg`` (1, H, W), int: class +
              instance * INSTANCE_OFFSET, void is the number of classes.
            - ``pred_instances``: ``bboxes`` (M, 4) as x1, y1, x2, y2, ``scores``
              and ``labels`` (M,), ``masks`` (M, H, W) bool or M run-length masks.
            - ``pred_sem_seg.sem_seg`` (1, H, W), int: class.

        Raises:
            ValueError: If ``mask_format`` is neither of the two.
        """
        mask_format = self.test_cfg.panoptic.get('mask_format', 'bitmap')
        if mask_format not in MASK_FORMATS:
            raise ValueError(
                f'test_cfg.panoptic.mask_format is {mask_format!r}, must be one of '
                f'{list(MASK_FORMATS)}'
            )
        for sample, inputs in zip(batch_data_samples, batch_fusion_inputs, strict=True):
            if self._is_on('panoptic'):
                panoptic = self.panoptic_fusion_head.fuse(inputs).panoptic
                sample.pred_panoptic_seg = PixelData(sem_seg=panoptic[None])
            if self._is_on('instances'):
                sample.pred_instances = InstanceData(
                    bboxes=inputs.bboxes,
                    scores=inputs.scores,
                    labels=inputs.labels,
                    masks=MASK_FORMATS[mask_format](
                        inputs.bboxes,
                        inputs.mask_logits,
                        inputs.out_shape,
                        self.roi_head.test_cfg.mask_thr_binary,
                    ),
                )
            if self._is_on('semantic'):
                classes = semantic_argmax(
                    inputs.seg_logits, inputs.out_shape, inputs.valid_shape
                )
                sample.pred_sem_seg = PixelData(sem_seg=classes[None])
        return batch_data_samples


def no_detections(like: Tensor) -> InstanceData:
    """What the RoI head gives where it finds nothing.

    Args:
        like (Tensor): Of the device and type wanted.

    Returns:
        InstanceData: ``bboxes`` (0, 4), ``scores`` (0, ), ``labels`` (0, ) and
        ``mask_logits`` (0, 1, 1).
    """
    return InstanceData(
        bboxes=like.new_zeros(0, 4),
        scores=like.new_zeros(0),
        labels=like.new_zeros(0, dtype=torch.long),
        mask_logits=like.new_zeros(0, 1, 1),
    )


class _OwnConfig(Config):
    """A config whose copies share nothing with it.

    mmdet's ``inference_detector`` puts another loader into a copy of ``model.cfg`` for
    images given as arrays. Parts of MMEngine's copies are those of the original: the
    next image, given as a path, would meet that loader.
    """

    def copy(self) -> Config:
        """Copy everything."""
        return copy.deepcopy(self)


def _class_agnostic(sample: DetDataSample) -> DetDataSample:
    """What the RPN needs of a sample: its boxes, all of class 0; nothing copied."""
    view = DetDataSample(metainfo=sample.metainfo)
    view.gt_instances = InstanceData(
        bboxes=sample.gt_instances.bboxes,
        labels=torch.zeros_like(sample.gt_instances.labels),
    )
    if 'ignored_instances' in sample:
        view.ignored_instances = sample.ignored_instances
    return view
