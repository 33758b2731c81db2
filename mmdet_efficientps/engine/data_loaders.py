# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data loaders without worker processes."""

from __future__ import annotations

import functools

from mmengine.runner import Runner
from torch.utils.data import DataLoader

# Arguments of torch's DataLoader about its workers, which it refuses without workers.
_OF_WORKERS = (
    'persistent_workers',
    'prefetch_factor',
    'timeout',
    'multiprocessing_context',
)


def allow_loaders_without_workers() -> None:
    """Have MMEngine's ``Runner`` build loaders of ``num_workers=0`` from any config.

    ``num_workers=0``, for debugging or where memory is short, is set in one place and
    what a config says of its workers stands in another; torch takes that for an error.
    Nothing in a config is asked before the loaders are built, and ``Runner.from_cfg``
    takes no other runner, so its method is wrapped: once, and only such loaders change.
    """
    build = Runner.build_dataloader
    if hasattr(build, '__wrapped__'):
        return

    @functools.wraps(build)
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            dataloader = {k: v for k, v in dataloader.items() if k not in _OF_WORKERS}
        return build(dataloader, *args, **kwargs)

    Runner.build_dataloader = staticmethod(build_dataloader)
