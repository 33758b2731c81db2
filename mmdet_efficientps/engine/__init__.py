# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The training loops and what runs beside them: hooks and data loaders."""

from .data_loaders import allow_loaders_without_workers  # noqa: F401
from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .processes import join_processes  # noqa: F401
from .runner import *  # noqa: F403
