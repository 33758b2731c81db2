# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data sets and their transforms."""

from . import samplers, transforms
from .cityscapes_panoptic import CityscapesPanopticDataset
from .idd_panoptic import IDDPanopticDataset
from .kitti_panoptic import KITTIPanopticDataset
from .mapillary_vistas_panoptic import (
    MapillaryVistasV1PanopticDataset,
    MapillaryVistasV2PanopticDataset,
)
from .panoptic_dataset import PanopticDataset
from .sample_seeded_dataset import SampleSeededDataset

__all__ = [
    'CityscapesPanopticDataset',
    'IDDPanopticDataset',
    'KITTIPanopticDataset',
    'MapillaryVistasV1PanopticDataset',
    'MapillaryVistasV2PanopticDataset',
    'PanopticDataset',
    'SampleSeededDataset',
    'samplers',
    'transforms',
]
