# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Prepare a data set: ``python tools/prepare_dataset.py KIND ...``."""

import argparse
import inspect
import io
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from mmdet_efficientps.datasets import prepare
from mmdet_efficientps.datasets.prepare import ConversionReport
from mmdet_efficientps.datasets.prepare.idd import LABEL_SIZE
from mmdet_efficientps.datasets.prepare.vistas import PANOPTIC_JSON
from mmdet_efficientps.testing import toy_city
from mmdet_efficientps.utils import ProblemList, num_processors


def with_class_lists(run: Callable[..., list[ConversionReport]]) -> Callable:
    """Let the classes come from options or from a file.

    Args:
        run: Converts labels; takes things, stuff and ignore.

    Returns:
        The same with the argument ``classes``, a file that has the three lists. Raises
        a ValueError if there are both.
    """

    def _run(
        classes: Path | None, things: list, stuff: list, ignore: list, **options: Any
    ) -> list[ConversionReport]:
        lists = {'things': things, 'stuff': stuff, 'ignore': ignore}
        if classes:
            if any(lists.values()):
                raise ValueError(
                    'give --classes or --things, --stuff, --ignore, not both'
                )
            lists = prepare.read_class_lists(classes)
        return run(**lists, **options)

    return _run


def class_name(text: str) -> str | dict[str, list[str]]:
    """Take a class of --things or --stuff: NAME, or NAME=LABEL,LABEL to join labels."""
    name, is_joined, labels = text.partition('=')
    return {name: labels.split(',')} if is_joined else text


def add_kind(
    kinds: argparse._SubParsersAction, name: str, run: Callable, described: object
) -> argparse.ArgumentParser:
    """Add a kind of source.

    Args:
        kinds: Where to add it.
        name: Its name.
        run: Prepares it; gets the options as arguments.
        described: What has the description as docstring.

    Returns:
        Parser to add its options to.
    """
    text = inspect.getdoc(described) or ''
    parser = kinds.add_parser(
        name,
        help=text.splitlines()[0],
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--nproc', type=int, default=num_processors(), help='number of processes'
    )
    parser.set_defaults(run=run)
    return parser


# What each kind of labels is given, beside --out and the classes.
LABELS = Path, 'labels'
IMAGE_DIR = Path, 'folder of the images'
ARCHIVE = Path, 'the unpacked archive'
LABEL_KINDS = {
    'coco-polygons': {'src_json': LABELS, 'image_dir': IMAGE_DIR},
    'coco-panoptic': {
        'src_json': LABELS,
        'image_dir': IMAGE_DIR,
        '--png-dir': (Path, 'folder of the PNGs, by default SRC without .json'),
        '--num': (int, 'take that many images, spread over the json'),
        '--without': (Path, 'panoptic json whose images are left out'),
    },
    'cvat-masks': {
        'src': ARCHIVE,
        '--images': (Path, 'folder of the images, by default that of the archive'),
    },
    'cvat-cityscapes': {
        'src': ARCHIVE,
        '--images': (Path, 'folder of the images, by default that of the archive'),
        '--subset': (str, 'which subset, if there are several'),
    },
    'labelme': {
        'src': (Path, 'folder of the jsons'),
        '--images': (Path, 'folder of the images, by default that of the jsons'),
    },
    'label-studio': {'src_json': LABELS, 'image_dir': IMAGE_DIR},
    'yolo': {
        'data': (Path, 'data.yaml'),
        '--split': (str, 'which split of it, by default train'),
    },
    'mask-pairs': {
        'class_dir': (Path, 'folder of the PNGs of classes'),
        'image_dir': IMAGE_DIR,
        '--objects': (Path, 'folder of the PNGs of objects'),
        '--labels': (Path, 'file that says which value is which class'),
    },
}
DESTINATIONS = {'--images': 'image_dir', '--objects': 'object_dir'}


def add_labels(kinds: argparse._SubParsersAction) -> None:
    """Add the kinds of labels of one's own: each writes one json.

    Args:
        kinds: Where to add them.
    """
    for name, arguments in LABEL_KINDS.items():
        run = getattr(prepare, f'prepare_{name.replace("-", "_")}')
        is_of_cvat = name.startswith('cvat')
        described = run if is_of_cvat else sys.modules[run.__module__]
        command = add_kind(kinds, name, with_class_lists(run), described)
        for argument, (kind, text) in arguments.items():
            options: dict[str, Any] = {'type': kind, 'help': text}
            if argument.startswith('--'):
                options['default'] = argparse.SUPPRESS
                options['required'] = argument == '--labels'
                if argument in DESTINATIONS:
                    options['dest'] = DESTINATIONS[argument]
                options['metavar'] = argument[2:].upper()
            command.add_argument(argument, **options)
        command.add_argument(
            '--out',
            type=Path,
            required=True,
            metavar='NAME.json',
            help='panoptic json to write; the PNGs go into the folder NAME beside it',
        )
        for key, kind, text in (
            ('things', class_name, 'thing classes; NAME=LABEL,LABEL joins labels'),
            ('stuff', class_name, 'stuff classes, likewise'),
            ('ignore', str, 'labels not to draw; what only they cover is void'),
        ):
            command.add_argument(
                f'--{key}', nargs='+', type=kind, metavar='NAME', default=[], help=text
            )
        command.add_argument(
            '--classes',
            type=Path,
            help='YAML file with the lists things, stuff and optionally ignore, '
            'instead of the options of these names',
        )


def parse_args() -> argparse.Namespace:
    """Parse the command line.

    Returns:
        ``run`` and the arguments to call it with.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
    downloads = {}
    for name in ('cityscapes', 'kitti', 'vistas', 'idd'):
        run = getattr(prepare, f'prepare_{name}')
        command = add_kind(kinds, name, run, getattr(prepare, name))
        command.add_argument('src', metavar='SRC', type=Path, help='the download')
        command.add_argument(
            '--out',
            type=Path,
            metavar='DST',
            help='folder to write to, by default SRC; the images are linked into it',
        )
        downloads[name] = command
    downloads['cityscapes'].add_argument(
        '--splits',
        nargs='+',
        default=['train', 'val'],
        help='splits to prepare, by default train and val',
    )
    downloads['vistas'].add_argument(
        '--versions',
        nargs='+',
        choices=PANOPTIC_JSON,
        default=[],
        help='versions of the labels, by default those of the download',
    )
    downloads['idd'].add_argument(
        '--size',
        type=int,
        nargs=2,
        default=LABEL_SIZE,
        metavar=('WIDTH', 'HEIGHT'),
        help='size of the ground truth in pixels, by default 1280 720 as in the '
        'official evaluation',
    )

    add_labels(kinds)

    command = add_kind(kinds, 'toy-city', toy_city.prepare_toy_city, toy_city)
    for option, kind, default, text in (
        ('--out', Path, Path('data/toy_city'), 'folder to write'),
        ('--num-train', int, 240, 'number of training scenes'),
        ('--num-val', int, 40, 'number of validation scenes'),
        ('--density', float, 1.0, 'relative number of things'),
        ('--seed', int, 0, 'seed of the data set'),
    ):
        command.add_argument(option, type=kind, default=default, help=text)
    command.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(256, 512),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels',
    )
    command.add_argument(
        '--overwrite', action='store_true', help='make everything again'
    )
    return parser.parse_args()


def main() -> None:
    """Prepare what the command line names and print tables and problems.

    Raises:
        SystemExit: With a message if the data set cannot be prepared, with status 1
            if parts of it could not.
    """
    options = vars(parse_args())
    run = options.pop('run')
    kind = options.pop('kind')
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may be bytes that are no text.
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        reports = run(**options)
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    except BrokenProcessPool as error:
        raise SystemExit(
            'error: one of the processes was killed, most likely for want of memory; '
            'the same command with a smaller --nproc goes on where this one ended'
        ) from error
    problems = ProblemList()
    for report in reports:
        print(report.summary())
        problems.extend(report.problems)
    if problems:
        print(problems.summary())
        raise SystemExit(1)
    if kind == 'toy-city':
        print(f'toy_city is ready: {options["out"]}')


if __name__ == '__main__':
    main()
