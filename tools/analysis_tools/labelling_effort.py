# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Measure what a person would have to correct in predictions.

Compares predictions, a folder of ``tools/predict.py`` or a panoptic json, with right
labels of the same images, and counts the segments that are right as they are, and
those to reshape, to rename, to draw and to remove; and prints PQ. Images are matched
by file name, or by id where a json has no file names, and classes by name.

Example::

    python tools/analysis_tools/labelling_effort.py labels.json predictions
"""

import argparse
from pathlib import Path

from mmdet_efficientps.evaluation.functional.quality_report import quality_values
from mmdet_efficientps.evaluation.labelling_effort import (
    ACTIONS,
    measure_labelling_effort,
)
from mmdet_efficientps.structures.panoptic import write_json
from mmdet_efficientps.utils import check_output_file, num_processors


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('gt', type=Path, metavar='GT.json', help='right labels')
    parser.add_argument(
        'pred', type=Path, help='folder of tools/predict.py, or a panoptic json'
    )
    parser.add_argument(
        '--good-iou',
        type=float,
        default=0.9,
        metavar='X',
        help='from this IoU on an outline is left as it is (0.9)',
    )
    parser.add_argument(
        '--nproc', type=int, default=num_processors(), help='number of processes'
    )
    parser.add_argument(
        '--out', type=Path, metavar='FILE.json', help='write the numbers, too'
    )
    return parser.parse_args()


def main() -> None:
    """Compare and print.

    Raises:
        SystemExit: With status 1 if something is wrong with the files.
    """
    args = parse_args()
    pred = args.pred / 'panoptic.json' if args.pred.is_dir() else args.pred
    try:
        if args.out is not None:
            check_output_file(args.out, [args.gt, pred], '--out')
        effort = measure_labelling_effort(args.gt, pred, args.good_iou, args.nproc)
    except ValueError as error:
        raise SystemExit(f'nothing was measured. {error}') from error
    values = quality_values(effort.stat, effort.classes, effort.groups, classwise=False)
    pq = values.get('PQ', 0.0)
    print(effort.table())
    share = 100 * effort.num_touched / max(effort.num_segments, 1)
    print(
        f'{effort.num_images} images: PQ {pq:.2f}; {effort.num_touched} segments to '
        f'touch, {effort.num_segments} to draw without predictions ({share:.1f} %)'
    )
    if args.out is not None:
        totals = effort.counts.sum(axis=0).tolist()
        content = {
            'PQ': pq,
            'images': effort.num_images,
            'segments': effort.num_segments,
            'touched': effort.num_touched,
            **dict(zip(ACTIONS, totals, strict=True)),
        }
        write_json(args.out, content, indent=1)


if __name__ == '__main__':
    main()
