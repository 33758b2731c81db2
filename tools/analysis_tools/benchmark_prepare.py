# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Time of preparing Cityscapes, next to cityscapesscripts' createPanopticImgs.

Both read the same frames of a full-size toy_city and write the same files; that they
are the same is checked. Ours also reads the photographs to the end, to find damaged
ones, which the peer does not. Each contender has a process of its own. Frames are made
once in --data and used again.
"""

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarking import in_fresh_process, print_json
from PIL import Image

SIZE = (1024, 2048)
# most frames have 40 to 60 things
DENSITY = 10.0
SPLIT = 'train'


def prepare_ours(root: Path, out: Path, nproc: int) -> None:
    """Prepare the split with the converter of this project."""
    from mmdet_efficientps.datasets.prepare.cityscapes import prepare_cityscapes

    prepare_cityscapes(root, out, [SPLIT], nproc)


def prepare_cityscapesscripts(root: Path, out: Path, nproc: int) -> None:
    """Prepare the split with cityscapesscripts, which has one process only."""
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

    (out / 'gtFine').mkdir(parents=True)
    convert2panoptic(str(root / 'gtFine'), str(out / 'gtFine'), setNames=[SPLIT])


CONTENDERS = {
    'ours': prepare_ours,
    'ours_1_process': prepare_ours,
    'cityscapesscripts': prepare_cityscapesscripts,
}


def measure(name: str, root: Path, out: Path, nproc: int, frames: int) -> dict:
    """Run one contender; meant for a fresh process.

    Args:
        name: Key of ``CONTENDERS``.
        root: Folder of the data set.
        out: Folder to write to.
        nproc: Number of processes.
        frames: Number of frames there are.

    Returns:
        ``name``, ``nproc``, ``median_s`` (wall-clock seconds per image of the one
        run), ``total_s`` and ``cpu_s`` (processor seconds per image of all processes).
    """
    shutil.rmtree(out, ignore_errors=True)
    # An empty folder first: imports are not part of the work.
    with (
        open(os.devnull, 'w') as null,
        contextlib.redirect_stdout(null),
        contextlib.redirect_stderr(null),
    ):
        with contextlib.suppress(SystemExit, FileNotFoundError):
            CONTENDERS[name](out / 'none', out / 'nowhere', nproc)
        shutil.rmtree(out, ignore_errors=True)
        before, start = os.times(), time.perf_counter()
        CONTENDERS[name](root, out, nproc)
    seconds, after = time.perf_counter() - start, os.times()
    processor = sum(after[:4]) - sum(before[:4])
    return {
        'name': name,
        'nproc': nproc,
        'median_s': round(seconds / frames, 5),
        'total_s': round(seconds, 2),
        'cpu_s': round(processor / frames, 5),
    }


def outputs_are_equal(ours: Path, theirs: Path) -> bool:
    """Compare PNGs pixel for pixel and jsons field for field, but for image names."""
    name = f'gtFine/cityscapes_panoptic_{SPLIT}'
    contents = []
    for out in (ours, theirs):
        content = json.loads((out / f'{name}.json').read_text())
        for image in content['images']:
            del image['file_name']
        contents.append(content)
    pngs = [annotation['file_name'] for annotation in contents[0]['annotations']]
    return contents[0] == contents[1] and all(
        np.array_equal(*(Image.open(out / name / png) for out in (ours, theirs)))
        for png in pngs
    )


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--frames', type=int, default=100)
    parser.add_argument(
        '--data',
        type=Path,
        default=Path('data/toy_city_full'),
        help='folder of the frames, made if it is missing',
    )
    parser.add_argument(
        '--nproc', type=int, default=os.cpu_count(), help='processes of ours'
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    return parser.parse_args()


def main() -> None:
    """Measure every contender on the same frames and report."""
    from mmdet_efficientps.testing.toy_city import write_toy_city

    args = parse_args()
    root = args.data / str(args.frames)
    write_toy_city(
        root,
        num_train=args.frames,
        num_val=1,
        size=SIZE,
        density=DENSITY,
        nproc=args.nproc,
    )
    results = []
    with tempfile.TemporaryDirectory() as folder:
        outs = {name: Path(folder) / name for name in CONTENDERS}
        for name, out in outs.items():
            nproc = args.nproc if name == 'ours' else 1
            results.append(
                in_fresh_process(measure, name, root, out, nproc, args.frames)
            )
        peer = outs['cityscapesscripts']
        equal = all(
            outputs_are_equal(outs[name], peer) for name in ('ours', 'ours_1_process')
        )
    if not equal:
        raise SystemExit('the outputs differ')
    if args.json:
        print_json(
            'prepare_cityscapes',
            results,
            1,
            frames=args.frames,
            height=SIZE[0],
            width=SIZE[1],
            outputs_equal=equal,
        )
    else:
        for result in results:
            print(
                f'{result["name"]:18s} {result["nproc"]} processes '
                f'{result["total_s"]:8.1f} s, {result["median_s"]:7.3f} s an image, '
                f'{result["cpu_s"]:7.3f} s of processor time'
            )


if __name__ == '__main__':
    main()
