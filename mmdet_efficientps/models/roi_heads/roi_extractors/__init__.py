# Licensed under the Apache License, Version 2.0. See LICENSE.
"""RoI extractors."""

from .inclusive_roi_extractor import InclusiveRoIExtractor

__all__ = ['InclusiveRoIExtractor']
