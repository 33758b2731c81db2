# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Measure archives: speed next to tools/predict.py, growth, memory, and kills.

``python tools/analysis_tools/benchmark_archive.py MODEL [CHECKPOINT] --images 2000``
generates street scenes and, by the commands that a user gives,

1. predicts a quarter, a half and all of them with tools/predict.py and with
   tools/predict_archive.py, each from an empty folder. What lies between two of them
   is images per second without the start of the programs;
2. predicts all of them once more while workers are killed at random moments
   (``--worker-kills``), and the command itself is (``--command-kills``) and is given
   again. Then every image must have one row, equal to that of the run left alone, and
   one more call must add none.

Memory is the largest resident size of one worker and of the command, over the run.
Exit status 1 if rows are missing, double or different.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from benchmarking import MB, parse_size, print_json
from mmcv import imread, imwrite

from mmdet_efficientps.apis.archive import Archive
from mmdet_efficientps.testing.toy_city import write_toy_city
from mmdet_efficientps.utils import num_processors

TOOLS = Path(__file__).resolve().parents[1]
# What Ray calls the process of a worker that predicts.
WORKER = '_Worker'
LONGEST_END = 60.0
# How many scenes are drawn, and by how many pixels they are moved for more images.
MOST_SCENES = 100
STEP = 8


@dataclass
class Run:
    """A command in a process of its own.

    Args:
        command (list[str]): Its words, after the name of Python.
        log (Path): What it prints goes there.

    Attributes:
        seconds (float): From its start to its end.
        peak_mb (dict[str, float]): Largest resident memory of one process by its kind.
    """

    command: list[str]
    log: Path
    seconds: float = 0.0
    peak_mb: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start it."""
        with self.log.open('a') as log:
            self.process = psutil.Popen(
                [sys.executable, *self.command], stdout=log, stderr=subprocess.STDOUT
            )
        self._start = time.perf_counter()

    def workers(self) -> list[psutil.Process]:
        """Processes that predict; some may have ended."""
        return [p for p in self._children() if WORKER in _name(p)]

    def watch(self) -> bool:
        """Note how much memory it has; whether it runs."""
        for kind, processes in (
            ('command', [self.process]),
            ('worker', self.workers()),
        ):
            for process in processes:
                try:
                    size = process.memory_info().rss / MB
                except psutil.Error:
                    continue
                self.peak_mb[kind] = max(self.peak_mb.get(kind, 0.0), size)
        return self.process.poll() is None

    def finish(self) -> None:
        """Wait until it ends.

        Raises:
            RuntimeError: If it fails.
        """
        while self.watch():
            time.sleep(0.2)
        self.seconds = time.perf_counter() - self._start
        if self.process.returncode:
            raise RuntimeError(f'{self.command[0]} failed: see the end of {self.log}')

    def kill(self) -> float:
        """Kill the command, as a system does that is short of memory.

        Returns:
            float: Seconds until the last process that it had started has ended.
        """
        children = self._children()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        start = time.perf_counter()
        _, left = psutil.wait_procs(children, timeout=LONGEST_END)
        for process in left:
            process.kill()
        return time.perf_counter() - start

    def _children(self) -> list[psutil.Process]:
        try:
            return self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _name(process: psutil.Process) -> str:
    """Give the command line of a process; '' if it has ended."""
    try:
        return ' '.join(process.cmdline())
    except psutil.Error:
        return ''


def write_images(out: Path, num_images: int, size: tuple[int, int]) -> dict[int, Path]:
    """Generate images, and folders of a quarter, a half and all of them.

    To draw a scene takes longer than to predict it, so that scenes are used again,
    moved to the side.

    Args:
        out (Path): Folder for all of it.
        num_images (int): How many images.
        size (tuple[int, int]): Their height and width.

    Returns:
        dict[int, Path]: Folder by the number of images in it.
    """
    write_toy_city(
        out / 'city',
        num_train=min(num_images, MOST_SCENES),
        num_val=1,
        size=size,
        nproc=num_processors(),
    )
    scenes = [
        imread(str(path))
        for path in sorted((out / 'city/leftImg8bit/train').rglob('*.png'))
    ]
    counts = sorted({num_images // 4, num_images // 2, num_images})
    folders = {count: out / f'images-{count}' for count in counts}
    for folder in folders.values():
        folder.mkdir()
    for number in range(num_images):
        image = folders[num_images] / f'{number:06d}.png'
        times, scene = divmod(number, len(scenes))
        imwrite(np.roll(scenes[scene], times * STEP, axis=1), str(image))
        for count, folder in folders.items():
            if number < count < num_images:
                (folder / image.name).hardlink_to(image)
    return folders


def rows_of(folder: Path) -> dict[str, list[tuple]]:
    """Read all rows of an archive: what was predicted, by the path of the image."""
    archive = Archive(folder)
    rows: dict[str, list[tuple]] = {}
    for model in archive.models():
        for row in archive.rows(model, ['path', 'segments', 'png', 'error']):
            content = (row['segments'], row['png'], row['error'])
            rows.setdefault(row['path'], []).append(content)
    return rows


def differences(killed: Path, alone: Path) -> list[str]:
    """List where two archives of the same images differ.

    Args:
        killed (Path): The one whose run was killed.
        alone (Path): The other.

    Returns:
        list[str]: Images that are missing, double or different.
    """
    found, expected = rows_of(killed), rows_of(alone)
    problems = [f'{path} is missing' for path in sorted(expected.keys() - found.keys())]
    for path, rows in sorted(found.items()):
        if len(rows) > 1:
            problems.append(f'{path} has {len(rows)} rows')
        if rows[0] != expected.get(path, [None])[0]:
            problems.append(f'{path} differs')
    return problems


def wait_for_files(run: Run, folder: Path, more: int) -> bool:
    """Wait until an archive has more files, and then for a moment of no meaning.

    Returns:
        bool: Whether the run is still there.
    """
    wanted = len(Archive(folder).files) + more
    while run.watch() and len(Archive(folder).files) < wanted:
        time.sleep(0.05)
    time.sleep(random.uniform(0, 2))
    return run.process.poll() is None


def kill_at_random(
    command: list[str], folder: Path, log: Path, worker_kills: int, command_kills: int
) -> dict:
    """Predict into an archive, kill workers and the command, and do it to the end.

    Args:
        command (list[str]): The command.
        folder (Path): The archive.
        log (Path): What it prints goes there.
        worker_kills (int): How often to kill a worker.
        command_kills (int): How often to kill the command, after that.

    Returns:
        dict: How many kills came in time, and how long the end of the rest took.
    """
    run = Run(command, log)
    run.start()
    workers, ends = 0, []
    for _ in range(worker_kills):
        if wait_for_files(run, folder, 1) and (there := run.workers()):
            random.choice(there).send_signal(signal.SIGKILL)
            workers += 1
    for _ in range(command_kills):
        if wait_for_files(run, folder, 1):
            ends.append(round(run.kill(), 1))
            run = Run(command, log)
            run.start()
    run.finish()
    return {
        'workers_killed': workers,
        'commands_killed': len(ends),
        'seconds_until_all_ended': ends,
    }


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', nargs='+', help='MODEL, or CONFIG and CHECKPOINT')
    parser.add_argument('--images', type=int, default=2000, help='how many (2000)')
    parser.add_argument(
        '--size', type=parse_size, default=(256, 512), help='of images (256x512)'
    )
    parser.add_argument('--workers', type=int, help='default: one for each CPU')
    parser.add_argument('--rows-per-file', type=int, default=64, help='default: 64')
    parser.add_argument('--worker-kills', type=int, default=3, help='default: 3')
    parser.add_argument('--command-kills', type=int, default=1, help='default: 1')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/benchmark_archive'),
        help='an empty folder',
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    return parser.parse_args()


def main() -> None:
    """Measure, kill, compare, report."""
    args = parse_args()
    out = args.out.resolve()
    if out.is_dir() and any(out.iterdir()):
        raise SystemExit(f'{out} is not empty: take another --out, or remove it')
    if args.images < 4 * args.rows_per_file:
        raise SystemExit('--images must be four times --rows-per-file, or more')
    random.seed(args.seed)
    out.mkdir(parents=True, exist_ok=True)
    folders = write_images(out, args.images, args.size)
    options = {
        'predict': [],
        'predict_archive': ['--rows-per-file', str(args.rows_per_file)],
    }
    if args.workers is not None:
        options['predict_archive'] += ['--workers', str(args.workers)]

    def command(tool: str, images: Path, results: Path) -> list[str]:
        words = [str(TOOLS / f'{tool}.py'), str(images), *args.model]
        return [*words, '--out', str(results), *options[tool]]

    results = []
    for tool in options:
        runs = {}
        for count, folder in folders.items():
            target = out / f'{tool}-{count}'
            runs[count] = Run(command(tool, folder, target), out / f'{tool}.log')
            runs[count].start()
            runs[count].finish()
            if count < args.images:
                shutil.rmtree(target)
        quarter, half, all_ = folders
        seconds = {count: run.seconds for count, run in runs.items()}
        results.append(
            {
                'name': tool,
                'seconds': {count: round(value, 2) for count, value in seconds.items()},
                'images_per_s': round(
                    (all_ - quarter) / (seconds[all_] - seconds[quarter]), 3
                ),
                # 1 if an image takes as long among many as among few
                'growth': round(
                    (seconds[all_] - seconds[half])
                    / (all_ - half)
                    / ((seconds[half] - seconds[quarter]) / (half - quarter)),
                    3,
                ),
                'peak_mb': {
                    kind: {
                        n: round(run.peak_mb.get(kind, 0)) for n, run in runs.items()
                    }
                    for kind in ('command', 'worker')
                },
            }
        )
    killed, alone = out / 'killed', out / f'predict_archive-{args.images}'
    words = command('predict_archive', folders[args.images], killed)
    # The row has the path of the image: both are of the same folder.
    kills = kill_at_random(
        words, killed, out / 'killed.log', args.worker_kills, args.command_kills
    )
    before = {path: path.stat().st_mtime_ns for path in Archive(killed).files}
    again = Run(words, out / 'again.log')
    again.start()
    again.finish()
    problems = differences(killed, alone)
    if before != {path: path.stat().st_mtime_ns for path in Archive(killed).files}:
        problems.append('a call after the last has added something')
    ratio = round(results[1]['images_per_s'] / results[0]['images_per_s'], 3)
    if args.json:
        print_json(
            'archive',
            results,
            num_processors(),
            images=args.images,
            size=args.size,
            speed_over_predict=ratio,
            kills=kills,
            differences=len(problems),
        )
    else:
        for result in results:
            print(json.dumps(result))
        print(f'predict_archive.py has {ratio} times the images/s of predict.py')
        print(f'{kills}: {len(problems)} rows missing, double or different')
    if problems:
        print(*problems[:20], sep='\n', file=sys.stderr)
        raise SystemExit(1)


if __name__ == '__main__':
    main()
