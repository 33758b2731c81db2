# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Stops a training whose loss is no longer a number."""

from __future__ import annotations

import torch
from mmdet.engine.hooks import CheckInvalidLossHook
from mmdet.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class InvalidLossHook(CheckInvalidLossHook):
    """Stop training with a message when the loss is NaN or infinite.

    Differs from mmdet's hook in that the error says which losses, when, and what
    to try, and that every iteration is checked by default, so no checkpoint of a
    spoilt network is saved (the runner reads the losses in every iteration anyway).

    Args:
        interval (int): Check every so many iterations. Defaults to 1.
    """

    # Ahead of the checkpoint hook, which saves what is there at this iteration.
    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int = 1) -> None:
        super().__init__(interval)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Check the losses of the iteration.

        Raises:
            FloatingPointError: If ``outputs['loss']`` is NaN or infinite.
        """
        if outputs is None or not self.every_n_train_iters(runner, self.interval):
            return
        if torch.isfinite(outputs['loss']).all():
            return
        bad = [k for k, v in outputs.items() if not torch.isfinite(v).all()]
        raise FloatingPointError(
            f'the loss is no longer finite in iteration {runner.iter + 1} (of '
            f'{", ".join(sorted(bad))}): training stops, earlier checkpoints in '
            f'{runner.work_dir} are unharmed. Try a smaller optim_wrapper.optimizer.lr '
            f'(it was {max(runner.optim_wrapper.get_lr()["lr"]):g} in this iteration; '
            '--auto-scale-lr fits it to the batch size where the config supports '
            'that), a longer warm-up in param_scheduler, '
            'optim_wrapper.clip_grad=dict(max_norm=35), or training without --amp'
        )
