# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Writes toy_city scenes in the folder layout of Cityscapes."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.utils import track_progress_rich

from mmdet_efficientps.datasets.prepare import ConversionReport, prepare_cityscapes
from mmdet_efficientps.structures.panoptic import read_json, write_json
from mmdet_efficientps.utils import atomic_path

from .scene import Scene, check_parameters, render_scene

# Scenes are dealt out in turn to the cities of their split.
CITIES = {'train': ('spielburg', 'klotzstadt'), 'val': ('modellhausen', 'legofurt')}
OWN_FILES = (
    'cityscapes_panoptic_',
    *(f'{city}_' for cities in CITIES.values() for city in cities),
)
# Raise it when the renderer changes what a seed looks like.
RENDERER_VERSION = 1
MARKER = 'toy_city.json'


def prepare_toy_city(
    out: str | Path, nproc: int = 1, **options: Any
) -> list[ConversionReport]:
    """Write a toy_city data set and prepare it as Cityscapes is prepared.

    Args:
        out (str | Path): Folder of the data set.
        nproc (int): Number of processes. Defaults to 1.
        **options: See :func:`write_toy_city`.

    Returns:
        list[ConversionReport]: One for each split.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If an option is out of range.
    """
    write_toy_city(out, nproc=nproc, **options)
    return prepare_cityscapes(out, nproc=nproc)


def write_toy_city(
    root: str | Path,
    num_train: int = 240,
    num_val: int = 40,
    size: tuple[int, int] = (256, 512),
    density: float = 1.0,
    seed: int = 0,
    nproc: int = 1,
    overwrite: bool = False,
) -> None:
    """Write a toy_city data set, before the panoptic preparation.

    Scene k of a split depends on ``seed``, the split and k alone. Frames that are
    there are not made again, so a run that was stopped can be started once more; no
    file is ever half-written.

    Args:
        root (str | Path): Folder of the data set.
        num_train (int): Number of training scenes. Defaults to 240.
        num_val (int): Number of validation scenes. Defaults to 40.
        size (tuple[int, int]): Height and width in pixels. Defaults to (256, 512).
        density (float): How many things there are, relative to the usual 8 to 20.
            Defaults to 1.
        seed (int): Seed of the data set. Defaults to 0.
        nproc (int): Number of processes. Defaults to 1.
        overwrite (bool): Remove a toy_city that is there, its panoptic ground truth
            included, and make it again. Defaults to False.

    Raises:
        FileExistsError: If ``root`` has a toy_city with other parameters and
            ``overwrite`` is not set, or if it has files but no toy_city.
        ValueError: If a parameter is out of range; nothing is written then.
    """
    if min(num_train, num_val) < 1:
        raise ValueError(
            f'{num_train} training and {num_val} validation scenes: both splits need '
            'at least one'
        )
    check_parameters(size, density)
    root = Path(root)
    parameters = {
        'renderer_version': RENDERER_VERSION,
        'num_train': num_train,
        'num_val': num_val,
        'size': list(size),
        'density': density,
        'seed': seed,
    }
    _claim(root, parameters, overwrite)
    jobs = [
        (root, split, number)
        for split, count in (('train', num_train), ('val', num_val))
        for number in range(count)
    ]
    missing = [job for job in jobs if not _is_complete(*job)]
    if missing:
        track_progress_rich(
            partial(_write_frame, size=size, density=density, seed=seed),
            missing,
            nproc=nproc,
            description=f'drawing {len(missing)} street scenes',
        )


def _claim(root: Path, parameters: dict, overwrite: bool) -> None:
    """Note the parameters in ``root``, or check that they are those noted."""
    marker = root / MARKER
    noted = read_json(marker) if marker.is_file() else None
    noted = noted if isinstance(noted, dict) else {}
    is_toy_city = noted.keys() == parameters.keys()
    if root.is_dir() and any(root.iterdir()) and not is_toy_city:
        raise FileExistsError(
            f'{root} has files but no {MARKER} of this program: it is not a toy_city. '
            'Take another --out'
        )
    if is_toy_city and overwrite:
        folders = [root / name for name in ('leftImg8bit', 'gtFine')]
        for path in (path for folder in folders for path in folder.rglob('*')):
            if path.is_file() and not path.name.lstrip('.').startswith(OWN_FILES):
                raise FileExistsError(
                    f'{path} is no file of a toy_city and would be removed: move it'
                )
        # Before the new parameters are noted: otherwise a run that is stopped here
        # would later take the old frames for new ones.
        for folder in folders:
            if folder.is_dir():
                shutil.rmtree(folder)
    elif noted == parameters:
        return
    elif is_toy_city:
        different = {k: (noted[k], v) for k, v in parameters.items() if noted[k] != v}
        raise FileExistsError(
            f'{root} has a toy_city with other parameters (there, wanted): '
            f'{different}. Take another --out, or --overwrite to make it again'
        )
    root.mkdir(parents=True, exist_ok=True)
    write_json(marker, parameters)


def _frame_files(root: Path, split: str, number: int) -> dict[str, Path]:
    """The files of a frame by kind."""
    cities = CITIES[split]
    city = cities[number % len(cities)]
    # Cityscapes numbers sequences, and frames within a sequence.
    name = f'{city}_{number // len(cities):06d}_000019'
    labels = root / 'gtFine' / split / city
    return {
        'polygons': labels / f'{name}_gtFine_polygons.json',
        'labelIds': labels / f'{name}_gtFine_labelIds.png',
        'instanceIds': labels / f'{name}_gtFine_instanceIds.png',
        'color': labels / f'{name}_gtFine_color.png',
        'image': root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png',
    }


def _is_complete(root: Path, split: str, number: int) -> bool:
    return all(path.is_file() for path in _frame_files(root, split, number).values())


def _write_frame(
    root: Path,
    split: str,
    number: int,
    size: tuple[int, int],
    density: float,
    seed: int,
) -> None:
    """Render a scene and write its files."""
    # Two processes already use two cores.
    cv2.setNumThreads(1)
    scene = render_scene((seed, list(CITIES).index(split), number), size, density)
    for kind, path in _frame_files(root, split, number).items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(_encode(scene, kind))


def _encode(scene: Scene, kind: str) -> bytes:
    """Contents of one file of a scene."""
    if kind == 'polygons':
        return json.dumps(scene.annotation).encode()
    if kind == 'image':
        pixels = scene.image[..., ::-1]
    elif kind == 'instanceIds':
        pixels = scene.instance_ids.astype(np.uint16)
    else:
        pixels = np.asarray(scene.draw(kind))
        if pixels.ndim == 3:
            pixels = pixels[..., [2, 1, 0, 3]]
    return cv2.imencode('.png', pixels)[1].tobytes()
