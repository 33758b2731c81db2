# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Metrics computed from sums over the images."""

from abc import abstractmethod
from functools import reduce
from operator import add
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric


class SumMetric(BaseMetric):
    """Base of metrics that need nothing but sums over the images.

    A process keeps the sum of its images, not a result for each, and only the sums
    travel between processes: through the collectives of ``torch.distributed``, where
    MMEngine by default uses files in a temporary folder.

    A subclass calls :meth:`add` in ``process`` once for each data sample, in order, and
    turns the sums into values in :meth:`compute_from_sums`.

    The sampler of a distributed test may repeat images to give every process the same
    number. As in MMEngine sample i of process r is taken for image
    ``r + i * processes``, so that the repeated ones are those beyond the last image;
    each process has at most one, its last.

    Args:
        collect_device (str): Argument of ``BaseMetric``. Defaults to 'gpu', which
            stands for the collectives of any backend, gloo on CPUs included; 'cpu'
            goes through files.
        **kwargs: Other arguments of ``BaseMetric``.
    """

    def __init__(self, collect_device: str = 'gpu', **kwargs) -> None:
        super().__init__(collect_device=collect_device, **kwargs)
        self._num_samples = 0

    @abstractmethod
    def compute_from_sums(self, *sums: Any) -> dict:
        """Compute the values over all images.

        Args:
            *sums (Any): Sums of what :meth:`add` got.

        Returns:
            dict: Values by name.
        """

    def add(self, *counts: Any) -> None:
        """Add the counts of one image.

        Args:
            *counts (Any): Things that can be added to others of their kind, such as
                arrays; as many in every call.
        """
        self._num_samples += 1
        # The last image is kept apart: it may be a repeated one.
        if len(self.results) == 2:
            self.results: list[tuple] = [_sum_up(self.results)]
        self.results.append(counts)

    def compute_metrics(self, results: list[tuple]) -> dict:
        """Compute the values over all processes.

        Args:
            results (list[tuple]): Sums of each process that had images.

        Returns:
            dict: Values by name; empty if no process had images.
        """
        return self.compute_from_sums(*_sum_up(results)) if results else {}

    def evaluate(self, size: int) -> dict:
        """Compute the metric over all processes.

        Args:
            size (int): Number of images of the data set.

        Returns:
            dict: Values by name, the same in every process.

        Raises:
            ValueError: If a process got more samples than its share and one repeated.
        """
        rank, num_processes = get_dist_info()
        surplus = self._num_samples - len(range(rank, size, num_processes))
        if surplus > 1:
            raise ValueError(
                f'{self._num_samples} samples in process {rank} of {num_processes}, '
                f'but the data set has {size} images. Use a sampler that gives '
                'every image once, such as DefaultSampler'
            )
        if surplus == 1:
            self.results.pop()
        self._num_samples = 0
        if self.results:
            self.results = [_sum_up(self.results)]
        return super().evaluate(num_processes)


def _sum_up(results: list[tuple]) -> tuple:
    """Add up tuples of counts, place by place."""
    return tuple(reduce(add, counts) for counts in zip(*results, strict=True))
