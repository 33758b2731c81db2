# Licensed under the Apache License, Version 2.0. See LICENSE.
"""MMEngine's training loops, which go on at any iteration as if never stopped."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.registry import LOOPS
from mmengine.dataset import InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import DataLoader

from mmdet_efficientps.datasets import SampleSeededDataset
from mmdet_efficientps.datasets.samplers import NumberedBatchSampler
from mmdet_efficientps.utils.random_states import kept_generators

from ..hooks import ResumableCheckpointHook
from ..memory_errors import explained_memory_errors


def build_numbered_loader(runner: Runner, config: dict) -> DataLoader:
    """Build the loader of a training, its samples numbered and seeded by number.

    Args:
        runner (Runner): The runner.
        config (dict): ``train_dataloader``, as MMEngine takes it.

    Returns:
        DataLoader: The loader; its batch sampler is a ``NumberedBatchSampler``, its
        data set a ``SampleSeededDataset``.

    Raises:
        TypeError: If the config is a loader already.
        ValueError: If the data set, or an epoch, has no image.
    """
    if not isinstance(config, dict):
        raise TypeError(
            'train_dataloader must be a config: a DataLoader that is made already '
            'cannot find its place when the training is resumed'
        )
    config = dict(config)
    batch_sampler = dict(
        type=NumberedBatchSampler,
        inner=config.pop('batch_sampler', None),
        drop_last=config.pop('drop_last', False),
        seed=runner.seed,
    )
    dataset: Any = dict(type=SampleSeededDataset, dataset=config['dataset'])
    if not isinstance(config['dataset'], dict):
        dataset = SampleSeededDataset(config['dataset'])
    loader = Runner.build_dataloader(
        config | dict(dataset=dataset, batch_sampler=batch_sampler),
        seed=runner.seed,
        diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False),
    )
    if len(loader.dataset) == 0:
        raise ValueError(
            'train_dataloader.dataset has no image left to train on: look at its '
            'filter_cfg, ann_file and data_root'
        )
    if len(loader) == 0:
        raise ValueError(
            f'train_dataloader.dataset has {len(loader.dataset)} images, '
            'too few for one batch: take a smaller batch_size, or drop_last=False'
        )
    return loader


class _ResumableLoop(BaseLoop):
    """What the loops have in common: the place in the data.

    Attributes:
        place (tuple[int, int]): Epoch of the data, always 0 for a sampler that never
            ends, and the batches of it that this process has taken.
    """

    place = (0, 0)

    def _start_epoch(self) -> Iterator[Any]:
        """Give the batches from the place on, which moves along."""
        epoch, batch = self.place
        self.dataloader.batch_sampler.start_at(epoch, batch)
        # An iterator draws a seed for its workers, which must not depend on how often
        # a training was resumed.
        with kept_generators():
            batches = iter(self.dataloader)
        for data in batches:
            batch += 1
            self.place = (epoch, batch)
            yield data
        self.place = (epoch + 1, 0)

    @contextmanager
    def _signals_let_go(self) -> Iterator[None]:
        """Note no more signals after an error, in training, validation or loading.

        MMEngine calls ``after_run`` after success alone, and the process may go on, in
        a notebook for instance.
        """
        try:
            yield
        except BaseException:
            for hook in self.runner.hooks:
                if isinstance(hook, ResumableCheckpointHook):
                    hook.after_run(self.runner)
            raise

    def run_iter(self, *arguments: Any) -> None:
        """Train on a batch.

        Args:
            *arguments (Any): Those of MMEngine's loop, the batch last.

        Raises:
            MemoryError: If there is too little memory; says for what.
        """
        with explained_memory_errors(arguments[-1], self._iter + 1):
            super().run_iter(*arguments)

    def is_validated_after(self, count: int) -> bool:
        """Whether there is a validation after a number of iterations or epochs.

        Args:
            count (int): Iterations or epochs, as the loop counts.

        Returns:
            bool: Whether there is one.
        """
        step = bisect.bisect(self.dynamic_milestones, count + 1)
        interval = self.dynamic_intervals[step - 1]
        last = self.max_iters if self.counts == 'iterations' else self.max_epochs
        return (
            self.runner.val_loop is not None
            and count >= self.val_begin
            and (count % interval == 0 or count == last)
        )


class _Unstarted:
    """Stands for a loader whose workers shall not be started yet."""

    def __init__(self, loader: DataLoader) -> None:
        self.dataset = loader.dataset

    def __iter__(self) -> Iterator:
        return iter(())


# In configs by MMEngine's names: whoever inherits ours and sets another loop of
# MMEngine means to be resumed as well.
@LOOPS.register_module(name=['ResumableIterBasedTrainLoop', 'IterBasedTrainLoop'])
class ResumableIterBasedTrainLoop(_ResumableLoop, IterBasedTrainLoop):
    """Training by iterations that finds its place in the data without loading it.

    Differs from MMEngine's loop: the augmentation of a sample depends on its number
    (see :class:`~mmdet_efficientps.datasets.SampleSeededDataset`), so results do not
    depend on ``num_workers``; workers start when the training does; a resumed one
    skips indices instead of loading everything it has seen once more.

    Args:
        runner (Runner): The runner.
        dataloader (dict): Config of the loader.
        **kwargs: Further arguments of MMEngine's loop.
    """

    counts = 'iterations'

    def __init__(self, runner: Runner, dataloader: dict, **kwargs: Any) -> None:
        loader = build_numbered_loader(runner, dataloader)
        super().__init__(runner, _Unstarted(loader), **kwargs)
        self.dataloader = loader
        self.dataloader_iterator = self._batches()

    def _batches(self) -> Iterator[Any]:
        """Give the batches of epoch after epoch."""
        while True:
            yield from self._start_epoch()

    def run(self) -> torch.nn.Module:
        """Train.

        Returns:
            torch.nn.Module: The model.
        """
        with self._signals_let_go():
            self._train()
        return self.runner.model

    def _train(self) -> None:
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if self.is_validated_after(self._iter):
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')


@LOOPS.register_module(name=['ResumableEpochBasedTrainLoop', 'EpochBasedTrainLoop'])
class ResumableEpochBasedTrainLoop(_ResumableLoop, EpochBasedTrainLoop):
    """Training by epochs that also goes on in the middle of one.

    Differs from MMEngine's loop as :class:`ResumableIterBasedTrainLoop` does.

    Args:
        runner (Runner): The runner.
        dataloader (dict): Config of the loader.
        **kwargs: Further arguments of MMEngine's loop.

    Raises:
        ValueError: If the sampler never ends an epoch.
    """

    counts = 'epochs'

    def __init__(self, runner: Runner, dataloader: dict, **kwargs: Any) -> None:
        loader = build_numbered_loader(runner, dataloader)
        if isinstance(getattr(loader.batch_sampler, 'sampler', None), InfiniteSampler):
            raise ValueError(
                'the sampler of train_dataloader never ends an epoch and train_cfg '
                "counts epochs: set train_dataloader.sampler.type='DefaultSampler', or "
                "train_cfg.type='IterBasedTrainLoop'"
            )
        super().__init__(runner, loader, **kwargs)

    def run(self) -> torch.nn.Module:
        """Train.

        Returns:
            torch.nn.Module: The model.
        """
        with self._signals_let_go():
            return super().run()

    def run_epoch(self) -> None:
        """Train for an epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        _, done = self.place
        for index, data_batch in enumerate(self._start_epoch(), done):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
