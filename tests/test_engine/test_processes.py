# Licensed under the Apache License, Version 2.0. See LICENSE.
import os
from datetime import timedelta

import pytest
import torch
from mmengine.config import Config
from torch import distributed as dist

from mmdet_efficientps.engine import join_processes
from mmdet_efficientps.engine.processes import _VARIABLES


@pytest.fixture
def joined(monkeypatch):
    """An environment that no launcher has made; gives what processes are joined by."""
    others = ('MASTER_ADDR', 'MASTER_PORT', 'SLURM_JOB_ID', 'SLURM_STEP_ID')
    for name in (*sum(_VARIABLES.values(), ()), *others):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    calls = []

    def init(backend, **kwargs):
        names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
        calls.append((backend, [os.environ[name] for name in names], kwargs))

    monkeypatch.setattr(dist, 'init_process_group', init)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr('mmdet_efficientps.engine.processes.get_device', lambda: 'cpu')
    return calls


def test_a_single_process_joins_nothing(joined):
    cfg = Config(dict(launcher='none'))
    assert join_processes(cfg) == 0
    assert joined == []
    assert 'model_wrapper_cfg' not in cfg


def test_one_of_several_processes_does_not_run_alone(joined, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(ValueError, match='add --launcher pytorch'):
        join_processes(Config(dict(launcher='none')))


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_launcher_that_has_not_started_the_process_is_said(joined, launcher):
    with pytest.raises(ValueError, match='leave --launcher out for one'):
        join_processes(Config(dict(launcher=launcher)))


def test_processes_of_torchrun_are_joined_on_the_cpu(joined, monkeypatch):
    for name, value in zip(_VARIABLES['pytorch'], '312', strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('MASTER_ADDR', 'there')
    monkeypatch.setenv('MASTER_PORT', '7')
    cfg = Config(
        dict(
            launcher='pytorch',
            env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=60)),
            find_unused_parameters=True,
        )
    )
    assert join_processes(cfg) == 3
    assert joined == [
        ('gloo', ['3', '1', '2', 'there', '7'], dict(timeout=timedelta(seconds=60)))
    ]
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )


def test_processes_of_slurm_meet_at_the_first_machine(joined, monkeypatch, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text(
        '#!/bin/sh\n[ "$*" = "show hostnames n[3-4]" ] && echo "n3\nn4"'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    for name, value in zip(_VARIABLES['slurm'], '102', strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('SLURM_NODELIST', 'n[3-4]')
    assert join_processes(Config(dict(launcher='slurm'))) == 1
    assert joined == [('gloo', ['1', '0', '2', 'n3', '20000'], dict(timeout=None))]


@pytest.mark.parametrize('has_gpu', [False, True])
def test_jobs_and_steps_of_slurm_have_ports_of_their_own(joined, monkeypatch, has_gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setenv('MASTER_ADDR', 'there')
    for name, value in zip(_VARIABLES['slurm'], '102', strict=True):
        monkeypatch.setenv(name, value)

    def port(job, step):
        monkeypatch.setenv('SLURM_JOB_ID', job)
        monkeypatch.setenv('SLURM_STEP_ID', step)
        monkeypatch.delenv('MASTER_PORT', raising=False)
        join_processes(Config(dict(launcher='slurm')))
        return int(os.environ['MASTER_PORT'])

    ports = [port(*place) for place in (('71234', '0'), ('71234', '1'), ('71235', '0'))]
    assert len(set(ports)) == 3
    assert all(1024 <= number < 32768 for number in ports)
    assert port('71234', '0') == ports[0]
    monkeypatch.setenv('MASTER_PORT', '7')
    join_processes(Config(dict(launcher='slurm')))
    assert os.environ['MASTER_PORT'] == '7'


def test_a_process_without_a_gpu_of_its_own_is_refused(joined, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    for name, value in zip(_VARIABLES['pytorch'], '224', strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match='process 3 of this machine finds 2 GPUs'):
        join_processes(Config(dict(launcher='pytorch')))
    monkeypatch.setenv('LOCAL_RANK', '1')
    assert join_processes(Config(dict(launcher='pytorch'))) == 2
    # MMEngine's runner joins those.
    assert joined == []
