# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic fusion: a pure function and the head that calls it."""

from .efficientps_fusion_head import (
    EfficientPSFusionHead,
    fusion_inputs,
    valid_logits_shape,
)
from .heuristic_fusion_adapter import HeuristicFusionAdapter
from .panoptic_fusion import (
    COMBINATIONS,
    Fused,
    fuse_segments,
    panoptic_fusion,
    semantic_argmax,
)

__all__ = [
    'COMBINATIONS',
    'EfficientPSFusionHead',
    'Fused',
    'HeuristicFusionAdapter',
    'fuse_segments',
    'fusion_inputs',
    'panoptic_fusion',
    'semantic_argmax',
    'valid_logits_shape',
]
