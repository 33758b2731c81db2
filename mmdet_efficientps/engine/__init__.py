# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What runs beside the training: hooks and data loaders."""

from .data_loaders import allow_loaders_without_workers  # noqa: F401
from .hooks import *  # noqa: F403
