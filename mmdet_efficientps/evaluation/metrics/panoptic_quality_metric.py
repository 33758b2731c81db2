# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic quality for the MMEngine evaluator."""

from collections.abc import Sequence

from mmdet.registry import METRICS
from mmengine.logging import print_log

from mmdet_efficientps.evaluation.functional.panoptic_quality import (
    PanopticQualityStat,
    panoptic_quality_stats,
)
from mmdet_efficientps.evaluation.functional.panoptic_segments import (
    encoded_quality_stats,
)
from mmdet_efficientps.evaluation.functional.quality_report import (
    class_groups,
    report_quality,
)
from mmdet_efficientps.structures.panoptic import decode_panoptic_seg

from .sample_fields import get_prediction, load_gt_ids
from .sum_metric import SumMetric


@METRICS.register_module()
class PanopticQualityMetric(SumMetric):
    """PQ, SQ and RQ for all classes, things, stuff and each class, in percent.

    Everything is computed in memory: the ground truth PNG is read, the prediction is
    compared with it and left unchanged, and only the sums of a few counts are kept.
    Equal to ``evalPanopticSemanticLabeling`` of cityscapesscripts. Data sets are
    :class:`PanopticDataset` and what derives from it.

    The keys are PQ, SQ, RQ, PQ_th, SQ_th, RQ_th, PQ_st, SQ_st, RQ_st and, with
    ``classwise``, ``<class>_PQ`` and so on. With ``boundary`` there are the same
    once more for boundary PQ, as ``Boundary_PQ`` and so on. Classes
    that neither occur in the data set nor are predicted are left out.

    Args:
        classwise (bool): Whether to return the values of each class too; they are
            in the printed table in any case. Defaults to True.
        boundary (bool): Whether to measure boundary PQ too (Cheng et al., "Boundary
            IoU", CVPR 2021). Defaults to False.
        dilation_ratio (float): Width of the boundary regions as a part of the image
            diagonal. Defaults to 0.02, that of the authors' evaluator for COCO;
            theirs for Cityscapes has 0.005.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.
        **kwargs: Arguments of :class:`SumMetric`.
    """

    default_prefix = 'panoptic'
    needs = ('pred_panoptic_seg',)

    def __init__(
        self,
        classwise: bool = True,
        boundary: bool = False,
        dilation_ratio: float = 0.02,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.classwise = classwise
        self.boundary = boundary
        self.dilation_ratio = dilation_ratio
        self.backend_args = backend_args

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the matches of a batch.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): Each with ``seg_map_path``,
                ``segments_info`` and ``pred_panoptic_seg``, whose ``sem_seg`` is an
                integer tensor (1, H, W) on any device: label + instance *
                INSTANCE_OFFSET, void = number of classes.

        Raises:
            KeyError: If the data sample lacks one of these.
            ValueError: If prediction and ground truth differ in size, or do not
                fit the classes or the annotation file.
        """
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            gt_ids = load_gt_ids(sample, self.backend_args)
            prediction = get_prediction(sample, 'pred_panoptic_seg')
            encoded = prediction['sem_seg'][0].cpu().numpy()
            try:
                segments = sample['segments_info']
                stats = [encoded_quality_stats(gt_ids, segments, encoded, num_classes)]
                if self.boundary:
                    stats.append(
                        panoptic_quality_stats(
                            gt_ids,
                            segments,
                            *decode_panoptic_seg(encoded, num_classes),
                            num_classes,
                            self.dilation_ratio,
                        )
                    )
            except ValueError as error:
                raise ValueError(
                    f'cannot evaluate against {sample["seg_map_path"]}: {error}'
                ) from error
            self.add(*stats)

    def compute_from_sums(self, *stats: PanopticQualityStat) -> dict[str, float]:
        """Compute the values over all images and print them as tables.

        Args:
            *stats (PanopticQualityStat): Counts over all images for PQ and, with
                ``boundary``, for boundary PQ.

        Returns:
            dict[str, float]: Values in percent, see the class.
        """
        meta = self.dataset_meta
        classes = meta['classes']
        groups = class_groups(classes, meta['thing_classes'], meta['stuff_classes'])
        values, text = report_quality(stats, classes, groups, self.classwise)
        print_log(text, 'current')
        return values
