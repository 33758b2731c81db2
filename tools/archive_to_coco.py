# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Turn an archive into COCO's format: ``archive_to_coco.py ARCHIVE --out DIR``.

ARCHIVE is what tools/predict_archive.py has written. The result is that of
tools/predict.py: panoptic.json, and PNGs in panoptic/. Exit status: 1 if images have no
prediction, which are listed, 2 for a wrong command.
"""

import argparse

from mmdet_efficientps.apis.archive_coco import archive_to_coco


def main() -> None:
    """Convert, and list the images that have no prediction.

    Raises:
        SystemExit: If there are any, or nothing can be done, with words.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('archive', help='folder of the archive')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder for the files'
    )
    parser.add_argument(
        '--model',
        metavar='HASH',
        help='network whose rows to take, if there are several: the start is enough',
    )
    parser.add_argument(
        '--root',
        metavar='DIR',
        help='what names of images are relative to; default: what they have in common',
    )
    args = parser.parse_args()
    try:
        problems = archive_to_coco(args.archive, args.out, args.model, args.root)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    if problems:
        print(problems.summary())
        raise SystemExit(1)
    print(f'Predictions are in {args.out}')


if __name__ == '__main__':
    main()
