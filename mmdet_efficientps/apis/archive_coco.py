# Licensed under the Apache License, Version 2.0. See LICENSE.
"""An archive as a panoptic json and PNGs, an image at a time."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable
from os.path import commonprefix
from pathlib import Path
from typing import IO, Any

from mmdet_efficientps.structures.panoptic import (
    PanopticOutput,
    default_png_folder,
    path_inside,
)
from mmdet_efficientps.utils import ProblemList, atomic_path, check_output

from .archive import Archive


def archive_to_coco(
    folder: str | Path,
    out: str | Path,
    model: str | None = None,
    root: str | None = None,
) -> ProblemList:
    """Write the predictions of an archive in COCO's panoptic format.

    ``panoptic/<name>.png`` and then ``panoptic.json``, as ``tools/predict.py`` leaves
    them. An image is named by its path below what all have in common; if that is
    nothing, by the whole path without ``/`` before it, or the address as
    ``s3/bucket/1.jpg``. In memory are the names of the images, but no segments and few
    PNGs.

    Args:
        folder (str | Path): The archive.
        out (str | Path): Folder for the files.
        model (str, optional): Hash of the network, or how it begins. Defaults to that
            of all rows.
        root (str, optional): Folder or address that names of images are relative to.
            Defaults to the deepest that holds all.

    Returns:
        ProblemList: Images that have no prediction, and why.

    Raises:
        FileExistsError: If there is a json already.
        FileNotFoundError: If there is no archive.
        ImportError: If pyarrow is not installed.
        ValueError: If the archive has several networks and ``model`` names none of
            them, an image is not below ``root``, two would have the same PNG, or the
            folder of the PNGs has images.
    """
    archive = Archive(folder)
    if not archive.files:
        raise FileNotFoundError(f'{folder} is no archive: it has no part-*.parquet')
    check_output(out, archive.files, '--out')
    json_file = Path(out) / 'panoptic.json'
    if json_file.exists():
        raise FileExistsError(f'{json_file} exists: give another folder, or remove it')
    model = _choose_model(archive, model)
    if root is None:
        root = _common_folder(row['path'] for row in archive.rows(model, ['path']))
    png_folder = default_png_folder(json_file)
    # One image of each folder tells as much as all of them.
    photographs = {
        posixpath.dirname(row['path']): row['path']
        for row in archive.rows(model, ['path'])
    }
    check_output(png_folder, photographs.values(), 'folder of the PNGs')
    problems = ProblemList()
    pngs: dict[str, str] = {}
    annotations = archive.rows(model, ['path', 'segments', 'png', 'error'])
    with (
        atomic_path(json_file) as temporary,
        temporary.open('w', encoding='utf-8') as stream,
    ):
        stream.write('{"annotations": [')
        separator = '\n'
        for row in annotations:
            path = row['path']
            if row['error'] is not None:
                problems.add(row['error'].replace(f'{path} ', '', 1), path)
                continue
            name = _name(path, root)
            png = f'{PanopticOutput.stem(name)}.png'
            if pngs.setdefault(png, path) != path:
                raise ValueError(
                    f'{pngs[png]} and {path} would both be written to {png}'
                )
            with atomic_path(path_inside(png_folder, png)) as file:
                file.write_bytes(row['png'])
            entry = {
                'image_id': name,
                'file_name': png,
                'segments_info': json.loads(row['segments']),
            }
            separator = _write_entry(stream, entry, separator)
        stream.write('\n],\n"images": [')
        separator = '\n'
        for row in archive.rows(model, ['path', 'width', 'height', 'error']):
            if row['error'] is None:
                name = _name(row['path'], root)
                size = {'width': row['width'], 'height': row['height']}
                entry = {'id': name, 'file_name': name, **size}
                separator = _write_entry(stream, entry, separator)
        categories = json.dumps(archive.categories(model))
        stream.write(f'\n],\n"categories": {categories}}}\n')
    return problems


def _write_entry(stream: IO[str], entry: dict[str, Any], separator: str) -> str:
    """Write an entry of a list, and give what goes before the next."""
    stream.write(separator + json.dumps(entry))
    return ',\n'


def _choose_model(archive: Archive, begin: str | None) -> str:
    """Give the only network of an archive whose hash begins so."""
    there = archive.models()
    found = [model for model in there if model.startswith(begin or '')]
    if len(found) != 1:
        lines = '\n'.join(f'  {model}: {count} rows' for model, count in there.items())
        raise ValueError(
            f'{archive.folder} has rows of these networks: give the hash of one, or '
            f'its beginning, by --model\n{lines}'
        )
    return found[0]


def _common_folder(paths: Iterable[str]) -> str:
    """Give the deepest folder that holds all paths; '' if there is none."""
    common: list[str] | None = None
    for path in paths:
        parts = posixpath.dirname(path).split('/')
        common = parts if common is None else list(commonprefix([common, parts]))
    return '/'.join(common or [])


def _name(path: str, root: str) -> str:
    """Give the part of a path below a folder."""
    start = root.rstrip('/') + '/' if root else ''
    if not path.startswith(start):
        raise ValueError(
            f'{path} is not below {root}: give a folder by --root that holds all images'
        )
    # An id is a relative path, even if no more is in common than / or s3://.
    return path[len(start) :].replace('://', '/', 1).lstrip('/')
