# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Make the panoptic ground truth of Cityscapes with cityscapesscripts.

SRC is the folder with leftImg8bit/ and gtFine/ as the two archives
leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip unpack.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

ARCHIVES = {
    'leftImg8bit': 'leftImg8bit_trainvaltest.zip',
    'gtFine': 'gtFine_trainvaltest.zip',
}
IMAGE_SUFFIX = '_leftImg8bit.png'
LABEL_SUFFIX = '_gtFine_instanceIds.png'
SHOWN_PROBLEMS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line arguments."""
    parser.add_argument('src', metavar='SRC', type=Path, help='folder of Cityscapes')
    parser.add_argument(
        '--splits',
        nargs='+',
        default=['train', 'val'],
        help='splits to prepare, by default train and val',
    )


def main(args: argparse.Namespace) -> None:
    """Prepare the data set.

    Raises:
        SystemExit: If files are missing; nothing is written then.
    """
    try:
        prepare_cityscapes(args.src, args.splits)
    except FileNotFoundError as error:
        raise SystemExit(f'error: {error}') from error


def prepare_cityscapes(root: Path, splits: Sequence[str] = ('train', 'val')) -> None:
    """Write ``gtFine/cityscapes_panoptic_<split>.json`` and the PNGs beside it.

    A split whose json is newer than its labels is left as it is.

    Args:
        root (Path): Folder with leftImg8bit/ and gtFine/.
        splits (Sequence[str]): Names of the splits.

    Raises:
        FileNotFoundError: If a folder, a label or an image is missing.
    """
    for split in splits:
        labels = _check_split(root, split)
        name = f'cityscapes_panoptic_{split}'
        target = root / 'gtFine' / f'{name}.json'
        newest = max(path.stat().st_mtime for path in labels)
        is_made = target.is_file() and target.with_suffix('').is_dir()
        if is_made and target.stat().st_mtime >= newest:
            print(f'{target} is up to date')
            continue
        # Made in a folder of its own and moved at the end: a run that is stopped
        # leaves no half-made ground truth behind.
        unfinished = root / 'gtFine' / f'{name}.unfinished'
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        convert2panoptic(
            cityscapesPath=str(root / 'gtFine'),
            outputFolder=str(unfinished),
            setNames=[split],
        )
        print()
        target.unlink(missing_ok=True)
        shutil.rmtree(root / 'gtFine' / name, ignore_errors=True)
        os.replace(unfinished / name, root / 'gtFine' / name)
        os.replace(unfinished / f'{name}.json', target)
        unfinished.rmdir()


def _check_split(root: Path, split: str) -> list[Path]:
    """Check the files of a split; returns its instance label files."""
    for folder, archive in ARCHIVES.items():
        path = root / folder / split
        if not path.is_dir():
            raise FileNotFoundError(
                f'{path} does not exist: unpack {archive} from the Cityscapes download '
                f'page into {root}'
            )
    labels = sorted((root / 'gtFine' / split).glob(f'*/*{LABEL_SUFFIX}'))
    if not labels:
        raise FileNotFoundError(
            f'{root / "gtFine" / split} has no <city>/*{LABEL_SUFFIX}: unpack '
            f'{ARCHIVES["gtFine"]} again'
        )
    images = root / 'leftImg8bit' / split
    missing = [
        image
        for label in labels
        if not (
            image := images
            / label.parent.name
            / label.name.replace(LABEL_SUFFIX, IMAGE_SUFFIX)
        ).is_file()
    ]
    if missing:
        shown = ', '.join(str(path) for path in missing[:SHOWN_PROBLEMS])
        raise FileNotFoundError(
            f'{len(missing)} of {len(labels)} images of split {split} are missing, '
            f'unpack {ARCHIVES["leftImg8bit"]} again: {shown}'
            f'{", ..." if len(missing) > SHOWN_PROBLEMS else ""}'
        )
    return labels
