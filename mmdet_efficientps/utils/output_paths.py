# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Where results may be written: never over an input, never outside their folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePath


def path_inside(folder: str | Path, name: str | PurePath) -> Path:
    """Give the place of a file in a folder and make sure that it is in there.

    For names that come from a json or an image id, which may be anything.

    Args:
        folder (str | Path): The folder; it need not exist.
        name (str | PurePath): Relative path below it.

    Returns:
        Path: ``folder / name``.

    Raises:
        ValueError: If that is the folder itself or not in it: the name is empty or
            absolute, or goes up, or a link below the folder leads out of it.
    """
    folder = Path(folder)
    path = Path(os.path.normpath(folder / name))
    root = folder.resolve()
    if (
        PurePath(name).is_absolute()
        or '\0' in str(name)
        or Path(os.path.normpath(folder)) not in path.parents
        or not (root == path.parent.resolve() or root in path.parent.resolve().parents)
    ):
        raise ValueError(
            f'{str(name)!r} is no file name inside {folder}: give a relative path '
            "that does not leave the folder ('..', links)"
        )
    return path


@lru_cache(maxsize=1024)
def _resolved(folder: str) -> Path:
    """The folder that a path leads to, links followed."""
    return Path(folder).resolve()


def _identity(path: Path) -> tuple[int, int] | None:
    """What a path leads to, whatever the path; None if there is nothing.

    A file or folder may have several names: by hard links and mounts, and in capitals
    or not on the disks of Windows and macOS.
    """
    try:
        stat = path.stat()
    except OSError:
        return None
    # File systems without such numbers give 0 for all.
    return (stat.st_dev, stat.st_ino) if stat.st_ino else None


@lru_cache(maxsize=1024)
def _identities(folder: str) -> set[tuple[int, int]]:
    """The identities of a folder and of all above it."""
    found = (_identity(path) for path in (Path(folder), *Path(folder).parents))
    return {identity for identity in found if identity}


def check_output(
    out: str | Path, inputs: Iterable[str | Path | None], option: str = 'the output'
) -> None:
    """Refuse to write where inputs are.

    Args:
        out (str | Path): File or folder that will be written.
        inputs (Iterable[str | Path | None]): Files that are read. Addresses with
            ``://`` and None are passed over.
        option (str): What the user calls ``out``, such as '--show-dir'. Defaults to
            'the output'.

    Raises:
        ValueError: If ``out`` is an input or a folder that holds one, links followed
            and by whatever name; names both.
    """
    target = Path(out).resolve()
    identity = _identity(target)
    for path in inputs:
        if path is None or '://' in str(path):
            continue
        path = Path(os.path.abspath(path))
        places = {path, _resolved(str(path.parent)) / path.name}
        if path.is_symlink():
            places.add(path.resolve())
        for place in places:
            if target == place or (identity and identity == _identity(place)):
                raise ValueError(
                    f'{option} {out} is an input of this command and would be '
                    'overwritten: give another file'
                )
            if target in place.parents or identity in _identities(str(place.parent)):
                raise ValueError(
                    f'{option} {out} is a folder that holds inputs of this command, '
                    f'such as {place} in {place.parent}: give another folder'
                )


def check_output_file(
    out: str | Path, inputs: Iterable[str | Path | None], option: str = 'the output'
) -> None:
    """Refuse to write a file where inputs are, or where a folder is.

    Args:
        out (str | Path): File that will be written.
        inputs (Iterable[str | Path | None]): As :func:`check_output`.
        option (str): What the user calls ``out``. Defaults to 'the output'.

    Raises:
        ValueError: As :func:`check_output`, or if ``out`` is a folder.
    """
    check_output(out, inputs, option)
    if Path(out).is_dir():
        raise ValueError(f'{option} {out} is a folder: give a file')
