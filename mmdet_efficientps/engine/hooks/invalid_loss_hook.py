# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Stops a training whose numbers are no longer any."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from mmdet.engine.hooks import CheckInvalidLossHook
from mmdet.registry import HOOKS
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from ..bare_model import bare_model

# Where one parameter is spoilt, so are most.
_NAMED = 8


@HOOKS.register_module()
class InvalidLossHook(CheckInvalidLossHook):
    """Stop training with a message when losses, gradients or weights are NaN or inf.

    Differs from mmdet's hook in that the error says which losses, when, and what
    to try, that every iteration is checked by default (the runner reads the losses in
    every iteration anyway), and that more than the losses is checked:

    - Gradients, before the optimizer takes them and before they are clipped, which
      would spread one NaN over all. Not in mixed precision with scaled losses: there
      such gradients are usual now and then, and the scaler leaves the step out.
    - Weights, before a checkpoint is written, so that no checkpoint of a spoilt network
      replaces a good one.

    Args:
        interval (int): Check losses and gradients every so many iterations. Defaults
            to 1.
    """

    # Ahead of the checkpoint hook, which saves what is there at this iteration.
    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int = 1) -> None:
        super().__init__(interval)

    def before_train(self, runner: Runner) -> None:
        """Have gradients checked before each step of the optimizer."""
        wrapper = runner.optim_wrapper
        parts = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        for part in parts:
            scaler = getattr(part, 'loss_scaler', None)
            if scaler is None or not scaler.is_enabled():
                self._check_before_steps(runner, part)

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
        raise FloatingPointError(_advice('the loss is', bad, runner))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights that are about to be saved.

        Raises:
            FloatingPointError: If any is NaN or infinite.
        """
        weights = checkpoint['state_dict']
        if bad := [k for k, v in weights.items() if not torch.isfinite(v).all()]:
            raise FloatingPointError(_advice('the weights are', bad, runner))

    def _check_before_steps(self, runner: Runner, wrapper: OptimWrapper) -> None:
        """Wrap a method: its step clips first, so hooks of torch come too late."""
        step = wrapper.step

        # With its attributes, by which schedulers count the steps.
        @wraps(step)
        def checked_step(*args: Any, **kwargs: Any) -> None:
            self._check_gradients(runner, wrapper)
            step(*args, **kwargs)

        wrapper.step = checked_step

    def _check_gradients(self, runner: Runner, wrapper: OptimWrapper) -> None:
        """Check what a step of the optimizer is about to take."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        groups = wrapper.optimizer.param_groups
        grads = [p.grad for g in groups for p in g['params'] if p.grad is not None]
        # Waits for the device once, not for every parameter. A sum of large numbers may
        # be infinite when none of them is.
        sums = [grad.detach().sum() for grad in grads]
        if not sums or torch.isfinite(torch.stack(sums)).all():
            return
        bad = [
            name
            for name, parameter in bare_model(runner.model).named_parameters()
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
        ]
        if bad:
            raise FloatingPointError(_advice('the gradients are', bad, runner))


def _advice(what: str, names: list[str], runner: Runner) -> str:
    """Say what is not finite and what to try."""
    more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
    return (
        f'{what} no longer finite in iteration {runner.iter + 1} (of '
        f'{", ".join(sorted(names)[:_NAMED])}{more}): training stops, earlier '
        f'checkpoints in {runner.work_dir} are unharmed. Try a smaller '
        'optim_wrapper.optimizer.lr '
        f'(it was {max(runner.optim_wrapper.get_lr()["lr"]):g} in this iteration; '
        '--auto-scale-lr fits it to the batch size where the config supports '
        'that), a longer warm-up in param_scheduler, '
        'optim_wrapper.clip_grad=dict(max_norm=35), or training without --amp'
    )
