# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Prediction from several views of an image."""

from .panoptic_tta import PanopticTTAModel

__all__ = ['PanopticTTAModel']
