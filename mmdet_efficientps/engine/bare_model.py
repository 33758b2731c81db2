# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The network of a runner."""

from typing import Any

from torch import nn


def bare_model(model: nn.Module) -> Any:
    """Take off what a network is wrapped in.

    MMEngine wraps it for distributed training and for test-time augmentation, or for
    both.

    Args:
        model (nn.Module): Network or wrapper; a wrapper has a ``module``.

    Returns:
        nn.Module: The network; parts of it are looked up by name.
    """
    bare: Any = model
    while hasattr(bare, 'module'):
        bare = bare.module
    return bare
