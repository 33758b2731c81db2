# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Checkpoints from which a training goes on as if it had not been stopped."""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmdet.registry import HOOKS
from mmengine.dist import (
    all_reduce,
    barrier,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from mmdet_efficientps.utils.atomic_backend import AtomicLocalBackend  # noqa: F401
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError
from mmdet_efficientps.utils.config_text import parse_config_text
from mmdet_efficientps.utils.random_states import (
    generator_states,
    set_generator_states,
)
from mmdet_efficientps.utils.stop_signals import (
    StopSignals,
    let_workers_outlive_signals,
)
from mmdet_efficientps.utils.whole_checkpoints import newest_whole_checkpoint
from mmdet_efficientps.utils.work_dir_lock import claim_work_dir, release_work_dir

from ..config_changes import config_changes
from ..training_state import (
    TRAINING_STATE,
    collect_training_state,
    restore_training_state,
)

# Of the path of a checkpoint that a signal asked for between those of the epochs.
_AT_SIGNAL = 'checkpoint_at_signal'


# In configs by MMEngine's name, as the loops.
@HOOKS.register_module(name=['ResumableCheckpointHook', 'CheckpointHook'])
class ResumableCheckpointHook(CheckpointHook):
    """Save checkpoints that are whole and hold all of a training, and resume from them.

    Differs from MMEngine's hook:

    - A checkpoint has what :func:`..training_state.collect_training_state` collects.
    - Files on local disks are whole or not there, and an old one is removed when the
      new one is written, not before.
    - SIGTERM and SIGUSR1 end the run with exit status 143 and 138 after a checkpoint
      of the running iteration; a second one, two seconds later or more, at once.
    - ``resume`` without a checkpoint takes the newest whole one; if there is none,
      training begins, with the weights of ``start_from`` if the config names any. What
      has changed in the config is said.
    - A validation leaves the random generators as they were. One that had begun or was
      due when the run ended is done first when it is resumed.
    - Two trainings do not share a work folder.

    Args:
        *args: Arguments of MMEngine's ``CheckpointHook``.
        **kwargs: Arguments of MMEngine's ``CheckpointHook``.
    """

    backend_args: dict | None
    keep_ckpt_ids: deque
    max_keep_ckpts: int
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._signals = StopSignals()
        self._state: dict[str, Any] | None = None
        self._resumed: dict[str, Any] | None = None
        self._validation_follows = False
        self._before_val: dict[str, Any] | None = None
        # Iterations of the latest checkpoint.
        self._saved_at: int | None = None
        self._training = False

    def before_run(self, runner: Runner) -> None:
        """Claim the work folder of a training and find where it goes on.

        Raises:
            BlockingIOError: If another training runs in it.
            OSError: If nothing can be written there.
        """
        self._training = isinstance(runner._train_loop, BaseLoop)
        if not self._training:
            return
        if is_main_process():
            claim_work_dir(runner.work_dir)
        if runner._resume and runner._load_from is None:
            found: list[Any] = [None]
            if is_main_process():
                found = [
                    newest_whole_checkpoint(
                        self._folders(runner), runner.logger.warning
                    )
                ]
            broadcast_object_list(found)
            if found[0] is None:
                runner.logger.warning(
                    f'There is no whole checkpoint in {runner.work_dir} to resume '
                    'from: training begins at the start'
                )
                runner._resume = False
                runner._load_from = runner.cfg.get('start_from')
            else:
                runner._load_from = str(found[0])
                runner.logger.info(f'Resuming from {found[0]}')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the state of a training that is resumed, and say what has changed.

        Raises:
            CheckpointError: If what has changed does not let it go on.
        """
        if not (self._training and runner._resume):
            return
        self._resumed = checkpoint.get(TRAINING_STATE)
        text = checkpoint.get('meta', {}).get('cfg')
        if text is not None and runner.cfg:
            self._compare_configs(runner, text)
        counts = getattr(runner.train_loop, 'counts', None)
        if self._resumed and self._resumed['counts'] not in (None, counts):
            raise CheckpointError(
                f'the checkpoint is of a training that counts '
                f'{self._resumed["counts"]}, and train_cfg.type counts {counts} now: '
                'set it back, or start from its weights with load_from'
            )
        self._check_optimizer(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Put back what the checkpoint holds; note signals from now on."""
        folder = str(self.out_dir or runner.work_dir)
        if self.file_client_args is self.backend_args is None and '://' not in folder:
            self.backend_args = dict(backend='atomic')
        super().before_train(runner)
        if is_main_process() and '://' not in folder:
            for leftover in Path(self.out_dir).glob('.*.tmp.pth'):
                leftover.unlink(missing_ok=True)
        loaders = [runner.train_loop.dataloader]
        if runner.val_loop is not None:
            loaders.append(runner.val_loop.dataloader)
        for loader in loaders:
            let_workers_outlive_signals(loader)
        self._signals.install()
        if runner._resume:
            self._resume(runner)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint if it is time to, or if a signal has come."""
        self._validation_follows = self._follows(runner, 'iterations', runner.iter + 1)
        super().after_train_iter(runner, *args, **kwargs)
        if self._agreed_signal():
            self._stop(runner, runner.epoch, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save a checkpoint if it is time to."""
        self._validation_follows = self._follows(runner, 'epochs', runner.epoch + 1)
        super().after_train_epoch(runner)

    def before_val(self, runner: Runner) -> None:
        """Put the random generators aside."""
        self._before_val = generator_states()
        self._common_batches = 0
        if self._training:
            # Processes may have different numbers of batches, and agree while all have.
            count = torch.tensor(len(runner.val_loop.dataloader))
            all_reduce(count, op='min')
            self._common_batches = int(count)

    def after_val_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
        """End a validation if a signal has come."""
        if batch_idx < self._common_batches and self._agreed_signal():
            if self._saved_at != runner.iter:
                # The weights that are validated stand in for those that are trained.
                for hook in runner.hooks:
                    if isinstance(hook, EMAHook):
                        hook.after_val_epoch(runner)
            self._validation_follows = True
            self._stop(runner, runner.epoch, runner.iter)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Save a best checkpoint, and only then remove the best one before it."""
        self._validation_follows = False
        super().after_val_epoch(runner, metrics or {})

    def after_val(self, runner: Runner) -> None:
        """Set the random generators back."""
        if self._before_val is not None:
            set_generator_states(self._before_val)
            self._before_val = None

    def after_run(self, runner: Runner) -> None:
        """Let signals and other trainings go their ways again."""
        self._signals.uninstall()
        if self._training and is_main_process():
            release_work_dir(runner.work_dir)
        self._training = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the state of the training into a checkpoint."""
        if self._state is not None:
            checkpoint[TRAINING_STATE] = self._state

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict[str, int]
    ) -> None:
        """Save a checkpoint, then remove what it replaces."""
        ids = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []
        limit, outdated = self.max_keep_ckpts, []
        if limit > 0:
            ids = [other for other in ids if other != step] + [step]
            ids, outdated = ids[-limit:], ids[:-limit]
            # With the outdated: if a kill spares them, a resume removes them.
            runner.message_hub.update_info('keep_ckpt_ids', outdated + ids)
        at_signal = runner.message_hub.runtime_info.pop(_AT_SIGNAL, None)
        self.max_keep_ckpts = -1
        try:
            self._save_with_state(
                runner,
                meta,
                lambda: super(ResumableCheckpointHook, self)._save_checkpoint_with_step(
                    runner, step, meta
                ),
            )
        finally:
            self.max_keep_ckpts = limit
        if limit > 0:
            self.keep_ckpt_ids = deque(ids, limit)
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        if is_main_process():
            names = [self.filename_tmpl.format(other) for other in outdated]
            for name in [*names, *filter(None, [at_signal])]:
                path = self.file_backend.join_path(self.out_dir, name)
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best checkpoint, then remove the one that was the best."""
        if not self.save_best:
            return
        before: dict[str, str | None]
        if len(self.key_indicators) == 1:
            before = {'': self.best_ckpt_path}
            self.best_ckpt_path = None
        else:
            before = self.best_ckpt_path_dict
            self.best_ckpt_path_dict = dict.fromkeys(before)
        self._state = None
        super()._save_best_checkpoint(runner, metrics)
        for key, path in before.items():
            if len(self.key_indicators) == 1:
                now = self.best_ckpt_path = self.best_ckpt_path or path
            else:
                now = self.best_ckpt_path_dict[key] or path
                self.best_ckpt_path_dict[key] = now
            gone = path if now != path and is_main_process() else None
            if gone and self.file_backend.isfile(gone):
                self.file_backend.remove(gone)

    def _save_with_state(self, runner: Runner, meta: dict[str, int], save: Any) -> None:
        """Save a checkpoint with the state of the training."""
        self._state = collect_training_state(
            runner, self._before_val or generator_states(), self._validation_follows
        )
        try:
            save()
        except OSError as error:
            raise CheckpointError(
                f'the checkpoint of iteration {meta["iter"]} could not be written to '
                f'{self.out_dir}: {error}. Make room there, then go on with --resume: '
                'the checkpoint before it is whole'
            ) from error
        finally:
            self._state = None
        self._saved_at = meta['iter']

    def _stop(self, runner: Runner, epoch: int, iteration: int) -> NoReturn:
        """Save a checkpoint unless there is one, and end the run.

        Raises:
            SystemExit: With 128 and the number of the signal.
        """
        if self._saved_at != iteration:
            meta = {'epoch': epoch, 'iter': iteration}
            if self.by_epoch:
                # Between the checkpoints of the epochs; the next of these removes it.
                name = f'iter_{iteration}.pth'
                runner.message_hub.update_info(_AT_SIGNAL, name)
                self._save_with_state(
                    runner,
                    meta,
                    lambda: runner.save_checkpoint(
                        self.out_dir,
                        name,
                        save_optimizer=self.save_optimizer,
                        save_param_scheduler=self.save_param_scheduler,
                        meta=meta,
                        by_epoch=False,
                        backend_args=self.backend_args,
                    ),
                )
            else:
                self._save_checkpoint_with_step(runner, iteration, meta)
        number = self._stopped_by
        runner.logger.warning(
            f'{signal.Signals(number).name} ended the run after iteration {iteration}. '
            f'Its checkpoint is in {self.out_dir}: go on with --resume'
        )
        # A launcher kills the other processes when the first one ends.
        barrier()
        self._signals.uninstall()
        raise SystemExit(128 + number)

    def _agreed_signal(self) -> int:
        """Number of the signal that any process has received, 0 if none has."""
        number = torch.tensor(self._signals.received)
        if get_world_size() > 1:
            all_reduce(number, op='max')
        self._stopped_by = int(number)
        return self._stopped_by

    def _resume(self, runner: Runner) -> None:
        """Go back to where the checkpoint was, the validation after it included."""
        loop = runner.train_loop
        self._saved_at = runner.iter
        if not hasattr(loop, 'place'):
            return
        if self._resumed is None or self._resumed['place'] is None:
            loop.place = _place_of(loop)
            runner.logger.warning(
                'The checkpoint has no training state: training goes on at the same '
                'place in the data, but with other random numbers'
            )
            return
        restore_training_state(runner, self._resumed, get_rank())
        follows, self._resumed = self._resumed['validation_follows'], None
        if follows and runner.val_loop is not None:
            runner.val_loop.run()

    def _follows(self, runner: Runner, counts: str, count: int) -> bool:
        """Whether there is a validation after a count of iterations or epochs."""
        loop = runner.train_loop
        return getattr(loop, 'counts', None) == counts and loop.is_validated_after(
            count
        )

    def _folders(self, runner: Runner) -> list[Path]:
        """Where checkpoints of this run may be."""
        folders = [Path(runner.work_dir)]
        if self.out_dir is not None and '://' not in str(self.out_dir):
            folders.append(Path(self.out_dir, Path(runner.work_dir).name))
        return folders

    def _compare_configs(self, runner: Runner, text: str) -> None:
        """Say what differs from the config of the checkpoint."""
        current = runner.cfg.pretty_text
        try:
            changes = config_changes(text, current)
            old, new = parse_config_text(text), parse_config_text(current)
        except ValueError as error:
            runner.logger.warning(
                f'The config in the checkpoint cannot be compared: {error}'
            )
            return
        if not changes:
            return
        runner.logger.warning(
            'The config differs from that of the checkpoint (old -> new):\n  '
            + '\n  '.join(changes)
            + '\nLearning rates, their schedule and the state of the optimizer stay '
            'those of the checkpoint; start from its weights with load_from to change '
            'them'
        )
        kinds = [_schedule_types(config) for config in (old, new)]
        if kinds[0] != kinds[1]:
            raise CheckpointError(
                f'param_scheduler was {", ".join(kinds[0])} when the checkpoint was '
                f'written and is {", ".join(kinds[1])} now, so its state does not '
                'fit: set it back, or start from the weights with load_from'
            )

    def _check_optimizer(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse the state of another optimizer."""
        groups = checkpoint.get('optimizer', {}).get('param_groups')
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if groups is None or optimizer is None:
            return
        now = optimizer.param_groups
        sizes = [[len(group['params']) for group in side] for side in (groups, now)]
        if sizes[0] != sizes[1] or groups[0].keys() != now[0].keys() | (
            groups[0].keys() & {'initial_lr'}
        ):
            raise CheckpointError(
                'the state of the optimizer in the checkpoint does not fit '
                f'{type(optimizer).__name__} over the parameters of this config: '
                'optim_wrapper or what is trained has changed. Set it back, or start '
                'from the weights with load_from'
            )


def _place_of(loop: Any) -> tuple[int, int]:
    """Place in the data by the counters alone."""
    length = len(loop.dataloader)
    if loop.counts == 'epochs':
        return loop.epoch, min(max(loop.iter - loop.epoch * length, 0), length)
    if hasattr(loop.dataloader.batch_sampler.sampler, 'num_samples'):
        return divmod(loop.iter, length)
    return 0, loop.iter


def _schedule_types(config: dict[str, Any]) -> list[str]:
    """Types of the parameter schedulers of a config."""
    schedulers = config.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    return [str(s.get('type')) for s in schedulers if isinstance(s, dict)]
