# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Configs by their names, and networks ready for inference."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.apis import init_detector
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch import nn

from mmdet_efficientps.datasets.label_table import CLASS_TABLES, load_classes
from mmdet_efficientps.structures.panoptic import (
    PanopticClass,
    PanopticClasses,
    choose_colors,
)
from mmdet_efficientps.utils.checkpoint_loading import (
    CheckpointError,
    check_state_dict,
    find_state_dict,
    read_checkpoint,
    weights_origin,
)
from mmdet_efficientps.utils.config_text import parse_config_text


def find_config(name: str) -> Path:
    """Find a config that comes with the package.

    Args:
        name (str): Its file name, with or without '.py'; folders before it do not
            matter, since the names are unique.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: If the installation has no configs.
        ValueError: If there is no such config; names those with similar names.
    """
    folder = config_folder()
    files = {
        file.stem: file
        for file in sorted(folder.rglob('*.py'))
        if '_base_' not in file.relative_to(folder).parts
    }
    stem = Path(name).name.removesuffix('.py')
    if stem not in files:
        similar = difflib.get_close_matches(stem, files, n=5, cutoff=0.3)
        lines = '\n'.join(f'  {name}' for name in similar or files)
        raise ValueError(
            f'there is no config {name!r} in {folder}. '
            f'{"Similar names" if similar else "There are"}:\n{lines}'
        )
    return files[stem]


def get_config(name: str) -> Config:
    """Read a config that comes with the package.

    Args:
        name (str): As :func:`find_config` takes it, for example
            'efficientps_effb5_16xb1-50k_cityscapes-1024x2048'.

    Returns:
        Config: The config, base configs merged.

    Raises:
        FileNotFoundError: If the installation has no configs.
        ValueError: If there is no such config; names those with similar names.
    """
    return Config.fromfile(find_config(name))


def load_config(name_or_path: str | Path) -> Config:
    """Read a config file, or a config that comes with the package.

    Args:
        name_or_path (str | Path): A file, or else a name as :func:`find_config`
            takes it.

    Returns:
        Config: The config, base configs merged.

    Raises:
        FileNotFoundError: If the installation has no configs.
        ValueError: If it is neither a file nor such a name, or a file of another type.
    """
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        path = find_config(str(name_or_path))
    elif path.suffix not in ('.py', '.json', '.yml', '.yaml'):
        raise ValueError(
            f'{path} is no config, which ends in .py, .json, .yml or .yaml: give the '
            'config first, then the checkpoint'
        )
    return Config.fromfile(path)


def checkpoint_config(checkpoint: str | Path) -> Config:
    """Give the config that a checkpoint was trained with and holds.

    Args:
        checkpoint (str | Path): File or address of a checkpoint of a training run.

    Returns:
        Config: The config, base configs merged.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        CheckpointError: If it cannot be read, or holds no config, as one that is only
            weights.
    """
    text = read_checkpoint(checkpoint).get('meta', {}).get('cfg')
    if not isinstance(text, str):
        raise CheckpointError(
            f'{checkpoint} holds no config, as those of a training run do: give the '
            'config it was trained with, too'
        )
    try:
        return Config(parse_config_text(text))
    except ValueError as error:
        raise CheckpointError(
            f'the config inside {checkpoint} cannot be read ({error}): give the config '
            'it was trained with, too'
        ) from error


def init_model(
    name_or_path: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str = 'auto',
) -> nn.Module:
    """Build a network for :func:`mmdet.apis.inference_detector`.

    Args:
        name_or_path (str | Path | Config): Config file or the name of a config, as
            :func:`load_config` takes it, or what that gives; or the checkpoint alone, a
            file that ends in ``.pth`` or ``.pt`` and holds the config it was trained
            with.
        checkpoint (str | Path, optional): Its weights: a file or an address, see
            :func:`~mmdet_efficientps.utils.checkpoint_loading.read_checkpoint`.
            Defaults to None, for random weights.
        device (str): Torch device; 'auto', the default, is the GPU if there is one
            and the CPU otherwise.

    Returns:
        nn.Module: The detector, in evaluation mode. Its ``dataset_meta`` has the
        ``classes`` and ``palette`` (RGB, 0..255) of the checkpoint, or of the config if
        the checkpoint names none, and colors are chosen for classes that have none. Its
        ``categories`` are those for a panoptic json, in label order; their ids are
        those that the network was trained with where that is known (newer checkpoints
        say so, and shipped data sets), else the labels. Its ``weights_origin`` is that
        of the checkpoint, see :func:`~.checkpoint_loading.weights_origin`.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If there is no such config, or no such device here.
        CheckpointError: If the checkpoint cannot be read or is not one of this
            network; lists the keys and shapes that differ.
    """
    if isinstance(name_or_path, Config):
        config, name_or_path = name_or_path, name_or_path.filename or 'the config'
    elif checkpoint is None and str(name_or_path).endswith(('.pth', '.pt')):
        checkpoint = name_or_path
        config = checkpoint_config(checkpoint)
    else:
        config = load_config(name_or_path)
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    _check_device(device)
    model = _init_detector(config, device)
    dataset = dict(config.test_dataloader.dataset, lazy_init=True)
    meta = _as_metainfo(DATASETS.build(dataset).metainfo)
    saved: dict = {}
    ids = None
    origin: dict[str, str] = {}
    if checkpoint is not None:
        content = _load_weights(model, checkpoint, str(name_or_path), meta)
        run = content.get('meta') or {}
        saved, ids = _saved_metainfo(run), run.get('category_ids')
        origin = weights_origin(content)
    palettes = [saved.get('palette'), meta.get('palette')]
    meta |= saved
    classes = meta.get('classes', ())
    things = meta.get('thing_classes', ())
    palettes.append(
        choose_colors(
            classes, [name in things for name in classes], [None] * len(classes)
        )
    )
    # A name, such as 'random', is none; nor is that of a config for other classes.
    palette = next(
        p for p in palettes if isinstance(p, (list, tuple)) and len(p) == len(classes)
    )
    # A list: mmdet's visualizer takes a tuple for one color.
    meta['palette'] = [tuple(color) for color in palette]
    meta['categories'] = _categories(meta, things, ids)
    # What mmdet's inferencers and visualizers look for.
    setattr(model, 'dataset_meta', meta)  # noqa: B010
    setattr(model, 'weights_origin', origin)  # noqa: B010
    return model


def _check_device(device: str) -> None:
    """Refuse a device that is not here, before PyTorch fails on it in its own ways."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f'PyTorch cannot use the device {device!r} here '
            f'({str(error).splitlines()[0]}): give another, such as cpu'
        ) from error


def _categories(
    meta: dict, things: Sequence[str], ids: Sequence[int] | None
) -> list[dict]:
    """Categories for a panoptic json, in label order."""
    names = list(meta.get('classes', ()))
    if ids is None or len(ids) != len(names):
        tables = (load_classes(name).things_first() for name in CLASS_TABLES)
        known = (table for table in tables if list(table.names) == names)
        table = next(known, None)
        ids = [c.id for c in table] if table else range(len(names))
    return PanopticClasses(
        tuple(
            PanopticClass(int(number), name, name in things, color)
            for number, name, color in zip(ids, names, meta['palette'], strict=True)
        )
    ).categories()


def _as_metainfo(meta: dict | list) -> dict:
    """Metainfo as a dict: mmdet's ConcatDataset may have that of each part."""
    return dict(meta[0] if isinstance(meta, list) else meta)


def config_folder() -> Path:
    """Give the folder of the configs that come with the package.

    Returns:
        Path: That of an installation, or the one beside the package in a checkout.

    Raises:
        FileNotFoundError: If the installation has no configs.
    """
    package = Path(__file__).resolve().parents[1]
    folders = (package / '.mim' / 'configs', package.parent / 'configs')
    for folder in folders:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f'this installation of mmdet_efficientps has no configs: {folders[0]} is '
        'missing. Install it again with `pip install .` in a checkout'
    )


def _init_detector(config: Config, device: str) -> nn.Module:
    """Call :func:`mmdet.apis.init_detector` without a checkpoint."""
    with warnings.catch_warnings(record=True) as caught:
        model = init_detector(config, device=device)
    for warning in caught:
        # It takes the classes of COCO then and says so: they are set right later.
        if 'checkpoint is None' not in str(warning.message):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return model


def _load_weights(
    model: nn.Module, checkpoint: str | Path, config_name: str, meta: dict
) -> dict:
    """Load weights that fit; gives the whole checkpoint."""
    content = read_checkpoint(checkpoint)
    saved = _saved_metainfo(content.get('meta') or {})
    numbers = [len(m['classes']) for m in (saved, meta) if m.get('classes')]
    if len(set(numbers)) == 2:
        raise CheckpointError(
            f'{checkpoint} is of a network for {numbers[0]} classes '
            f'({", ".join(saved["classes"])}), but {config_name} is for {numbers[1]}: '
            'use the config the checkpoint was trained with'
        )
    state = find_state_dict(content)
    check_state_dict(
        state, model.state_dict(), f'the checkpoint {checkpoint} for {config_name}'
    )
    model.load_state_dict(state)
    return content


def _saved_metainfo(run: dict) -> dict:
    """The dataset meta of the ``meta`` of a checkpoint, by the names of today."""
    saved = _as_metainfo(run.get('dataset_meta', {}))
    return {key.lower(): value for key, value in saved.items()}
