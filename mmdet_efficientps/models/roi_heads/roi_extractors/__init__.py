# Licensed under the Apache License, Version 2.0. See LICENSE.
"""RoI extractors."""

from .float32_roi_extractor import Float32RoIExtractor
from .inclusive_roi_extractor import InclusiveRoIExtractor

__all__ = ['Float32RoIExtractor', 'InclusiveRoIExtractor']
