# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Measures on arrays."""

from .panoptic_quality import (
    PanopticQualityStat,
    class_quality,
    panoptic_quality_stats,
    summarize,
)

__all__ = [
    'PanopticQualityStat',
    'class_quality',
    'panoptic_quality_stats',
    'summarize',
]
