# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Refuses a conversion of norm layers that would take their activations away."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class SyncBNCheckHook(Hook):
    """Refuse ``sync_bn`` for networks with InPlaceABN.

    MMEngine's runner makes ``SyncBatchNorm`` of every batch norm then, and InPlaceABN,
    which is one to PyTorch, has the activation in it.
    """

    def before_run(self, runner: Runner) -> None:
        """Check the config of the run."""
        check_sync_bn(runner.cfg)


def check_sync_bn(cfg: Config) -> None:
    """Check the config of a run.

    Args:
        cfg (Config): The config.

    Raises:
        ValueError: If it asks for ``sync_bn`` and its model has InPlaceABN.
    """
    if cfg.get('sync_bn') and 'InPlaceABN' in str(cfg.get('model')):
        raise ValueError(
            f'sync_bn={cfg.sync_bn!r} makes plain batch norm of InPlaceABN, without '
            'its activation. Remove it; for statistics over all GPUs set '
            "type='InPlaceABNSync' in the norm_cfg of the model"
        )
