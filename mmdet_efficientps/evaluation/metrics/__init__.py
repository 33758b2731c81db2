# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Metrics for the MMEngine evaluator."""

from .panoptic_quality_metric import PanopticQualityMetric

__all__ = ['PanopticQualityMetric']
