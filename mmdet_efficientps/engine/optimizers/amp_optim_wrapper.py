# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Mixed precision on any device."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper


@OPTIM_WRAPPERS.register_module(name=['DeviceAmpOptimWrapper', 'AmpOptimWrapper'])
class DeviceAmpOptimWrapper(AmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper``, which wants a GPU, also for a CPU.

    There it is bfloat16, whose range is that of float32: losses need no scaling. On
    a GPU nothing differs: ``dtype`` is float16 by default.

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
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        self._scale_update_param = None

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state, also one that was saved on another device.

        Args:
            state_dict (dict): As MMEngine; changed.
        """
        # A scaler that is switched off has no state, and one that is on refuses that.
        if not state_dict.get('loss_scaler', True):
            del state_dict['loss_scaler']
        super().load_state_dict(state_dict)
