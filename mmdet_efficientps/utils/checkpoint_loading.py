# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Lets torch read the checkpoints of MMEngine in its safe mode.

Since 2.6 ``torch.load`` refuses files that hold anything but tensors and plain
containers unless told otherwise, and MMEngine's checkpoints hold the history of the
training log, numpy numbers included. Switching the safe mode off would let a
checkpoint run any code; here just these few harmless types are declared safe.
"""

from __future__ import annotations

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from packaging.version import Version


def allow_mmengine_checkpoints() -> None:
    """Declare the types in MMEngine's checkpoints safe for ``torch.load``.

    Applies to the whole process; does nothing for a torch whose default is the
    unsafe mode.
    """
    if Version(torch.__version__) < Version('2.6'):
        return
    reduced = np.array(0.0).__reduce__()[0], np.float64(0).__reduce__()[0]
    numbers = [np.dtype(code) for code in '?bBhHiIlLqQefd']
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            *{type(number) for number in numbers},
            # what numpy calls its own functions has changed over its versions
            *((f, f'{package}.multiarray.{f.__name__}')
              for f in reduced for package in ('numpy.core', 'numpy._core')),
            # the pickle of a HistoryBuffer names its methods by getattr
            (_history_buffer_method, 'builtins.getattr'),
        ]
    )  # fmt: skip


def _history_buffer_method(owner: type, name: str):
    """What ``getattr`` is allowed to be in a checkpoint: HistoryBuffer's methods."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(
            f'the checkpoint asks for {owner!r}.{name}, which is no part of a training '
            'log: the file is damaged or not to be trusted'
        )
    return getattr(HistoryBuffer, name)
