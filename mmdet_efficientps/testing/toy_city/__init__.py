# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Toy city: procedural street scenes in the Cityscapes layout."""

from .scene import Scene, render_scene
from .writer import write_toy_city

__all__ = ['Scene', 'render_scene', 'write_toy_city']
