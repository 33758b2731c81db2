# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Activation checkpointing: compute again in backward instead of keeping.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. mmdet's word for
it is ``with_cp``. Its blocks call the reentrant kind, which needs an input that asks
for gradients and updates running statistics twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(function: Callable, *inputs: Any) -> Any:
    """Call a part of a network; keep its inputs alone for the backward pass.

    In backward it is called again: on the same random numbers, under the same
    autocast, with statistics of the same batch; running statistics are updated in the
    first call only. Nothing is computed twice where no gradient is asked for.

    Args:
        function (Callable): A module or a method of one, whose norm layers are looked
            after, or a function without any. It must not change its inputs.
        *inputs (Any): What it is called with.

    Returns:
        Any: What it returns.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    module = getattr(function, '__self__', function)
    return checkpoint(
        function,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _kept_statistics(module)),
    )


@contextmanager
def _kept_statistics(module: Callable) -> Iterator[None]:
    """Let norm layers in training see the batch and remember nothing of it."""
    modules = module.modules() if isinstance(module, nn.Module) else ()
    norms = [
        (norm, norm.momentum, norm.num_batches_tracked)
        for norm in modules
        if isinstance(norm, _BatchNorm)
    ]
    for norm, _, _ in norms:
        # Nothing of the new in the moving average. Without statistics to track there
        # would be no average, but other tensors would be saved than the first time.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in norms:
            norm.momentum, norm.num_batches_tracked = momentum, count
