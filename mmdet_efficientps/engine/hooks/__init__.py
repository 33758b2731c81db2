# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Hooks for the runner."""

from .invalid_loss_hook import InvalidLossHook
from .panoptic_classes_check_hook import PanopticClassesCheckHook

__all__ = ['InvalidLossHook', 'PanopticClassesCheckHook']
