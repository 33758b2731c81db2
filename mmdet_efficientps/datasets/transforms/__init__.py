# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data transforms."""

from .loading import LoadCheckedImage, LoadPanopticSegments, load_panoptic_png

__all__ = ['LoadCheckedImage', 'LoadPanopticSegments', 'load_panoptic_png']
