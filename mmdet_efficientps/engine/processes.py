# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The processes of a run: on a machine without a GPU, too."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import distributed as dist

# Variables of each launcher: number of the process, on its machine, of all processes.
_VARIABLES = {
    'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'),
    'mpi': (
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_LOCAL_RANK',
        'OMPI_COMM_WORLD_SIZE',
    ),
}


def join_processes(cfg: Config) -> int:
    """Join this process with the others that a launcher has started.

    To be called before the runner is built. MMEngine's runner joins processes as well,
    but takes a GPU for granted: it asks CUDA for one even with the backend gloo. Here
    processes without a GPU are joined by gloo, and the runner finds that done; those
    with one are left to the runner.

    Args:
        cfg (Config): Config of the run, with ``launcher``. Without a GPU
            ``model_wrapper_cfg`` is set so that the model stays on the CPU.

    Returns:
        int: Number of this process, 0 if it is the only one.

    Raises:
        ValueError: If the launcher has not started this process, or it needs a GPU
            more than the machine has.
    """
    if cfg.launcher == 'none':
        if int(os.environ.get('WORLD_SIZE', 1)) > 1 and 'RANK' in os.environ:
            raise ValueError(
                f'this is one of {os.environ["WORLD_SIZE"]} processes, and each would '
                'run alone: add --launcher pytorch'
            )
        return 0
    names = _VARIABLES[cfg.launcher]
    if missing := [name for name in names if name not in os.environ]:
        raise ValueError(
            f'--launcher {cfg.launcher} needs the variables {", ".join(missing)}, '
            'which the launcher sets: start several processes by tools/dist_train.sh '
            'or tools/slurm_train.sh (dist_test.sh and slurm_test.sh for tests), and '
            'leave --launcher out for one'
        )
    rank, local_rank, world_size = (int(os.environ[name]) for name in names)
    if cfg.launcher == 'slurm':
        # MMEngine takes it, too, unless dist_cfg has a port.
        os.environ.setdefault('MASTER_PORT', str(_slurm_port()))
    if torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        if local_rank >= gpus:
            raise ValueError(
                f'process {local_rank + 1} of this machine finds {gpus} GPUs: start '
                'as many processes as there are GPUs, or set CUDA_VISIBLE_DEVICES=-1 '
                'to compute on the CPU'
            )
    elif get_device() == 'cpu':
        os.environ |= dict(
            RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(world_size)
        )
        if 'MASTER_ADDR' not in os.environ:
            os.environ['MASTER_ADDR'] = _first_host(cfg.launcher)
        os.environ.setdefault('MASTER_PORT', '29500')
        timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
        dist.init_process_group(
            'gloo', timeout=None if timeout is None else timedelta(seconds=timeout)
        )
        wrapper = dict(
            type='MMDistributedDataParallel',
            # MMEngine's default, which this config replaces.
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        wrapper |= cfg.get('model_wrapper_cfg') or {}
        cfg.model_wrapper_cfg = wrapper | dict(device_ids=None)
    return rank


def _slurm_port() -> int:
    """A port that other jobs, and other steps of this one, are unlikely to have."""
    job, step = (
        int(os.environ.get(name) or 0) for name in ('SLURM_JOB_ID', 'SLURM_STEP_ID')
    )
    # Below those that systems hand out themselves.
    return 20000 + (8 * job + step) % 10000


def _first_host(launcher: str) -> str:
    """Name of the machine of the first process."""
    if launcher == 'slurm':
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hosts = subprocess.run(command, check=True, capture_output=True, text=True)
        return hosts.stdout.split()[0]
    return '127.0.0.1'
