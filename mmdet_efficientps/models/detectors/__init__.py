# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The whole network."""

from .efficientps import EfficientPS

__all__ = ['EfficientPS']
