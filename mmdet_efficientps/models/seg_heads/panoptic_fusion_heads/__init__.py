# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic fusion: a pure function and the head that calls it."""

from .efficientps_fusion_head import EfficientPSFusionHead, valid_logits_shape
from .heuristic_fusion_adapter import HeuristicFusionAdapter
from .panoptic_fusion import COMBINATIONS, panoptic_fusion, semantic_argmax

__all__ = [
    'COMBINATIONS',
    'EfficientPSFusionHead',
    'HeuristicFusionAdapter',
    'panoptic_fusion',
    'semantic_argmax',
    'valid_logits_shape',
]
