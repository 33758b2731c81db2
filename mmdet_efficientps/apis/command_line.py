# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What the command lines of training and testing have in common."""

from __future__ import annotations

import os
import os.path as osp
from argparse import ArgumentParser, Namespace

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config, DictAction


def add_run_arguments(parser: ArgumentParser, leaves: str) -> None:
    """Add the arguments of mmdet's tools that every run has.

    Args:
        parser (ArgumentParser): Parser with the positional arguments.
        leaves (str): What the run leaves in its work folder, for the help.
    """
    parser.add_argument(
        '--work-dir',
        help=f'folder for {leaves}, by default work_dirs/<config name>',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override fields of the config: a.b=1 c="[1,2]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how distributed processes are started',
    )
    # torch.distributed.launch passes one spelling or the other
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def read_run_config(args: Namespace) -> Config:
    """Read the config of a run and put into it what the command line says.

    Args:
        args (Namespace): With config and the arguments of :func:`add_run_arguments`.

    Returns:
        Config: The config, with a work folder.

    Raises:
        SystemExit: If there is no such file.
    """
    if not osp.isfile(args.config):
        raise SystemExit(
            f'error: there is no config file {args.config}. Give its path; those that '
            'come with the package are in configs/'
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    setup_cache_size_limit_of_dynamo()
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg
