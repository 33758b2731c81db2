# Licensed under the Apache License, Version 2.0. See LICENSE.
"""How gradients become steps."""

from .amp_optim_wrapper import DeviceAmpOptimWrapper

__all__ = ['DeviceAmpOptimWrapper']
