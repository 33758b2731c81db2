# Licensed under the Apache License, Version 2.0. See LICENSE.
"""How gradients become steps."""

from .amp_optim_wrapper import DeviceAmpOptimWrapper
from .emulated_bfloat16 import EmulatedBfloat16

__all__ = ['DeviceAmpOptimWrapper', 'EmulatedBfloat16']
