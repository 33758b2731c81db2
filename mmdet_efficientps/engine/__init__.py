# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What runs beside the training: hooks."""

from .hooks import *  # noqa: F403
