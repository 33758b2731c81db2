# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data transforms."""

from mmdet_efficientps.structures.panoptic import (
    read_panoptic_png as load_panoptic_png,
)

from .copy_paste import PanopticCopyPaste
from .formatting import PackPanopticTargets
from .geometry import RandomScaleCrop
from .loading import LoadCheckedImage, LoadPanopticMap
from .resize import PanopticResize, ResizeImageToLabel
from .test_time_aug import PanopticTestTimeAug

__all__ = [
    'LoadCheckedImage',
    'LoadPanopticMap',
    'PackPanopticTargets',
    'PanopticCopyPaste',
    'PanopticResize',
    'PanopticTestTimeAug',
    'RandomScaleCrop',
    'ResizeImageToLabel',
    'load_panoptic_png',
]
