# Licensed under the Apache License, Version 2.0. See LICENSE.
import os

import pytest

from mmdet_efficientps.utils import num_processors


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """The limits of a container on a machine with eight processors."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)))

    def make(**files):
        for name, text in files.items():
            file = tmp_path / name.replace('__', '/').replace('cpu_', 'cpu.')
            file.parent.mkdir(exist_ok=True)
            file.write_text(f'{text}\n')
        return tmp_path

    return make


@pytest.mark.parametrize(
    ('limit', 'expected'),
    [('max 100000', 8), ('250000 100000', 2), ('1600000 100000', 8), ('5000 50000', 1)],
)
def test_the_share_of_a_container_counts(cgroup, limit, expected):
    assert num_processors(cgroup(cpu_max=limit)) == expected


@pytest.mark.parametrize(('quota', 'expected'), [('-1', 8), ('300000', 3)])
def test_so_does_that_of_the_first_version(cgroup, quota, expected):
    files = {'cpu__cpu_cfs_quota_us': quota, 'cpu__cpu_cfs_period_us': '100000'}
    assert num_processors(cgroup(**files)) == expected


def test_processors_that_a_job_was_not_given_do_not_count(tmp_path):
    (first, *_) = given = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {first})
    try:
        assert num_processors(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, given)
    assert num_processors(tmp_path) == len(given)
