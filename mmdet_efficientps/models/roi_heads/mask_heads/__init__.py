# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Mask heads."""

from .separable_conv_mask_head import SeparableConvMaskHead

__all__ = ['SeparableConvMaskHead']
