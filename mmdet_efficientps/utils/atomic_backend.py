# Licensed under the Apache License, Version 2.0. See LICENSE.
"""MMEngine's local files, written so that they are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from .atomic_file import atomic_path


class AtomicLocalBackend(LocalBackend):
    """Local files that a kill or a power failure leaves whole, old or new.

    Configs ask for it by ``backend_args=dict(backend='atomic')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file under another name, to the disk, and rename it.

        Args:
            obj (bytes): What is in it.
            filepath (str | Path): The file; its folder is made.
        """
        with atomic_path(filepath) as temporary, temporary.open('wb') as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(Path(filepath).parent)


def _sync_folder(folder: Path) -> None:
    """Have the new name of a file on the disk, where the system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


register_backend('atomic', AtomicLocalBackend, force=True)
