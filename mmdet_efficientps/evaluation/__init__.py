# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Evaluation: measures on arrays and MMEngine metrics over them."""

from .functional import *  # noqa: F403
from .metrics import *  # noqa: F403
