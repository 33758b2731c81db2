# Licensed under the Apache License, Version 2.0. See LICENSE.
"""EfficientNets without squeeze-and-excitation."""

from .efficientnet_lite import EfficientNetLite
from .sefree_efficientnet import SEFreeEfficientNet

__all__ = ['EfficientNetLite', 'SEFreeEfficientNet']
