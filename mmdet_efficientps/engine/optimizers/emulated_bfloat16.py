# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Convolutions of bfloat16 numbers on processors that have no instructions for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten
CONVOLUTIONS = (ATEN.convolution.default, ATEN.convolution_backward.default)


class EmulatedBfloat16(TorchDispatchMode):
    """Context in which bfloat16 convolutions are computed in float32 and rounded.

    That is what units for bfloat16 do: products and sums are float32, the result is
    rounded. PyTorch does the same on processors without such units, but in loops that
    take some ten times as long as float32. Other operations, and convolutions of other
    types, are not touched.

    Example::

        >>> image, weight = torch.ones(1, 3, 4, 4).bfloat16(), torch.ones(8, 3, 1, 1)
        >>> with EmulatedBfloat16():
        ...     torch.nn.functional.conv2d(image, weight.bfloat16()).dtype
        torch.bfloat16
    """

    @staticmethod
    def is_needed() -> bool:
        """Say whether this processor has no instructions for bfloat16.

        Returns:
            bool: What PyTorch's convolutions go by; True where PyTorch was built
            without oneDNN, whose operators are then missing, too.
        """
        if not torch.backends.mkldnn.is_available():
            return True
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()

    def __torch_dispatch__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation; see :class:`TorchDispatchMode`."""
        kwargs = kwargs or {}
        if func not in CONVOLUTIONS or args[0].dtype != torch.bfloat16:
            return func(*args, **kwargs)
        exact = [a.float() if isinstance(a, Tensor) else a for a in args]
        out = func(*exact, **kwargs)
        if isinstance(out, Tensor):
            return out.bfloat16()
        return tuple(None if o is None else o.bfloat16() for o in out)
