# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A data set whose randomness depends on the number of the sample alone."""

from __future__ import annotations

from typing import Any

from mmdet.registry import DATASETS

from ..utils.random_states import seeded_generators


@DATASETS.register_module()
class SampleSeededDataset:
    """Load each sample with random generators seeded by the sample.

    What transforms and data sets draw from the generators of python, numpy and torch
    is then the same in whatever process they run and whatever has been drawn before.
    Not for transforms that remember earlier images, such as mmdet's ``CachedMosaic``.

    Everything else is the wrapped data set's: its attributes are read and set through
    this one.

    Args:
        dataset (Any): Any data set, or the config of one. Its items may be drawn by a
            :class:`~.samplers.SampleIndex`; by any other index nothing is seeded.
    """

    dataset: Any

    def __init__(self, dataset: Any) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset

    def __getitem__(self, index: int) -> Any:
        seeds = getattr(index, 'seeds', None)
        if not seeds:
            return self.dataset[index]
        with seeded_generators(*seeds):
            return self.dataset[int(index)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        # Only what is not found; in a copy that is being made even the data set is not.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == 'dataset':
            super().__setattr__(name, value)
        else:
            setattr(self.dataset, name, value)
