# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The semantic head and the panoptic fusion."""

from .efficientps_semantic_head import EfficientPSSemanticHead
from .panoptic_fusion_heads import (
    EfficientPSFusionHead,
    HeuristicFusionAdapter,
    panoptic_fusion,
)

__all__ = [
    'EfficientPSFusionHead',
    'EfficientPSSemanticHead',
    'HeuristicFusionAdapter',
    'panoptic_fusion',
]
