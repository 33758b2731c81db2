# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Score panoptic predictions in files, of any framework, without a model.

Ground truth and predictions are COCO-panoptic: a json and, beside it, a folder of PNGs
with the name of the json (or --gt-folder, --pred-folder). Prints PQ, SQ and RQ; the
numbers are those of panopticapi and cityscapesscripts. Ends with status 1 and a list
of all problems if files do not fit.

Example::

    python tools/analysis_tools/evaluate_panoptic.py \
        data/cityscapes/gtFine/cityscapes_panoptic_val.json \
        predictions/panoptic.json --boundary --out pq.json
"""

import argparse
from pathlib import Path

from mmdet_efficientps.evaluation.functional import report_quality
from mmdet_efficientps.evaluation.panoptic_files import evaluate_panoptic_files
from mmdet_efficientps.structures.panoptic import write_json
from mmdet_efficientps.utils import check_output_file, num_processors


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('gt', type=Path, metavar='GT.json', help='ground truth')
    parser.add_argument('pred', type=Path, metavar='PRED.json', help='predictions')
    parser.add_argument(
        '--gt-folder', type=Path, help='PNGs of the ground truth, by default GT/'
    )
    parser.add_argument(
        '--pred-folder', type=Path, help='PNGs of the predictions, by default PRED/'
    )
    parser.add_argument(
        '--boundary', action='store_true', help='measure boundary PQ too'
    )
    parser.add_argument(
        '--dilation-ratio',
        type=float,
        default=0.02,
        help='width of the boundary regions as a part of the image diagonal; the '
        "authors' evaluators have 0.02 for COCO and 0.005 for Cityscapes",
    )
    parser.add_argument(
        '--nproc', type=int, default=num_processors(), help='number of processes'
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE.json',
        help='write the values in percent; groups and classes that neither occur nor '
        'are predicted are left out',
    )
    return parser.parse_args()


def main() -> None:
    """Score and print.

    Raises:
        SystemExit: With status 1 if something is wrong with the files.
    """
    args = parse_args()
    try:
        if args.out is not None:
            check_output_file(args.out, [args.gt, args.pred], '--out')
        quality = evaluate_panoptic_files(
            args.gt,
            args.pred,
            gt_folder=args.gt_folder,
            pred_folder=args.pred_folder,
            dilation_ratio=args.dilation_ratio if args.boundary else None,
            nproc=args.nproc,
        )
    except ValueError as error:
        raise SystemExit(f'nothing was scored. {error}') from error
    values, text = report_quality(quality.stats, quality.classes, quality.groups)
    if args.out is not None:
        write_json(args.out, values, indent=1)
    print(text)


if __name__ == '__main__':
    main()
