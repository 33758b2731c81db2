# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Predict very many images: ``predict_archive.py INPUT MODEL [CHECKPOINT] --out DIR``.

INPUT is a folder with all folders below it, a pattern in quotes, a list of paths or
addresses (.txt, one a line), parquet files with a column `path` and maybe one `bytes`,
or .tar files in WebDataset's layout. MODEL is as for tools/predict.py. Results are
parquet files with a row for each image; tools/archive_to_coco.py makes a panoptic json
of them. The same command goes on where a run was stopped, and adds nothing to a
complete archive. Ray Data does it on this machine or on a cluster: pip install
'mmdet_efficientps[archive]'.
Exit status: 1 if something could not be predicted, 2 for a wrong command.
"""

import argparse

from mmdet_efficientps.apis.archive import TakenOverError
from mmdet_efficientps.apis.archive_run import WorkersFailedError, predict_to_archive
from mmdet_efficientps.apis.command_line import add_network_arguments, network_settings
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', help='what to predict')
    add_network_arguments(parser)
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder of the archive'
    )
    parser.add_argument(
        '--workers',
        type=int,
        metavar='N',
        help='processes that predict; default: one for each GPU, or for each CPU',
    )
    parser.add_argument(
        '--threads',
        type=int,
        metavar='N',
        help='CPU threads of each; default: the CPUs divided by the workers',
    )
    parser.add_argument(
        '--gpus',
        type=float,
        metavar='X',
        help='GPUs of each, 0 for none, 0.5 if two share one; default: 1 if any',
    )
    parser.add_argument(
        '--rows-per-file',
        type=int,
        default=64,
        metavar='N',
        help='images that a worker is given at once, and that are in a file (64)',
    )
    parser.add_argument(
        '--retry-errors',
        action='store_true',
        help='predict images again whose row has an error',
    )
    parser.add_argument(
        '--address',
        help='Ray cluster, such as ray://head:10001 or auto; default: RAY_ADDRESS, '
        'or else this machine',
    )
    return parser.parse_args()


def main() -> None:
    """Predict, and list what could not be.

    Raises:
        SystemExit: If anything could not be predicted, with words.
    """
    args = parse_args()
    try:
        run = predict_to_archive(
            args.input,
            args.out,
            network_settings(args),
            workers=args.workers,
            threads=args.threads,
            gpus=args.gpus,
            rows_per_file=args.rows_per_file,
            retry_errors=args.retry_errors,
            address=args.address,
        )
    except (
        *(CheckpointError, ImportError, OSError, TakenOverError, TypeError),
        *(ValueError, WorkersFailedError),
    ) as error:
        raise SystemExit(f'error: {error}') from error
    except KeyboardInterrupt:
        raise SystemExit(
            f'stopped: the same command goes on with what is in {args.out}'
        ) from None
    for path in run.damaged:
        print(f'{path} is cut off: what was in it was predicted again')
    print(f'{run.num_predicted} images were predicted, {run.num_known} were known')
    if run.problems:
        print(run.problems.summary())
    if run.num_missing:
        print(
            f'{run.num_missing} images are missing: workers died of them, or of what '
            'was beside them. The same command tries again'
        )
    if run.problems or run.num_missing:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
