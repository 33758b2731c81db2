# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
from mmengine.runner import Runner
from torch.utils.data import DataLoader, SequentialSampler

from mmdet_efficientps.engine import allow_loaders_without_workers

OF_WORKERS = dict(
    persistent_workers=True,
    prefetch_factor=4,
    timeout=5,
    multiprocessing_context='fork',
)


def build(**changes):
    """Build a loader as a runner does; gives it and its content."""
    config = dict(
        dataset=list(range(4)),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=2,
    )
    loader = Runner.build_dataloader(config | changes, seed=0)
    return loader, [list(batch) for batch in loader]


@pytest.mark.parametrize('setting', OF_WORKERS)
@pytest.mark.parametrize('workers', [dict(num_workers=0), {}], ids=['0', 'default'])
def test_a_loader_without_workers_takes_no_notice_of_their_settings(setting, workers):
    loader, batches = build(**workers, **{setting: OF_WORKERS[setting]})
    assert loader.num_workers == 0
    assert batches == [[0, 1], [2, 3]]


def test_workers_keep_their_settings():
    loader, batches = build(num_workers=1, **OF_WORKERS)
    assert batches == [[0, 1], [2, 3]]
    assert loader.persistent_workers
    assert (loader.prefetch_factor, loader.timeout) == (4, 5)


def test_a_loader_that_is_built_already_is_left_alone():
    data = [1, 2]
    loader = DataLoader(data, sampler=SequentialSampler(data))
    assert Runner.build_dataloader(loader) is loader


def test_the_method_is_wrapped_once():
    before = Runner.build_dataloader
    allow_loaders_without_workers()
    assert Runner.build_dataloader is before
