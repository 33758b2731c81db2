# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Test a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [options]``."""

import argparse
import os
import os.path as osp

from mmdet.evaluation import DumpDetResults
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config, DictAction
from mmengine.runner import Runner


def parse_args() -> argparse.Namespace:
    """Parse the command line; the arguments are those of mmdet's tools/test.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--work-dir',
        help='folder for logs and metrics, by default work_dirs/<config name>',
    )
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='dump the predictions to a pickle file'
    )
    parser.add_argument(
        '--amp', action='store_true', help='predict in automatic mixed precision'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test with the tta_model and tta_pipeline of the config',
    )
    parser.add_argument(
        '--show', action='store_true', help='show every prediction in a window'
    )
    parser.add_argument(
        '--show-dir',
        help='write a picture of every image, its ground truth and its prediction '
        'into this folder of <work folder>/<time>',
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds to show a window'
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
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must be a .pkl or .pickle file, got {args.out}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    """Build the runner and test."""
    args = parse_args()
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
    cfg.load_from = args.checkpoint
    if args.tta:
        if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
            raise SystemExit(
                f'--tta needs tta_model and tta_pipeline in {args.config}; mmdet has '
                'none that merges panoptic predictions'
            )
        cfg.model = dict(cfg.tta_model, module=cfg.model)
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        cfg.default_hooks.visualization.update(
            draw=True,
            show=args.show,
            wait_time=args.wait_time,
            test_out_dir=args.show_dir,
        )
    runner = Runner.from_cfg(cfg)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()


if __name__ == '__main__':
    main()
