# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Write a model card from a training.

Example::

    python tools/model_card.py work_dirs/mine --license apache-2.0 \
        --out work_dirs/mine/README.md

The card is Markdown with the header that Hugging Face reads. What a work folder does
not know, such as what a network is meant for, is left open and marked TODO.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from mmdet_efficientps.apis.model_zoo import checkpoint_config
from mmdet_efficientps.utils import atomic_path, check_output_file
from mmdet_efficientps.utils.checkpoint_loading import (
    CheckpointError,
    find_state_dict,
    read_checkpoint,
)
from mmdet_efficientps.version import __version__
from mmdet_efficientps.visualization import read_scalars

# Key of a validation, and its name in the card.
METRICS = {
    'panoptic/PQ': 'PQ',
    'panoptic/SQ': 'SQ',
    'panoptic/RQ': 'RQ',
    'panoptic/PQ_th': 'PQ of things',
    'panoptic/PQ_st': 'PQ of stuff',
    'instance/AP': 'AP (Cityscapes)',
    'coco/AP': 'AP (COCO)',
    'semantic/mIoU': 'mIoU',
}
# Type of a network, and how it is called.
NETWORKS = {
    'EfficientPS': 'EfficientPS (Mohan and Valada, IJCV 2021)',
    'PanopticFPN': 'Panoptic FPN (Kirillov et al., CVPR 2019)',
}


def find_checkpoint(work_dir: Path) -> Path:
    """Find the checkpoint that a card is about.

    Args:
        work_dir (Path): Work folder of a training.

    Returns:
        Path: The best one, or that of ``last_checkpoint`` if none was validated.

    Raises:
        FileNotFoundError: If there is none.
    """
    best = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if best:
        return best[-1]
    last = work_dir / 'last_checkpoint'
    if last.is_file():
        # The folder may have been moved since.
        path = work_dir / Path(last.read_text().strip()).name
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'{work_dir} has no best_*.pth and no last_checkpoint: give the work folder of '
        'a training'
    )


def time_of(checkpoint: Path, meta: dict[str, Any], cfg: Config) -> tuple[str, int]:
    """Say when a checkpoint was written, as the logs of its training count.

    Args:
        checkpoint (Path): The checkpoint.
        meta (dict[str, Any]): What it holds about itself.
        cfg (Config): Its config.

    Returns:
        tuple[str, int]: 'epoch' or 'iteration', and its number; 0 if it is unknown or
        no validation can be of that moment.
    """
    logger = cfg.get('default_hooks', {}).get('logger') or {}
    # MMEngine's hook counts epochs unless it is told otherwise.
    if not logger.get('log_metric_by_epoch', True):
        return 'iteration', meta.get('iter') or 0
    if checkpoint.name.startswith('iter_'):
        # Between epochs: meta has the last one that was finished.
        return 'epoch', 0
    return 'epoch', meta.get('epoch') or 0


def validation_of(work_dir: Path, step: int) -> dict[str, float]:
    """Read the metrics of a checkpoint from the logs of its training.

    Args:
        work_dir (Path): Work folder of a training.
        step (int): The iteration or epoch that the checkpoint was written at.

    Returns:
        dict[str, float]: Metrics in percent by their keys; empty if the logs have no
        validation of it.
    """
    metrics: dict[str, float] = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for record in read_scalars(path):
            if 'panoptic/PQ' in record and record.get('step') == step:
                metrics = {key: value for key, value in record.items() if '/' in key}
    return metrics


def data_sets(cfg: Config, part: str) -> list[dict[str, Any]]:
    """List the data sets of a loader, those that are joined or wrapped one by one.

    Args:
        cfg (Config): The config.
        part (str): 'train' or 'val'.

    Returns:
        list[dict[str, Any]]: Their configs; none without such a loader.
    """

    def leaves(dataset: dict) -> list[dict]:
        if 'datasets' in dataset:
            return [leaf for part in dataset['datasets'] for leaf in leaves(part)]
        return leaves(dataset['dataset']) if 'dataset' in dataset else [dataset]

    loader = cfg.get(f'{part}_dataloader')
    return leaves(loader['dataset']) if loader else []


def describe_data(cfg: Config) -> dict[str, str]:
    """Say what a network was trained and validated on.

    Args:
        cfg (Config): Its config.

    Returns:
        dict[str, str]: Type and annotation files of the data sets.
    """
    return {
        part: ', '.join(
            f'{leaf["type"]} ({leaf.get("data_root") or ""}{leaf["ann_file"]})'
            for leaf in leaves
        )
        for part in ('train', 'val')
        if (leaves := data_sets(cfg, part))
    }


def name_of_data(cfg: Config) -> str:
    """Name the data that a network was validated on.

    Args:
        cfg (Config): Its config.

    Returns:
        str: The folder of the data: their type may be that of other data, as toy_city
        is of the type of Cityscapes. The type where no folder is named.
    """
    for leaf in data_sets(cfg, 'val'):
        return Path(leaf.get('data_root') or '').name or str(leaf['type'])
    return 'unknown'


def origin(meta: dict[str, Any], cfg: Config) -> str:
    """Say which weights a training began with.

    Args:
        meta (dict[str, Any]): What its checkpoint holds about itself.
        cfg (Config): Its config.

    Returns:
        str: File or address, or 'from scratch'.
    """
    start = meta.get('weights_from') or cfg.get('start_from')
    if not start and not cfg.get('resume'):
        start = cfg.get('load_from')
    initial = cfg.model.backbone.get('init_cfg') or {}
    return str(start or initial.get('checkpoint', 'from scratch'))


def check_license(
    license_id: str, license_name: str | None, meta: dict[str, Any]
) -> None:
    """Raise ValueError for a licence that Hugging Face or the weights do not allow.

    Args:
        license_id (str): Identifier of the licence at Hugging Face.
        license_name (str, optional): What a licence without an identifier is called.
        meta (dict[str, Any]): What the checkpoint holds about itself.
    """
    if not re.fullmatch(r'[a-z0-9.+-]+', license_id):
        raise ValueError(
            f'--license {license_id}: Hugging Face names licences in small letters '
            'without spaces, such as apache-2.0, gpl-3.0 or other'
        )
    if (license_id == 'other') != bool(license_name):
        raise ValueError(
            '--license other and --license-name belong together: the name is that of a '
            'licence which Hugging Face does not know'
        )
    terms = meta.get('license', '')
    if 'GPL' in terms and license_id not in ('gpl-3.0', 'other'):
        raise ValueError(
            f'--license {license_id} is not that of the weights: they were made from '
            f'others under {terms}. Give --license gpl-3.0, or --license other with '
            '--license-name'
        )


def header(
    name: str,
    license_id: str,
    dataset: str,
    network: str,
    metrics: dict[str, float],
    license_name: str | None = None,
) -> dict[str, Any]:
    """Make the metadata that Hugging Face reads.

    Args:
        name (str): Name of the network.
        license_id (str): Identifier of the licence there.
        dataset (str): Name of the data set.
        network (str): Type of the network.
        metrics (dict[str, float]): Those of the validation, by their keys.
        license_name (str, optional): What a licence without an identifier is called;
            its text is then looked for in a file LICENSE beside the card.

    Returns:
        dict[str, Any]: Content of the YAML header.
    """
    data: dict[str, Any] = dict(license=license_id)
    if license_name:
        data.update(license_name=license_name, license_link='LICENSE')
    data.update(
        library_name='mmdet_efficientps',
        pipeline_tag='image-segmentation',
        tags=['panoptic-segmentation', network.lower(), 'mmdetection'],
    )
    results = [
        dict(type=key.replace('/', '_').lower(), name=label, value=round(value, 2))
        for key, label in METRICS.items()
        if (value := metrics.get(key)) is not None
    ]
    if results:
        data['model-index'] = [
            dict(
                name=name,
                results=[
                    dict(
                        task=dict(
                            type='image-segmentation', name='Panoptic segmentation'
                        ),
                        dataset=dict(
                            type=re.sub(r'\W+', '-', dataset.lower()), name=dataset
                        ),
                        metrics=results,
                    )
                ],
            )
        ]
    return data


def table(title: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Make a table in Markdown."""
    lines = [title, ('---',) * len(title), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_card(
    work_dir: Path,
    checkpoint: Path,
    license_id: str,
    dataset: str | None = None,
    speed: str | None = None,
    license_name: str | None = None,
) -> str:
    """Write a card.

    Args:
        work_dir (Path): Work folder of the training.
        checkpoint (Path): One of its checkpoints.
        license_id (str): Identifier of the licence at Hugging Face.
        dataset (str, optional): Name of the data set. Defaults to its folder.
        speed (str, optional): What was measured, with the machine.
        license_name (str, optional): What a licence without an identifier is called.

    Returns:
        str: Markdown.

    Raises:
        CheckpointError: If the checkpoint cannot be read or holds no config.
        ValueError: If the licence cannot be that of the weights.
    """
    loaded = read_checkpoint(checkpoint)
    cfg = checkpoint_config(checkpoint)
    meta = loaded['meta']
    check_license(license_id, license_name, meta)
    state = find_state_dict(loaded)
    unit, step = time_of(checkpoint, meta, cfg)
    metrics = validation_of(work_dir, step) if step else {}
    data = describe_data(cfg)
    dataset = dataset or name_of_data(cfg)
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    parameters = sum(v.numel() for k, v in state.items() if not k.endswith(buffers))
    name = Path(meta.get('experiment_name', checkpoint.stem)).name
    # MMEngine adds the time to it.
    name = name.rsplit('_', 2)[0] if 'experiment_name' in meta else name

    classes = meta.get('dataset_meta', {})
    network = str(cfg.model.type)
    things = ', '.join(classes.get('thing_classes', ())) or 'TODO'
    stuff = ', '.join(classes.get('stuff_classes', ())) or 'TODO'
    values = [
        (label, f'{metrics[key]:.2f}')
        for key, label in METRICS.items()
        if key in metrics
    ]
    per_class = [
        (name, f'{metrics[key]:.2f}')
        for name in (
            *classes.get('thing_classes', ()),
            *classes.get('stuff_classes', ()),
        )
        if (key := f'panoptic/{name}_PQ') in metrics
    ]
    parts = [
        '---\n'
        + yaml.safe_dump(
            header(name, license_id, dataset, network, metrics, license_name),
            sort_keys=False,
        ).strip()
        + '\n---',
        f'# {name}',
        f'Panoptic segmentation with {NETWORKS.get(network, network)}, a network of '
        'MMDetection 3.x with the plugin mmdet_efficientps. This card was written from '
        f'the training by its version {__version__}.',
        '## Classes',
        table(('things', 'stuff'), [(things, stuff)]),
        '## Data',
        table(
            ('', ''),
            [
                ('trained on', data.get('train', 'TODO')),
                ('validated on', data.get('val', 'TODO')),
                ('weights at the start', origin(meta, cfg)),
            ],
        ),
        '## Results',
        f'Validation after {unit} {step}, in percent.\n\n'
        + table(('metric', 'value'), values)
        + ('\n\n' + table(('class', 'PQ'), per_class) if per_class else '')
        if values
        else 'TODO: the logs have no validation of it.',
        '## Size and speed',
        table(
            ('', ''),
            [
                ('parameters', f'{parameters / 1e6:.2f} M'),
                ('checkpoint', f'{checkpoint.stat().st_size / 1e6:.1f} MB'),
                ('speed', speed or 'not measured'),
            ],
        ),
        '## Use',
        'In Python, with mmdet_efficientps installed:',
        '```python\n'
        'from mmdet_efficientps import PanopticInferencer\n\n'
        f"(result,) = PanopticInferencer('{checkpoint.name}')('image.jpg')\n"
        'result.ids, result.segments\n'
        '```',
        'On the command line, in a checkout of it:',
        '```bash\n'
        f'python tools/predict.py IMAGES {checkpoint.name} --out results --overlay\n'
        '```',
        '## Meant for',
        'TODO: what it is for, what images it was not trained on, and what follows '
        'from its errors.',
        '## Licence',
        f'{license_name or license_id}.'
        + (f' {meta["license"]}.' if 'license' in meta else ''),
    ]
    return '\n\n'.join(parts) + '\n'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path, help='work folder of a training')
    parser.add_argument(
        '--license',
        required=True,
        help='of the weights, as Hugging Face names it (apache-2.0, gpl-3.0, other): '
        'see docs/checkpoints.md',
    )
    parser.add_argument(
        '--checkpoint', type=Path, help='default: the best one, else the last'
    )
    parser.add_argument(
        '--license-name', metavar='NAME', help='with --license other: what it is called'
    )
    parser.add_argument('--dataset', help='its name; default: its folder')
    parser.add_argument(
        '--speed', help="what was measured, such as '3.1 images/s on one NVIDIA H100'"
    )
    parser.add_argument(
        '--out', type=Path, help='file to write, such as README.md; default: print it'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace a card that is there, and what was filled in',
    )
    return parser.parse_args()


def main() -> None:
    """Write or print the card."""
    args = parse_args()
    try:
        if args.out and args.out.exists() and not args.overwrite:
            raise FileExistsError(
                f'{args.out} exists, and a person may have filled it in: take another '
                '--out, or --overwrite'
            )
        checkpoint = args.checkpoint or find_checkpoint(args.work_dir)
        card = write_card(
            args.work_dir,
            checkpoint,
            args.license,
            args.dataset,
            args.speed,
            args.license_name,
        )
        if not args.out:
            print(card, end='')
            return
        check_output_file(args.out, [checkpoint], '--out')
        with atomic_path(args.out) as temporary:
            temporary.write_text(card, encoding='utf-8')
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    print(f'{args.out}: {card.count("TODO")} places to fill in are marked TODO')


if __name__ == '__main__':
    main()
