# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Hooks for the runner."""

from .checkpoint_check_hook import CheckpointCheckHook
from .invalid_loss_hook import InvalidLossHook
from .loss_record_hook import LossRecordHook
from .panoptic_classes_check_hook import PanopticClassesCheckHook
from .panoptic_visualization_hook import PanopticVisualizationHook
from .prediction_needs_hook import PredictionNeedsHook
from .resumable_checkpoint_hook import ResumableCheckpointHook
from .sync_bn_check_hook import SyncBNCheckHook, check_sync_bn

__all__ = [
    'CheckpointCheckHook',
    'InvalidLossHook',
    'LossRecordHook',
    'PanopticClassesCheckHook',
    'PanopticVisualizationHook',
    'PredictionNeedsHook',
    'ResumableCheckpointHook',
    'SyncBNCheckHook',
    'check_sync_bn',
]
