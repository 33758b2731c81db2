# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Mixed precision on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn

from .emulated_bfloat16 import EmulatedBfloat16


@OPTIM_WRAPPERS.register_module(name=['DeviceAmpOptimWrapper', 'AmpOptimWrapper'])
class DeviceAmpOptimWrapper(AmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper``, which wants a GPU, also for a CPU.

    There it is bfloat16, whose range is that of float32: losses need no scaling.
    Processors without instructions for it run :class:`EmulatedBfloat16`. On a GPU
    nothing differs: ``dtype`` is float16 by default.

    Args:
        loss_scale (str | float | dict): As MMEngine; not used on a CPU.
            Defaults to 'dynamic'.
        dtype (str | torch.dtype, optional): 'float16' or 'bfloat16', on a CPU the
            latter. Defaults to None, for what the device has.
        kwargs: Other arguments of MMEngine's.

    Raises:
        ValueError: If ``dtype`` is another one on a CPU.
    """

    def __init__(
        self,
        loss_scale: Any = 'dynamic',
        dtype: str | torch.dtype | None = None,
        **kwargs,
    ) -> None:
        self._emulated = False
        if get_device() != 'cpu':
            super().__init__(loss_scale=loss_scale, dtype=dtype, **kwargs)
            return
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(
                f"optim_wrapper.dtype is {dtype!r}, but a CPU has 'bfloat16' only: "
                'leave it out, and every device takes its own'
            )
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = torch.bfloat16
        self._emulated = EmulatedBfloat16.is_needed()
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        self._scale_update_param = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of a forward pass; as MMEngine.

        Args:
            model (nn.Module): The network.

        Yields:
            None
        """
        with super().optim_context(model), self._emulation():
            yield

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Compute gradients; as MMEngine.

        Args:
            loss (Tensor): The loss, a scalar.
            kwargs: For :meth:`torch.Tensor.backward`.
        """
        with self._emulation():
            super().backward(loss, **kwargs)

    def _emulation(self) -> AbstractContextManager:
        return EmulatedBfloat16() if self._emulated else nullcontext()

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state, also one that was saved on another device.

        Args:
            state_dict (dict): As MMEngine; changed.
        """
        # A scaler that is switched off has no state, and one that is on refuses that.
        if not state_dict.get('loss_scaler', True):
            del state_dict['loss_scaler']
        super().load_state_dict(state_dict)
