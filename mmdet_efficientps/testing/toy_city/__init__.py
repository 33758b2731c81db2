# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Generate toy_city, procedural street scenes in the layout of Cityscapes."""

from .scene import Scene, render_scene
from .writer import prepare_toy_city, write_toy_city

__all__ = ['Scene', 'prepare_toy_city', 'render_scene', 'write_toy_city']
