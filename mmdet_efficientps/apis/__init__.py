# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Configs and networks by their names, prediction, and its results."""

from .model_zoo import (
    checkpoint_config,
    find_config,
    get_config,
    init_model,
    load_config,
)
from .panoptic_result import Instances, PanopticResult, Segment

__all__ = [
    'Instances',
    'PanopticResult',
    'Segment',
    'checkpoint_config',
    'find_config',
    'get_config',
    'init_model',
    'load_config',
]
