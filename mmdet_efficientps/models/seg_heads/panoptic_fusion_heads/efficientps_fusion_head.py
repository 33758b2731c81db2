# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic fusion head of EfficientPS."""

from mmdet.models.seg_heads.panoptic_fusion_heads import BasePanopticFusionHead
from mmdet.registry import MODELS
from mmdet.utils import InstanceList, OptConfigType, OptMultiConfig, PixelList
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmdet_efficientps.structures.fusion_inputs import FusionInputs

from .panoptic_fusion import COMBINATIONS, Fused, fuse_segments


def valid_logits_shape(seg_logits: Tensor, img_meta: dict) -> tuple[float, float]:
    """Size of the part of some logits that shows the image, the rest being padding.

    Args:
        seg_logits: Logits of the padded batch input at any stride, (..., h, w).
        img_meta: Meta information with ``img_shape`` and ``batch_input_shape``.

    Returns:
        Height and width in cells, not necessarily whole.

    Examples:
        >>> import torch
        >>> meta = {'img_shape': (20, 30), 'batch_input_shape': (32, 32)}
        >>> valid_logits_shape(torch.zeros(19, 8, 8), meta)
        (5.0, 7.5)
    """
    sizes = zip(
        img_meta['img_shape'][:2],
        seg_logits.shape[-2:],
        img_meta['batch_input_shape'],
        strict=True,
    )
    # Multiplied first, so that whole numbers of cells come out whole.
    height, width = (image * cells / batch for image, cells, batch in sizes)
    return height, width


def fusion_inputs(
    results: InstanceData, seg_logits: Tensor, img_meta: dict, rescale: bool = True
) -> FusionInputs:
    """Put together what the heads give for an image.

    Args:
        results: Detections with ``bboxes`` (N, 4) in pixels of the output, ``scores``
            (N,), ``labels`` (N,) and ``mask_logits`` (N, m, m).
        seg_logits: Semantic logits of the padded batch input, (C, h, w).
        img_meta: Meta information with ``batch_input_shape`` and ``img_shape``, and
            ``ori_shape`` if ``rescale``.
        rescale: Whether the output is of the original image size, or of
            ``img_shape``.

    Returns:
        What the fusion works on.
    """
    height, width = img_meta['ori_shape' if rescale else 'img_shape'][:2]
    return FusionInputs(
        results.bboxes,
        results.scores,
        results.labels,
        results.mask_logits,
        seg_logits,
        valid_logits_shape(seg_logits, img_meta),
        (height, width),
    )


@MODELS.register_module()
class EfficientPSFusionHead(BasePanopticFusionHead):
    """Join semantic and instance logits without learnt parameters.

    Section 3.4 of the paper; see ``panoptic_fusion`` for the method.

    Args:
        num_things_classes: Number of thing classes.
        num_stuff_classes: Number of stuff classes.
        test_cfg: The detector's ``test_cfg.panoptic``. Read here: ``score_thr``
            (default 0.5; detections below are not fused), ``overlap_thr`` (0.5),
            ``min_stuff_area`` (2048 pixels) and ``mask_logits_scale`` (4.0, the factor
            of the released networks; 1.0 is the method as the paper has it). Other
            keys are the detector's.
        init_cfg: Unused; there is nothing to initialise.
        combine: How mask and semantic logits of an instance make its fused logits, a
            key of ``COMBINATIONS``. Defaults to 'efficientps', the method of the
            paper.

    Raises:
        ValueError: ``combine`` is not one of these.
    """

    DEFAULTS = {
        'score_thr': 0.5,
        'overlap_thr': 0.5,
        'min_stuff_area': 2048,
        'mask_logits_scale': 4.0,
    }

    def __init__(
        self,
        num_things_classes: int = 8,
        num_stuff_classes: int = 11,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        combine: str = 'efficientps',
    ) -> None:
        super().__init__(
            num_things_classes=num_things_classes,
            num_stuff_classes=num_stuff_classes,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        if combine not in COMBINATIONS:
            raise ValueError(
                f'panoptic_fusion_head.combine is {combine!r}, must be one of '
                f'{list(COMBINATIONS)}'
            )
        self.combine = combine

    @property
    def score_thr(self) -> float:
        """Score from which detections are fused."""
        return self._setting('score_thr')

    def loss(self, **kwargs: object) -> dict:
        """Return no losses: nothing is learnt."""
        return {}

    def predict(
        self,
        results_list: InstanceList,
        seg_logits_list: list[Tensor],
        batch_img_metas: list[dict],
        rescale: bool = True,
    ) -> PixelList:
        """Fuse the results of each image.

        Args:
            results_list: Detections of each image with ``bboxes`` (N, 4), ``scores``
                (N,), ``labels`` (N,) and ``mask_logits`` (N, m, m) of the own class.
                Boxes are in pixels of the output, thus of the original image if
                ``rescale``; pixel i covers [i, i + 1].
            seg_logits_list: Semantic logits of each image, (C, h, w), things first, at
                any stride of the padded batch.
            batch_img_metas: Meta information with ``batch_input_shape`` and
                ``img_shape``, and ``ori_shape`` if ``rescale``.
            rescale: Give maps of the original image size, else of ``img_shape``.

        Returns:
            For each image a ``PixelData`` whose ``sem_seg``, (1, H, W) int32, is
            ``label + k * INSTANCE_OFFSET`` for things, the class for stuff and
            ``num_things_classes + num_stuff_classes`` for void.

        Raises:
            ValueError: The semantic logits have another number of classes than this
                head, or a detection is of no thing class of it.
        """
        return [
            self._predict_single(results, seg_logits, img_meta, rescale)
            for results, seg_logits, img_meta in zip(
                results_list, seg_logits_list, batch_img_metas, strict=True
            )
        ]

    def _predict_single(
        self, results: InstanceData, seg_logits: Tensor, img_meta: dict, rescale: bool
    ) -> PixelData:
        inputs = fusion_inputs(results, seg_logits, img_meta, rescale)
        return PixelData(sem_seg=self.fuse(inputs).panoptic[None])

    def fuse(self, inputs: FusionInputs, **settings: float) -> Fused:
        """Make the panoptic map of an image.

        Args:
            inputs: What the network says about it.
            **settings: ``score_thr``, ``overlap_thr``, ``min_stuff_area`` and
                ``mask_logits_scale``, each in place of that of ``test_cfg``.

        Returns:
            The map, (H, W) int32, and for instance k the index, among all detections
            of ``inputs``, of what it is.

        Raises:
            TypeError: There is no such setting.
            ValueError: The semantic logits have another number of classes than this
                head, or a detection is of no thing class of it.
        """
        unknown = settings.keys() - self.DEFAULTS.keys()
        if unknown:
            raise TypeError(
                f'the fusion has no setting {sorted(unknown)[0]!r}, only '
                f'{list(self.DEFAULTS)}'
            )
        num_channels = len(inputs.seg_logits)
        if num_channels != self.num_classes:
            raise ValueError(
                f'the semantic head gives {num_channels} classes, but '
                f'panoptic_fusion_head has num_things_classes='
                f'{self.num_things_classes} and num_stuff_classes='
                f'{self.num_stuff_classes}; make semantic_head.num_classes their sum'
            )
        settings = {name: self._setting(name) for name in self.DEFAULTS} | settings
        score_thr = settings.pop('score_thr')
        sure = (inputs.scores >= score_thr).nonzero()[:, 0].tolist()
        fused = self._fuse(inputs.confident(score_thr), settings)
        if fused.detections is None:
            return fused
        return Fused(fused.panoptic, [sure[index] for index in fused.detections])

    def _fuse(self, inputs: FusionInputs, settings: dict[str, float]) -> Fused:
        """Fuse what is confident, with all other settings given."""
        return fuse_segments(
            inputs.seg_logits,
            inputs.bboxes,
            inputs.scores,
            inputs.labels,
            inputs.mask_logits,
            inputs.out_shape,
            self.num_things_classes,
            valid_shape=inputs.valid_shape,
            overlap_thr=settings['overlap_thr'],
            min_stuff_area=int(settings['min_stuff_area']),
            mask_logits_scale=settings['mask_logits_scale'],
            combine=self.combine,
        )

    def _setting(self, name: str) -> float:
        """Look a key of ``test_cfg`` up."""
        return (self.test_cfg or {}).get(name, self.DEFAULTS[name])
