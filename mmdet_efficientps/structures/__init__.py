# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data structures."""

from .panoptic_masks import PanopticMasks

__all__ = ['PanopticMasks']
