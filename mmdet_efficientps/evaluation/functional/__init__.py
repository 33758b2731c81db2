# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Measures on arrays."""

from mmdet_efficientps.structures.panoptic import constant_runs

from .boundaries import boundary_distance, boundary_overlaps, segment_boundaries
from .cityscapes_ap import InstanceOverlaps, average_precision, instance_overlaps
from .coco_mask_ap import accumulate_coco_matches, match_coco_masks
from .panoptic_errors import (
    PixelError,
    confused_segments,
    pixel_errors,
    quality_by_size,
)
from .panoptic_quality import (
    PanopticQualityStat,
    SegmentMatches,
    class_quality,
    count_matches,
    match_segments,
    panoptic_quality_stats,
    summarize,
)
from .panoptic_segments import encoded_quality_stats
from .quality_report import class_groups, quality_table, quality_values, report_quality
from .segment_overlaps import segment_overlaps
from .semantic_iou import class_iou, count_classes

__all__ = [
    'InstanceOverlaps',
    'PanopticQualityStat',
    'PixelError',
    'SegmentMatches',
    'accumulate_coco_matches',
    'average_precision',
    'boundary_distance',
    'boundary_overlaps',
    'class_groups',
    'class_iou',
    'class_quality',
    'confused_segments',
    'constant_runs',
    'count_classes',
    'count_matches',
    'encoded_quality_stats',
    'instance_overlaps',
    'match_coco_masks',
    'match_segments',
    'panoptic_quality_stats',
    'pixel_errors',
    'quality_by_size',
    'quality_table',
    'quality_values',
    'report_quality',
    'segment_boundaries',
    'segment_overlaps',
    'summarize',
]
