# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Prepare a data set: ``python tools/prepare_dataset.py KIND ...``."""

import argparse
import inspect

from dataset_converters import cityscapes, coco_polygons, toy_city

CONVERTERS = {
    'cityscapes': cityscapes,
    'coco-polygons': coco_polygons,
    'toy-city': toy_city,
}


def main() -> None:
    """Run the converter named on the command line."""
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
        module.add_arguments(command)
        command.set_defaults(run=module.main)
    args = parser.parse_args()
    args.run(args)


if __name__ == '__main__':
    main()
