# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The two-way feature pyramid, and what it is compared with."""

from .bifpn import BiFPN
from .two_way_fpn import TwoWayFPN

__all__ = ['BiFPN', 'TwoWayFPN']
