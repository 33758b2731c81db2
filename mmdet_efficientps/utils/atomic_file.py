# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Files that are either whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file under another name and rename it once it is complete.

    A run that is killed leaves no half-written file that a later run would take for
    a finished one. Folders on the way are made.

    Example::

        with atomic_path('out/a.png') as temporary:
            Image.fromarray(labels).save(temporary)

    Args:
        path (str | Path): Where the file shall be.

    Yields:
        Path: Where to write it: the same folder and suffix, a hidden name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tmp{path.suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
