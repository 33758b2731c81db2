# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Batches whose images are numbered and which begin at any place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmdet.registry import DATA_SAMPLERS
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, Sampler


class SampleIndex(int):
    """Index of an image in its data set, with the numbers that its random seed is.

    Args:
        index (int): The index.
        seeds (Sequence[int]): The numbers. Defaults to ().
    """

    seeds: tuple[int, ...]

    def __new__(cls, index: int, seeds: Sequence[int] = ()) -> SampleIndex:
        """Make the number."""
        number = super().__new__(cls, index)
        number.seeds = tuple(seeds)
        return number

    def __getnewargs__(self) -> tuple:
        """What a worker process makes it from."""
        return int(self), self.seeds


@DATA_SAMPLERS.register_module()
class NumberedBatchSampler(BatchSampler):
    """The batches of any sampler, numbered, from any place on.

    The n-th image that a training draws is given (seed, epoch, n), where n counts the
    images of all processes; ``SampleSeededDataset`` seeds its augmentation by that. To
    go on at a place in an epoch, indices are drawn and dropped, without any data:
    100 000 batches take a fraction of a second. So whatever order the sampler or batch
    sampler of a config gives is the same after a resume.

    Args:
        sampler (Sampler): Gives the indices of this process; if it has ``set_epoch``,
            that is called.
        batch_size (int): Images of a batch.
        drop_last (bool): Leave the last batch of an epoch out if it is not full.
            Ignored with ``inner``. Defaults to False.
        seed (int): Seed of the training, the same for all processes. Defaults to 0.
        inner (dict | None): Config of a batch sampler, built with ``sampler`` and
            ``batch_size``. Defaults to None, batches of consecutive indices.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        drop_last: bool = False,
        seed: int = 0,
        inner: dict | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.seed = seed
        self.batches: BatchSampler = (
            BatchSampler(sampler, batch_size, drop_last)
            if inner is None
            else DATA_SAMPLERS.build(
                inner, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        )
        self._epoch = 0
        self._skipped = 0

    def start_at(self, epoch: int, batch: int) -> None:
        """Set where the next iteration begins.

        Args:
            epoch (int): The epoch, from 0; always 0 for a sampler that never ends.
            batch (int): Batches of this process in the epoch that are left out.
        """
        self._epoch, self._skipped = epoch, batch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        """Give the batches.

        Yields:
            list[int]: Indices of the images of a batch, :class:`SampleIndex` all.
        """
        rank, world_size = get_dist_info()
        seed, epoch, skipped, drawn = self.seed, self._epoch, self._skipped, 0
        for count, batch in enumerate(self.batches):
            if count >= skipped:
                yield [
                    SampleIndex(index, (seed, epoch, (drawn + k) * world_size + rank))
                    for k, index in enumerate(batch)
                ]
            drawn += len(batch)

    def __len__(self) -> int:
        """Number of batches of this process in an epoch."""
        return len(self.batches)
