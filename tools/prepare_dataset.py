# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Prepare a data set: ``python tools/prepare_dataset.py KIND ...``."""

import argparse
import inspect
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from mmdet_efficientps.datasets.prepare import (
    cityscapes,
    coco_polygons,
    idd,
    kitti,
    vistas,
)
from mmdet_efficientps.testing.toy_city import command as toy_city

CONVERTERS = {
    'cityscapes': cityscapes,
    'kitti': kitti,
    'vistas': vistas,
    'idd': idd,
    'coco-polygons': coco_polygons,
    'toy-city': toy_city,
}
# These say themselves where they read and write.
WITHOUT_SOURCE_FOLDER = ('coco-polygons', 'toy-city')


def main() -> None:
    """Run the converter named on the command line.

    Raises:
        SystemExit: With a message if the data set cannot be prepared, with status 1
            if parts of it could not.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
    for name, module in CONVERTERS.items():
        description = inspect.getdoc(module)
        command = kinds.add_parser(
            name,
            help=description.splitlines()[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name not in WITHOUT_SOURCE_FOLDER:
            command.add_argument(
                'src', metavar='SRC', type=Path, help='folder of the download'
            )
            command.add_argument(
                '--out',
                type=Path,
                metavar='DST',
                help='folder to write to, by default SRC; the images are linked into '
                'it',
            )
        module.add_arguments(command)
        command.add_argument(
            '--nproc', type=int, default=os.cpu_count(), help='number of processes'
        )
        command.set_defaults(run=module.main)
    args = parser.parse_args()
    try:
        args.run(args)
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    except BrokenProcessPool as error:
        raise SystemExit(
            'error: one of the processes was killed, most likely for want of memory; '
            'the same command with a smaller --nproc goes on where this one ended'
        ) from error


if __name__ == '__main__':
    main()
