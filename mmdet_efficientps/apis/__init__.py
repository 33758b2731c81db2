# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Configs and networks by their names, prediction, and its results."""

from .model_zoo import (
    checkpoint_config,
    find_config,
    get_config,
    init_model,
    load_config,
)
from .panoptic_inferencer import PanopticInferencer
from .panoptic_result import Instances, PanopticResult, Segment

__all__ = [
    'Instances',
    'PanopticInferencer',
    'PanopticResult',
    'Segment',
    'checkpoint_config',
    'find_config',
    'get_config',
    'init_model',
    'load_config',
]
