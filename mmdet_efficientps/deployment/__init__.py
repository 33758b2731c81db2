# Licensed under the Apache License, Version 2.0. See LICENSE.
"""From a trained network to a file, and the runtime that needs that file alone."""

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
