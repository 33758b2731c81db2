# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data sets and their transforms."""

from . import transforms
from .cityscapes_panoptic import CityscapesPanopticDataset
from .panoptic_dataset import PanopticDataset

__all__ = ['CityscapesPanopticDataset', 'PanopticDataset', 'transforms']
