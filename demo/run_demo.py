# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Train, test and draw: the whole way of EfficientPS on generated street scenes.

Makes the toy_city data set if it is missing, trains the small network on it, tests it
and leaves pictures. ``make demo`` runs this; it takes some ten minutes on two cores.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from mmdet_efficientps.visualization import plot_training_curves, read_scalars

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'


def run(*command: str) -> None:
    """Run a Python script of the project, showing the command first."""
    print('\n$ python', *command, flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def stack(pictures: list[Path], out_file: Path) -> None:
    """Put pictures of the same width below each other."""
    loaded = [cv2.imread(str(path)) for path in pictures]
    cv2.imwrite(str(out_file), np.concatenate(loaded))


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--work-dir', default='work_dirs/demo', help='folder for what the demo leaves'
    )
    args = parser.parse_args()
    work_dir = (ROOT / args.work_dir).resolve()
    start = time.time()

    run('tools/prepare_dataset.py', 'toy-city')
    run('tools/train.py', CONFIG, '--work-dir', str(work_dir))
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    pictures = work_dir / 'pictures'
    run(
        'tools/test.py',
        CONFIG,
        checkpoint,
        '--work-dir',
        str(work_dir / 'test'),
        '--show-dir',
        str(pictures),
    )

    scalars = max(work_dir.glob('*/vis_data/scalars.json'))
    plot_training_curves(read_scalars(scalars), work_dir / 'curves.png')
    scenes = sorted(pictures.rglob('*.png'))
    stack(scenes[:: max(len(scenes) // 4, 1)][:4], work_dir / 'overview.png')
    minutes = (time.time() - start) / 60
    print(
        f'\nDone in {minutes:.1f} minutes. The PQ table is above; look at\n'
        f'  {work_dir / "overview.png"}   four scenes side by side\n'
        f'  {pictures}/   all {len(scenes)} validation scenes\n'
        f'  {work_dir / "curves.png"}   losses and PQ over the training\n'
        f'  {checkpoint}   the trained network\n'
        'It predicts images of your own with\n'
        f'  python tools/predict.py IMAGES {checkpoint} --out results --overlay'
    )


if __name__ == '__main__':
    main()
