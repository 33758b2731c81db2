# Licensed under the Apache License, Version 2.0. See LICENSE.
"""COCO's mask AP for the MMEngine evaluator, on panoptic ground truth."""

import numpy as np
from mmdet.registry import METRICS

from mmdet_efficientps.evaluation.functional.coco_mask_ap import (
    accumulate_coco_matches,
    match_coco_masks,
)

from .instance_metric import DetectedInstances, InstanceMetric, TrueInstances


@METRICS.register_module()
class CocoMaskAPMetric(InstanceMetric):
    """COCO's average precision of masks, in percent.

    Computed by pycocotools, which has no void: detections where nothing is labelled
    are false positives. Works for every :class:`PanopticDataset`, unlike
    mmdet's ``CocoMetric``, which reads boxes and polygons from a json of its own.

    The keys are AP, AP50, AP75, AP_s, AP_m, AP_l (objects below 32 x 32 pixels, below
    96 x 96, above) and, with ``classwise``, ``<class>_AP``, ``<class>_AP50``. Classes
    and sizes without an object in the data set are left out.

    Args:
        **kwargs: Arguments of :class:`InstanceMetric`.
    """

    default_prefix = 'coco'
    title = 'AP of masks by the definition of COCO'

    # names of the first six of COCOeval.stats
    STATS = ('AP', 'AP50', 'AP75', 'AP_s', 'AP_m', 'AP_l')

    def match(
        self, sample: dict, truth: TrueInstances, detected: DetectedInstances
    ) -> list[dict | None]:
        """Match the instances of one image.

        Args:
            sample (dict): Not used.
            truth (TrueInstances): True instances.
            detected (DetectedInstances): Detections.

        Returns:
            list[dict | None]: What pycocotools accumulates.
        """
        return match_coco_masks(
            truth.rles,
            truth.labels,
            truth.is_crowd,
            detected.rles,
            detected.labels,
            detected.scores,
            len(self.dataset_meta['thing_classes']),
        )

    def summarize(self, images: list) -> tuple[dict, dict[str, np.ndarray]]:
        """Compute AP over all images.

        Args:
            images (list): What :meth:`match` gave for each image.

        Returns:
            tuple[dict, dict[str, np.ndarray]]: Over all classes and of each.
        """
        evaluation = accumulate_coco_matches(
            images, len(self.dataset_meta['thing_classes'])
        )
        values = {
            name: float(value) if value >= 0 else float('nan')
            for name, value in zip(self.STATS, evaluation.stats, strict=False)
        }
        # overlap, recall, class; all areas, most detections
        precision = evaluation.eval['precision'][..., 0, -1]
        precision = np.where(precision < 0, np.nan, precision)
        return values, {
            'AP': precision.mean(axis=(0, 1)),
            'AP50': precision[0].mean(axis=0),
        }
