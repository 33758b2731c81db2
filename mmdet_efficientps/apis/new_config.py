# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A config that fits itself to a data set: read, check, split, fit, write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmdet_efficientps.datasets.fingerprint import (
    DataFiles,
    Fingerprint,
    read_fingerprint,
)
from mmdet_efficientps.datasets.stratified_split import split_pictures
from mmdet_efficientps.datasets.trainable import (
    check_same_classes,
    check_split,
    check_trainable,
    list_warnings,
)
from mmdet_efficientps.structures.panoptic import read_json, write_json
from mmdet_efficientps.structures.panoptic.annotations import IMAGE_ID
from mmdet_efficientps.utils import atomic_path, check_output, counted
from mmdet_efficientps.visualization.fingerprint_figure import plot_fingerprint

from .fitted_config import config_text
from .fitted_settings import (
    LEAST_SIDE,
    MODEL_SIZES,
    RARE_SHARE,
    Fitted,
    FittedSettings,
    anchor_shapes,
    fit_settings,
)


@dataclass
class NewConfig:
    """What :func:`make_config` did.

    Attributes:
        path (Path): The config.
        figure (Path): Picture of the data.
        train (Fingerprint): What is trained on.
        val (Fingerprint): What is validated on.
        settings (FittedSettings): What was chosen, and why.
        warnings (list[str]): What a user should know.
    """

    path: Path
    figure: Path
    train: Fingerprint
    val: Fingerprint
    settings: FittedSettings
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Give what was chosen as text.

        Returns:
            str: A line for each value with its reason, then the warnings.
        """
        lines = [
            f'{counted(len(self.train), "image")} to train on, {len(self.val)} to '
            'validate on'
        ]
        for setting in fields(self.settings):
            fitted: Fitted = getattr(self.settings, setting.name)
            if fitted.value not in (None, []):
                lines.append(f'{setting.name} = {fitted.value}: {fitted.reason}')
        lines += [f'warning: {text}' for text in self.warnings]
        return '\n'.join(lines)


def make_config(
    train: DataFiles,
    out: str | Path,
    val: DataFiles | None = None,
    val_fraction: float | None = None,
    model: str = 'small',
    memory: float = 8e9,
    max_iters: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    nproc: int = 1,
) -> NewConfig:
    """Write a config for a data set.

    Args:
        train (DataFiles): What to train on.
        out (str | Path): Config to write; a picture of the data goes beside it, and
            with ``val_fraction`` the jsons of the two parts.
        val (DataFiles | None): What to validate on. Defaults to None.
        val_fraction (float | None): Share of ``train`` to validate on instead.
            Defaults to None.
        model (str): Key of ``MODEL_SIZES``. Defaults to 'small'.
        memory (float): Bytes for the training. Defaults to 8 GB.
        max_iters (int | None): Number of steps. Defaults to None, by the number of
            images.
        seed (int): Seed of the split. Defaults to 0.
        overwrite (bool): Whether files of a former call may be replaced. Defaults to
            False.
        nproc (int): Number of processes that read. Defaults to 1.

    Returns:
        NewConfig: What was written.

    Raises:
        FileExistsError: If a file is there already.
        ValueError: If the data cannot be trained on, the split is none, or the output
            would replace an input; says what to do.
    """
    out = Path(out)
    outputs = {'config': out, 'figure': out.with_suffix('.png')}
    if (val is None) == (val_fraction is None):
        raise ValueError(
            'give --val VAL.json IMAGES, or --val-fraction 0.2 to hold out every fifth '
            'image: without validation nobody sees what the network has learnt'
            if val is None
            else 'give --val or --val-fraction, not both'
        )
    if val_fraction is not None:
        outputs |= {
            part: out.with_name(f'{out.stem}_{part}.json') for part in ('train', 'val')
        }
    for files in (train, val):
        if files and files.json_file.is_dir():
            raise ValueError(
                f'{files.json_file} is a folder: give the panoptic json, of which '
                'the name ends in .json'
            )
    _check_outputs(outputs.values(), train, val, overwrite)

    data = read_fingerprint(train, nproc)
    check_trainable(data)
    inputs = [*data.paths, *data.png_paths]
    if val is not None:
        train_data, val_data = data, read_fingerprint(val, nproc)
        check_same_classes(train_data, val_data)
        inputs += [*val_data.paths, *val_data.png_paths]
    else:
        assert val_fraction is not None
        is_val = split_pictures(
            data.presence, data.digests, data.thumbnails, val_fraction, seed
        )
        train_data, val_data = (
            replace(
                data.select(np.flatnonzero(is_val == (part == 'val')).tolist()),
                files=replace(train, json_file=outputs[part]),
            )
            for part in ('train', 'val')
        )
    for path in outputs.values():
        check_output(path, inputs, '--out')
    check_split(train_data, val_data)
    check_trainable(train_data)
    settings = fit_settings(train_data, MODEL_SIZES[model], memory, max_iters)
    text = config_text(train_data, val_data, settings, model, out)
    plot_fingerprint(
        train_data,
        outputs['figure'],
        factors=_network_factors(train_data, settings),
        anchors=anchor_shapes(
            settings.anchor_scale.value, settings.anchor_ratios.value
        ),
        least_side=LEAST_SIDE,
        min_stuff_area=settings.min_stuff_area.value,
        rare_share=RARE_SHARE,
    )
    # After all that can fail: what is there already stops the next call.
    if val_fraction is not None:
        for part, chosen in (('train', train_data), ('val', val_data)):
            _write_part(outputs[part], data, chosen)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return NewConfig(
        out,
        outputs['figure'],
        train_data,
        val_data,
        settings,
        list_warnings(train_data, val_data, was_split=val is None),
    )


def _check_outputs(
    outputs: Iterable[Path],
    train: DataFiles,
    val: DataFiles | None,
    overwrite: bool,
) -> None:
    """Refuse to write over inputs and over what is there."""
    outputs = list(outputs)
    out = outputs[0]
    if out.suffix != '.py':
        raise ValueError(f'--out must be a .py file, got {out}')
    for path in outputs:
        check_output(path, [f.json_file for f in (train, val) if f], '--out')
        if path.is_dir():
            raise ValueError(f'--out: {path} is a folder, give another name')
        if path.exists() and not overwrite:
            raise FileExistsError(
                f'{path} exists: give another --out, or --overwrite to replace it'
            )


def _write_part(path: Path, data: Fingerprint, chosen: Fingerprint) -> None:
    """Write the json of some of the images, as the whole one has them."""
    content: dict[str, Any] = read_json(data.files.json_file)
    ids = {_id(image['id']) for image in chosen.images}
    write_json(
        path,
        content
        | {
            'images': [i for i in content['images'] if _id(i['id']) in ids],
            'annotations': [
                a for a in content['annotations'] if _id(a['image_id']) in ids
            ],
        },
    )


def _id(given: Any) -> str:
    """An id of an image by the reader's rule: 1, 1.0, '1' are the same."""
    return str(IMAGE_ID.take(given))


def _network_factors(data: Fingerprint, settings: FittedSettings) -> np.ndarray:
    """How much every image is scaled for the network, shape (N, )."""
    sides = np.sort(data.sizes, axis=1)[:, ::-1]
    return (np.array(settings.scale.value) / sides).min(axis=1)
