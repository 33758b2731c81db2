# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Train and test a list of configs under one fixed budget, and compare them.

Every config is trained for the same number of iterations with every seed and tested
on its validation set; its learning rate schedule is squeezed or stretched to that
budget. Configs that differ only in the panoptic fusion, which has no parameters, share
one training per seed. A finished run is not repeated when the command is given again;
delete its folder after a change of the code or the data, which a config does not show.

Writes to the output folder::

    ablations.md     table: mean and standard deviation over the seeds, and the
                     difference to the first config, taken seed by seed
    ablations.png    bar plot of the same
    ablations.json   every single result
    <config>/seed<N> logs, config and metrics of the runs

Example::

    python tools/analysis_tools/run_ablations.py \
        configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py \
        configs/ablations/toy_city/*.py --max-iters 380 --seeds 0 1 2
"""

import argparse
import copy
import hashlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from matplotlib.figure import Figure
from mmengine.config import Config, ConfigDict, DictAction

from mmdet_efficientps import load_config
from mmdet_efficientps.utils import atomic_path

ROOT = Path(__file__).parents[2]
DEFAULT_METRICS = ['panoptic/PQ', 'panoptic/PQ_th', 'panoptic/PQ_st']


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'configs',
        nargs='+',
        metavar='CONFIG',
        help='config files, or names of configs of the package; the first is what '
        'the others are compared with',
    )
    parser.add_argument(
        '--max-iters', type=int, required=True, help='iterations of every training'
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='default: 0')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/ablations'),
        help='output folder, default: work_dirs/ablations',
    )
    parser.add_argument(
        '--metrics',
        nargs='+',
        default=DEFAULT_METRICS,
        help=f'columns of the table, default: {" ".join(DEFAULT_METRICS)}',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override fields of every config: a.b=1 c="[1,2]"',
    )
    args = parser.parse_args()
    if args.max_iters < 1:
        parser.error(f'--max-iters must be at least 1, got {args.max_iters}')
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f'--seeds {" ".join(map(str, args.seeds))}: one is given twice')
    return args


def fit_to_budget(cfg: Config, max_iters: int, seed: int) -> Config:
    """Set the length of the training and its seed.

    Args:
        cfg (Config): Config of a training by iterations; it stays as it is.
        max_iters (int): Number of iterations.
        seed (int): Seed of the run.

    Returns:
        Config: A config whose schedule, warm-up included, has the same shape over
        ``max_iters`` iterations, with one checkpoint and no validation.

    Raises:
        ValueError: If the config trains by epochs.
    """
    cfg = copy.deepcopy(cfg)
    if cfg.train_cfg.get('max_iters') is None or any(
        s.get('by_epoch', True) for s in cfg.param_scheduler
    ):
        raise ValueError(
            f'{cfg.filename} trains by epochs; set train_cfg to an IterBasedTrainLoop '
            'and by_epoch=False in every param_scheduler'
        )
    factor = max_iters / cfg.train_cfg.max_iters
    for scheduler in cfg.param_scheduler:
        for key in ('begin', 'end', 'T_max', 'total_iters', 'step_size'):
            if scheduler.get(key) is not None:
                scheduler[key] = round(factor * scheduler[key])
        # A part of the schedule lasts one iteration at least.
        if scheduler.get('end') is not None:
            scheduler.end = max(scheduler.end, scheduler.get('begin', 0) + 1)
        for key in ('T_max', 'total_iters', 'step_size'):
            if scheduler.get(key) is not None:
                scheduler[key] = max(scheduler[key], 1)
        if 'milestones' in scheduler:
            scheduler.milestones = [round(factor * m) for m in scheduler.milestones]
    cfg.train_cfg.max_iters = max_iters
    cfg.train_cfg.val_interval = max_iters + 1
    # MMEngine validates after the last iteration too, where the test repeats it.
    cfg.train_cfg.val_begin = max_iters + 1
    cfg.default_hooks.checkpoint.interval = max_iters
    cfg.default_hooks.checkpoint.save_best = None
    cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    return cfg


def fingerprint(cfg: Config) -> str:
    """Hash everything a config says.

    Args:
        cfg (Config): The config.

    Returns:
        str: Hexadecimal digest.
    """
    return hashlib.sha256(
        json.dumps(cfg.to_dict(), sort_keys=True, default=str).encode()
    ).hexdigest()


def training_fingerprint(cfg: Config) -> str:
    """Hash what a config says about the training alone.

    Args:
        cfg (Config): The config.

    Returns:
        str: Hexadecimal digest, equal for configs that train the same weights:
        those which differ in nothing but the panoptic fusion and the evaluation.
    """
    content = ConfigDict(copy.deepcopy(cfg.to_dict()))
    content.model.pop('panoptic_fusion_head', None)
    content.model.get('test_cfg', {}).pop('panoptic', None)
    for key in (
        'val_dataloader',
        'test_dataloader',
        'val_evaluator',
        'test_evaluator',
        'test_pipeline',
    ):
        content.pop(key, None)
    return hashlib.sha256(
        json.dumps(content.to_dict(), sort_keys=True, default=str).encode()
    ).hexdigest()


def run_tool(script: str, *arguments: str | Path, log: Path) -> None:
    """Run a script of ``tools/`` and keep what it prints.

    Args:
        script (str): Name of the script.
        *arguments (str | Path): Its arguments.
        log (Path): File for its output.

    Raises:
        SystemExit: If it fails, with the end of its output.
    """
    command = [sys.executable, ROOT / 'tools' / script, *arguments]
    # The working folder stays the user's: data paths of the config are relative to it.
    with log.open('w') as stream:
        process = subprocess.run(
            [str(part) for part in command],
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    if process.returncode:
        tail = log.read_text(errors='replace').splitlines()[-15:]
        raise SystemExit('\n'.join([*tail, f'{script} failed, see {log}']))


def train(cfg: Config, folder: Path, checkpoints: dict[str, Path]) -> Path:
    """Train a config, or find the weights of a training that is equal to it.

    Args:
        cfg (Config): The config.
        folder (Path): Folder of the run.
        checkpoints (dict[str, Path]): Checkpoint of every training so far by
            :func:`training_fingerprint`; the new one is added.

    Returns:
        Path: The checkpoint.
    """
    key = training_fingerprint(cfg)
    if key not in checkpoints:
        last = folder / 'train' / f'iter_{cfg.train_cfg.max_iters}.pth'
        done = folder / 'trained.json'
        if not (done.exists() and json.loads(done.read_text())['key'] == key):
            folder.mkdir(parents=True, exist_ok=True)
            cfg.dump(str(folder / 'config.py'))
            start = time.perf_counter()
            run_tool(
                'train.py',
                *(folder / 'config.py', '--work-dir', folder / 'train'),
                log=folder / 'train.log',
            )
            record = {'key': key, 'train_s': round(time.perf_counter() - start, 1)}
            with atomic_path(done) as temporary:
                temporary.write_text(json.dumps(record))
        checkpoints[key] = last
    return checkpoints[key]


def test(cfg: Config, folder: Path, checkpoint: Path) -> dict[str, float]:
    """Test weights with a config, unless that has been done.

    Args:
        cfg (Config): The config.
        folder (Path): Folder of the run.
        checkpoint (Path): The weights.

    Returns:
        dict[str, float]: All metrics of the test.
    """
    done = folder / 'metrics.json'
    key = hashlib.sha256(
        f'{fingerprint(cfg)} {checkpoint.stat().st_mtime_ns}'.encode()
    ).hexdigest()
    if done.exists():
        record = json.loads(done.read_text())
        if record['key'] == key:
            return record['metrics']
    folder.mkdir(parents=True, exist_ok=True)
    cfg.dump(str(folder / 'config.py'))
    run_tool(
        'test.py',
        *(folder / 'config.py', checkpoint, '--work-dir', folder / 'test'),
        log=folder / 'test.log',
    )
    metrics = json.loads(max((folder / 'test').glob('*/*.json')).read_text())
    with atomic_path(done) as temporary:
        temporary.write_text(json.dumps({'key': key, 'metrics': metrics}, indent=1))
    return metrics


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation.

    Args:
        values (list[float]): At least one value.

    Returns:
        tuple[float, float]: Mean and standard deviation, the latter nan for one
        value, which says nothing about the spread.
    """
    spread = statistics.stdev(values) if len(values) > 1 else float('nan')
    return statistics.fmean(values), spread


def short_names(metrics: list[str]) -> list[str]:
    """Leave out the prefixes of metrics where the rest says which one it is.

    Args:
        metrics (list[str]): Such as 'panoptic/PQ' or 'semantic/car/truck_IoU'.

    Returns:
        list[str]: Headings, all different if the metrics are.
    """
    short = [metric.partition('/')[2] or metric for metric in metrics]
    return [
        name if short.count(name) == 1 else metric
        for name, metric in zip(short, metrics, strict=True)
    ]


def markdown_table(
    results: dict[str, list[dict[str, float]]],
    metrics: list[str],
    shared: dict[str, str],
) -> str:
    """Lay out the results.

    Args:
        results (dict[str, list[dict[str, float]]]): Metrics of every seed by name of
            the config, the reference first.
        metrics (list[str]): Which metrics to show; the first is compared.
        shared (dict[str, str]): For configs without a training of their own, the
            name of that whose weights they use.

    Returns:
        str: Markdown.
    """

    def show(values: list[float], sign: str = '') -> str:
        mean, spread = mean_and_spread(values)
        return f'{mean:{sign}.1f}' + ('' if spread != spread else f' ± {spread:.1f}')

    names = short_names(metrics)
    reference = next(iter(results.values()))
    lines = [
        f'| config | {" | ".join(names)} | {names[0]} to the first |',
        '|---' * (len(names) + 2) + '|',
    ]
    for index, (name, runs) in enumerate(results.items()):
        cells = [show([run[metric] for run in runs]) for metric in metrics]
        gain = [
            run[metrics[0]] - other[metrics[0]]
            for run, other in zip(runs, reference, strict=True)
        ]
        note = f' (weights of `{shared[name]}`)' if name in shared else ''
        cells = [f'`{name}`{note}', *cells, show(gain, '+') if index else '']
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def plot(
    results: dict[str, list[dict[str, float]]], metrics: list[str], path: Path
) -> None:
    """Draw the results as bars, with a dot for every seed.

    Args:
        results (dict[str, list[dict[str, float]]]): As in :func:`markdown_table`.
        metrics (list[str]): Which metrics to show.
        path (Path): PNG to write.
    """
    figure = Figure(figsize=(9, 1.2 + 0.62 * len(results)), dpi=110)
    axis = figure.subplots()
    height = 0.8 / len(metrics)
    for offset, (metric, name) in enumerate(
        zip(metrics, short_names(metrics), strict=True)
    ):
        positions = [row + offset * height for row in range(len(results))]
        values = [[run[metric] for run in runs] for runs in results.values()]
        axis.barh(
            positions,
            [statistics.fmean(v) for v in values],
            height=0.9 * height,
            label=name,
            alpha=0.75,
        )
        for position, dots in zip(positions, values, strict=True):
            axis.plot(dots, [position] * len(dots), 'k.', markersize=4)
    middle = height * (len(metrics) - 1) / 2
    axis.set_yticks([row + middle for row in range(len(results))], list(results))
    axis.invert_yaxis()
    axis.set_xlabel('percent; bars are means, dots are runs')
    axis.grid(axis='x', alpha=0.3)
    axis.set_axisbelow(True)
    # Outside, where it hides no bar.
    axis.legend(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=len(metrics))
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Run what is missing and write the comparison."""
    args = parse_args()
    names = [Path(name).name.removesuffix('.py') for name in args.configs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SystemExit(f'configs given twice: {", ".join(repeated)}')
    configs = {}
    # All are read before the first is trained: a mistake shows in seconds.
    for name, path in zip(names, args.configs, strict=True):
        try:
            cfg = load_config(path)
            if args.cfg_options is not None:
                cfg.merge_from_dict(args.cfg_options)
            configs[name] = {
                seed: fit_to_budget(cfg, args.max_iters, seed) for seed in args.seeds
            }
        except ValueError as error:
            raise SystemExit(str(error)) from error

    results = {name: [] for name in names}
    trained_by = {}
    shared = {}
    checkpoints = {}
    total = len(args.seeds) * len(configs)
    for seed in args.seeds:
        for name, by_seed in configs.items():
            number = sum(len(runs) for runs in results.values()) + 1
            print(f'[{number}/{total}] {name}, seed {seed}', flush=True)
            cfg = by_seed[seed]
            folder = args.out / name / f'seed{seed}'
            checkpoint = train(cfg, folder, checkpoints)
            owner = trained_by.setdefault(checkpoint, name)
            if owner != name:
                shared[name] = owner
            metrics = test(cfg, folder, checkpoint)
            missing = [metric for metric in args.metrics if metric not in metrics]
            if missing:
                raise SystemExit(
                    f'the test of {name} has no {missing}; it has {sorted(metrics)}'
                )
            results[name].append(metrics)
            print(
                '    ' + ', '.join(f'{m} {metrics[m]:.2f}' for m in args.metrics),
                flush=True,
            )

    table = markdown_table(results, args.metrics, shared)
    seeds = ' '.join(map(str, args.seeds))
    content = f'{args.max_iters} iterations, seeds {seeds}.\n\n{table}\n'
    with atomic_path(args.out / 'ablations.md') as temporary:
        temporary.write_text(content)
    with atomic_path(args.out / 'ablations.json') as temporary:
        record = {
            'max_iters': args.max_iters,
            'seeds': args.seeds,
            'weights_of': shared,
            'results': results,
        }
        temporary.write_text(json.dumps(record, indent=1))
    with atomic_path(args.out / 'ablations.png') as temporary:
        plot(results, args.metrics, temporary)
    print(f'\n{content}\nwritten to {args.out}')


if __name__ == '__main__':
    main()
