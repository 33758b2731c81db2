# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Trained networks without PyTorch: export to ONNX, and the runtime for it."""

from .export import (
    LARGEST_DIFFERENCE,
    ExportError,
    copy_runtime,
    describe,
    export_onnx,
)
from .network import DeployedNetwork, UnsupportedNetworkError

__all__ = [
    'LARGEST_DIFFERENCE',
    'DeployedNetwork',
    'ExportError',
    'UnsupportedNetworkError',
    'copy_runtime',
    'describe',
    'export_onnx',
]
