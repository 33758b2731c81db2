# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The two-way feature pyramid."""

from .two_way_fpn import TwoWayFPN

__all__ = ['TwoWayFPN']
