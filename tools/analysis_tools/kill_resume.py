# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Kill a training again and again, resume it, and compare it with one left alone.

``python tools/analysis_tools/kill_resume.py --kills 20`` trains the small network on
generated scenes twice. One training is ended by SIGKILL at random moments, every third
time while a checkpoint is being written, and resumed by ``tools/train.py --resume``
until it is done. Then the losses of every iteration and the final weights must be the
same to the bit. Exit status 0 if they are, 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmdet_efficientps.testing.toy_city import prepare_toy_city
from mmdet_efficientps.utils.checkpoint_loading import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / 'configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'
# Images of 128x64 pixels, batches of 2, the backbone from random weights.
CONFIG = """
_base_ = {base!r}
data_root = {data_root!r}
randomness = dict(seed=0)
norm = dict(momentum=0.5)
model = dict(backbone=dict(init_cfg=None, norm_eval=False, frozen_stages=0))
param_scheduler = [dict(type='LinearLR', by_epoch=False, end={iters})]
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval={interval}, max_keep_ckpts=2)
)
custom_hooks = [*_base_.custom_hooks, dict(type='LossRecordHook')]
_base_.train_pipeline[2].scale = (128, 64)
_base_.train_pipeline[2].crop_size = (96, 64)
loader = dict(num_workers={workers}, persistent_workers={workers} > 0)
train_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=_base_.train_pipeline), **loader
)
val_dataloader, val_evaluator, val_cfg = None, None, None
train_cfg = dict(max_iters={iters})
"""


class Training:
    """A training that may be killed.

    Args:
        config (Path): Its config.
        work_dir (Path): Its work folder.
    """

    def __init__(self, config: Path, work_dir: Path) -> None:
        self.config = config
        self.work_dir = work_dir

    def start(self, *options: str) -> subprocess.Popen:
        """Start it in a process of its own.

        Args:
            *options (str): Further arguments of tools/train.py.

        Returns:
            subprocess.Popen: The process; what it prints goes into train.log.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        with (self.work_dir / 'train.log').open('a') as log:
            return subprocess.Popen(
                [
                    *(sys.executable, str(ROOT / 'tools/train.py'), str(self.config)),
                    *('--work-dir', str(self.work_dir), *options),
                ],
                # One thread: several add up in an order of their own.
                env=os.environ | {'OMP_NUM_THREADS': '1'},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def finish(self, *options: str) -> None:
        """Run it to its end.

        Args:
            *options (str): Further arguments of tools/train.py.

        Raises:
            RuntimeError: If it fails.
        """
        if self.start(*options).wait():
            raise RuntimeError(
                f'the training failed: see the end of {self.work_dir / "train.log"}'
            )

    def losses(self) -> list[dict]:
        """Losses of every iteration that has run, in the order they ran."""
        file = self.work_dir / 'losses.jsonl'
        # The last line of a run that was killed may be cut off.
        lines = file.read_text().splitlines() if file.is_file() else []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def is_writing(self) -> bool:
        """Whether a checkpoint is being written."""
        return any(self.work_dir.glob('.*.tmp.pth'))


def kill_one(training: Training, interval: int, in_write: bool) -> bool:
    """Resume a training and kill it.

    Args:
        training (Training): The training.
        interval (int): Iterations between checkpoints.
        in_write (bool): Kill it while a checkpoint is being written.

    Returns:
        bool: Whether a checkpoint was being written.

    Raises:
        RuntimeError: If it ends by itself before.
    """
    done = len(training.losses())
    wanted = random.randint(0, 2 * interval - 1)
    process = training.start('--resume')
    while process.poll() is None:
        if in_write:
            if training.is_writing():
                break
        elif len(training.losses()) >= done + wanted:
            # Anywhere within an iteration, or in the start of the program.
            time.sleep(random.uniform(0, 0.2 if wanted else 8))
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError(
            f'the training ended by itself with exit status {process.returncode}: see '
            f'the end of {training.work_dir / "train.log"}'
        )
    return training.is_writing()


def differences(killed: Training, alone: Training, iters: int) -> list[str]:
    """List where two trainings differ.

    Args:
        killed (Training): The one that was resumed.
        alone (Training): The other.
        iters (int): Iterations of both.

    Returns:
        list[str]: Iterations and tensors.
    """
    expected = {record['iter']: record for record in alone.losses()}
    problems = [
        f'losses of iteration {record["iter"]}'
        for record in killed.losses()
        if record != expected[record['iter']]
    ]
    missing = expected.keys() - {record['iter'] for record in killed.losses()}
    problems += [f'iteration {number} is missing' for number in sorted(missing)]
    weights = [
        read_checkpoint(training.work_dir / f'iter_{iters}.pth')['state_dict']
        for training in (killed, alone)
    ]
    problems += [
        f'weights {name}'
        for name, value in weights[1].items()
        if not value.equal(weights[0][name])
    ]
    return problems


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=20, help='how often to kill it')
    parser.add_argument(
        '--interval', type=int, default=2, help='iterations between checkpoints'
    )
    parser.add_argument('--workers', type=int, default=0, help='workers of the loader')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/kill_resume'),
        help='an empty folder',
    )
    args = parser.parse_args()
    out = args.out.resolve()
    if out.is_dir() and any(out.iterdir()):
        raise SystemExit(f'{out} is not empty: take another --out, or remove it')
    random.seed(args.seed)
    prepare_toy_city(out / 'city', num_train=7, num_val=1, size=(64, 128))
    # Enough to be there for the last kill, wherever the others come.
    iters = (2 * args.interval + 2) * args.kills + args.interval
    config = out / 'small.py'
    config.write_text(
        CONFIG.format(
            base=str(BASE),
            data_root=f'{out / "city"}{os.sep}',
            iters=iters,
            interval=args.interval,
            workers=args.workers,
        )
    )
    alone = Training(config, out / 'alone')
    alone.finish()
    killed = Training(config, out / 'killed')
    in_write = 0
    for number in range(1, args.kills + 1):
        in_write += kill_one(killed, args.interval, number % 3 == 0)
        ran = [record['iter'] for record in killed.losses()]
        print(f'kill {number}: {max(ran, default=0)} of {iters} iterations', flush=True)
    killed.finish('--resume')
    problems = differences(killed, alone, iters)
    repeated = len(killed.losses()) - iters
    print(
        f'{args.kills} kills, {in_write} of them while a checkpoint was being written; '
        f'{iters} iterations, {repeated} of them run again'
    )
    if problems:
        print(f'{len(problems)} differences: ' + ', '.join(problems[:20]))
        raise SystemExit(1)
    print('losses of all iterations and final weights are equal to the bit')


if __name__ == '__main__':
    main()
