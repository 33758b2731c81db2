# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The instance head."""

from .efficientps_roi_head import EfficientPSRoIHead
from .mask_heads import SeparableConvMaskHead
from .roi_extractors import Float32RoIExtractor, InclusiveRoIExtractor

__all__ = [
    'EfficientPSRoIHead',
    'Float32RoIExtractor',
    'InclusiveRoIExtractor',
    'SeparableConvMaskHead',
]
