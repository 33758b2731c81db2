# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Metrics for the MMEngine evaluator."""

from .cityscapes_instance_ap_metric import CityscapesInstanceAPMetric
from .cityscapes_submission import CityscapesSubmission
from .coco_mask_ap_metric import CocoMaskAPMetric
from .dump_panoptic_results import DumpPanopticResults
from .panoptic_quality_metric import PanopticQualityMetric
from .semantic_iou_metric import SemanticIoUMetric
from .sum_metric import SumMetric

__all__ = [
    'CityscapesInstanceAPMetric',
    'CityscapesSubmission',
    'CocoMaskAPMetric',
    'DumpPanopticResults',
    'PanopticQualityMetric',
    'SemanticIoUMetric',
    'SumMetric',
]
