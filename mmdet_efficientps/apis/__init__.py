# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Configs and networks by their names."""

from .model_zoo import (
    checkpoint_config,
    find_config,
    get_config,
    init_model,
    load_config,
)

__all__ = [
    'checkpoint_config',
    'find_config',
    'get_config',
    'init_model',
    'load_config',
]
