# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Train a network from a config: ``python tools/train.py CONFIG [options]``."""

import argparse

from mmengine.runner import Runner
from torch.distributed.elastic.multiprocessing.errors import record

from mmdet_efficientps.apis.command_line import add_run_arguments, read_run_config
from mmdet_efficientps.engine import check_sync_bn, join_processes
from mmdet_efficientps.utils.work_dir_lock import claim_work_dir


def parse_args() -> argparse.Namespace:
    """Parse the command line; the arguments are those of mmdet's tools/train.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    add_run_arguments(parser, leaves='logs and checkpoints')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train with automatic mixed precision: float16, on a CPU bfloat16',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size, relative to '
        'auto_scale_lr.base_batch_size of the config',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint, by default the newest whole one in the work '
        'folder',
    )
    return parser.parse_args()


# torchrun shows the error of the process that failed first.
@record
def main() -> None:
    """Build the runner and train."""
    args = parse_args()
    cfg = read_run_config(args)
    try:
        # Every runner's SyncBNCheckHook says so too, but only when data is read.
        check_sync_bn(cfg)
    except ValueError as error:
        raise SystemExit(f'error: {error}') from error
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise SystemExit(
                f'--auto-scale-lr needs auto_scale_lr.base_batch_size in {args.config}'
            )
        cfg.auto_scale_lr.enable = True
    try:
        rank = join_processes(cfg)
    except ValueError as error:
        raise SystemExit(f'error: {error}') from error
    if rank == 0:
        try:
            # The checkpoint hook claims it too, but only when the runner has written
            # its first files.
            claim_work_dir(cfg.work_dir)
        except OSError as error:
            if args.launcher != 'none':
                # Shown by torchrun, after what the others say when this one is gone.
                raise
            raise SystemExit(f'error: {error.strerror or error}') from error
    if args.resume is not None:
        # Of 'auto' the checkpoint hook finds the newest whole one, or begins as it
        # would without.
        found = None if args.resume == 'auto' else args.resume
        cfg.resume, cfg.load_from, cfg.start_from = True, found, cfg.get('load_from')
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    main()
