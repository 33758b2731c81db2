# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Test a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [options]``."""

import argparse
import hashlib
from pathlib import Path

from mmdet.evaluation import DumpDetResults
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.distributed.elastic.multiprocessing.errors import record

from mmdet_efficientps.apis.command_line import add_run_arguments, read_run_config
from mmdet_efficientps.engine import join_processes
from mmdet_efficientps.evaluation import CityscapesSubmission, DumpPanopticResults
from mmdet_efficientps.utils.work_dir_lock import check_work_dir


def parse_args() -> argparse.Namespace:
    """Parse the command line; the arguments are those of mmdet's tools/test.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_run_arguments(parser, leaves='logs and metrics')
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='dump the predictions to a pickle file'
    )
    parser.add_argument(
        '--out-panoptic',
        metavar='DIR',
        help='write the panoptic predictions into this folder as COCO-panoptic json '
        'and PNGs; a test that was stopped is continued when the command is given '
        'again, without metrics: tools/analysis_tools/evaluate_panoptic.py has them',
    )
    parser.add_argument(
        '--format-only',
        metavar='DIR',
        help='write a submission to the Cityscapes benchmarks (panoptic, instance and '
        'pixel level) into this folder, and no metrics: ground truth is not needed; '
        'continued like --out-panoptic',
    )
    parser.add_argument(
        '--amp', action='store_true', help='predict in automatic mixed precision'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: predict from views of several scales, mirrored '
        'or not, with the tta_model and tta_pipeline of the config',
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
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must be a .pkl or .pickle file, got {args.out}')
    if args.format_only and args.out_panoptic:
        parser.error('--format-only writes what --out-panoptic does, too: give one')
    return args


def open_panoptic_output(
    writer_type: type[DumpPanopticResults], out_dir: str, cfg: Config
) -> tuple[DumpPanopticResults, bool]:
    """Open the folder for predictions and leave out the images that it has.

    Args:
        writer_type: What writes the predictions.
        out_dir: The folder.
        cfg: Config of the test. Its test set is cut to what is left to predict.

    Returns:
        The writer, and whether a stopped test is continued.
    """
    run = hashlib.sha256(
        f'{cfg.model}{cfg.test_dataloader.dataset}{cfg.test_cfg}'.encode()
    )
    checkpoint = Path(cfg.load_from)
    run.update(
        checkpoint.read_bytes() if checkpoint.is_file() else cfg.load_from.encode()
    )
    try:
        writer = writer_type(out_dir, run.hexdigest())
    except FileExistsError as error:
        raise SystemExit(f'error: {error}') from error
    done = writer.output.annotations()
    if done:
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        if 'datasets' in cfg.test_dataloader.dataset or not hasattr(
            dataset, 'ann_file'
        ):
            raise SystemExit(
                f'error: {out_dir} has predictions of a stopped test, and one of a '
                f'{type(dataset).__name__} cannot go on: take another folder, or '
                'remove it'
            )
        image_ids = [dataset.get_data_info(k)['img_id'] for k in range(len(dataset))]
        print(f'{len(done)} of {len(image_ids)} predictions are in {out_dir} already')
        # A test needs an image; if it was stopped at the very end, any will do.
        left = set(image_ids) - done.keys() or {image_ids[0]}
        # Indices count from the whole set, of which the config may name a part.
        whole = DATASETS.build(cfg.test_dataloader.dataset | {'indices': None})
        cfg.test_dataloader.dataset.indices = [
            k for k in range(len(whole)) if whole.get_data_info(k)['img_id'] in left
        ]
    return writer, bool(done)


def set_pipeline(dataset: dict, pipeline: list[dict]) -> None:
    """Give a data set another pipeline, and one of several parts to each part.

    Args:
        dataset: Its config.
        pipeline: The pipeline.
    """
    if 'datasets' in dataset:
        for part in dataset['datasets']:
            set_pipeline(part, pipeline)
    elif 'dataset' in dataset:
        set_pipeline(dataset['dataset'], pipeline)
    else:
        dataset['pipeline'] = pipeline


# torchrun shows the error of the process that failed first.
@record
def main() -> None:
    """Build the runner and test."""
    args = parse_args()
    cfg = read_run_config(args)
    cfg.load_from = args.checkpoint
    if args.tta:
        if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
            raise SystemExit(
                f'error: --tta needs tta_model and tta_pipeline in {args.config}: '
                'configs/_base_/datasets/panoptic.py has both'
            )
        cfg.model = dict(cfg.tta_model, module=cfg.model)
        set_pipeline(cfg.test_dataloader.dataset, cfg.tta_pipeline)
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        cfg.default_hooks.visualization.update(
            draw=True,
            show=args.show,
            wait_time=args.wait_time,
            test_out_dir=args.show_dir,
        )
    try:
        check_work_dir(cfg.work_dir)
        join_processes(cfg)
    except (OSError, ValueError) as error:
        text = getattr(error, 'strerror', None) or error
        raise SystemExit(f'error: {text}') from error
    out_dir = args.format_only or args.out_panoptic
    if out_dir is not None:
        writer_type = CityscapesSubmission if args.format_only else DumpPanopticResults
        panoptic_writer, continued = open_panoptic_output(writer_type, out_dir, cfg)
    runner = Runner.from_cfg(cfg)
    if out_dir is not None:
        if continued or args.format_only:
            runner.test_evaluator.metrics.clear()
        panoptic_writer.dataset_meta = runner.test_evaluator.dataset_meta
        runner.test_evaluator.metrics.append(panoptic_writer)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()


if __name__ == '__main__':
    main()
