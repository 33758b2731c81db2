# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Keeps two runs out of one work folder."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = '.training.lock'
_held: dict[Path, IO[str]] = {}


def claim_work_dir(folder: str | Path) -> None:
    """Claim a folder for the training of this process, until the process ends.

    A lock of the operating system, so one that is killed leaves none behind; unlike
    those of ``flock``, it is not inherited by worker processes that outlive it by
    seconds. Claiming a folder twice in a process does nothing.

    Args:
        folder (str | Path): The work folder; it is made if it is not there.

    Raises:
        BlockingIOError: If another training runs in it; says which.
        OSError: If nothing can be written there.
    """
    folder = Path(folder).resolve()
    if folder in _held:
        return
    with _explained_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open('a+')
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            owner = file.read().strip()
            file.close()
            raise BlockingIOError(
                f'another training is running in {folder}'
                + (f' ({owner})' if owner else '')
                + ': wait until it ends, or take another --work-dir'
            ) from None
        # A file system without locks: go on without one.
    with _explained_errors(folder):
        file.seek(0)
        file.truncate()
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
    _held[folder] = file


def check_work_dir(folder: str | Path) -> None:
    """Check that a folder can be written into, without claiming it.

    Args:
        folder (str | Path): The work folder; it is made if it is not there.

    Raises:
        OSError: If nothing can be written there.
    """
    folder = Path(folder).resolve()
    with _explained_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile('w', dir=folder) as file:
            # A full disk shows when something is written.
            file.write('test')
            file.flush()


@contextmanager
def _explained_errors(folder: Path) -> Iterator[None]:
    """Have an error of the system name the folder and say what to do."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            error.errno,
            f'nothing can be written into the work folder {folder} '
            f'({error.strerror}): take another one by --work-dir',
        ) from error


def release_work_dir(folder: str | Path) -> None:
    """Release a folder before the process ends.

    Args:
        folder (str | Path): The work folder; one that is not claimed is passed over.
    """
    if file := _held.pop(Path(folder).resolve(), None):
        file.close()
