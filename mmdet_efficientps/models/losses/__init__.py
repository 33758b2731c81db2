# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Losses that mmdet lacks."""

from .bootstrapped_cross_entropy_loss import BootstrappedCrossEntropyLoss

__all__ = ['BootstrappedCrossEntropyLoss']
