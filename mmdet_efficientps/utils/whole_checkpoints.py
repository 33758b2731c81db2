# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Which of the checkpoints in a folder a training can go on from."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checkpoint_loading import CheckpointError, read_checkpoint


def newest_whole_checkpoint(
    folders: list[Path], warn: Callable[[str], Any] = print
) -> Path | None:
    """Find the checkpoint of the latest iteration that can be resumed from.

    The file ``last_checkpoint``, which may name one that is gone or half written, is
    not asked. Those of the weights alone, such as the best ones, are passed over.

    Args:
        folders (list[Path]): Where checkpoints are; a folder may be missing.
        warn (Callable[[str], Any]): Is told of files that are passed over since they
            are damaged. Defaults to ``print``.

    Returns:
        Path | None: The file, None if there is none.
    """
    series: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for folder in folders:
        for path in folder.glob('*.pth'):
            match = re.fullmatch(r'(.*?)(\d+)', path.stem)
            if match and not match[1].startswith(('.', 'best_')):
                series[match[1]].append((int(match[2]), path))
    newest = []
    for checkpoints in series.values():
        # Within a series a higher number is newer, and one whole file is enough.
        for _, path in sorted(checkpoints, reverse=True):
            try:
                iteration = _iteration_of(path)
            except (CheckpointError, OSError) as error:
                warn(f'{error}. It is passed over')
                continue
            if iteration is not None:
                newest.append((iteration, path.stat().st_mtime, path))
                break
    return max(newest)[2] if newest else None


def _iteration_of(path: Path) -> int | None:
    """Iteration of a checkpoint, None if it is not one to resume from.

    Raises:
        CheckpointError: If the file is damaged.
    """
    meta = read_checkpoint(path)
    if not {'meta', 'optimizer', 'message_hub'} <= meta.keys():
        return None
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f'{path} is damaged ({error})') from error
    if damaged:
        raise CheckpointError(f'{path} is damaged: {damaged} in it')
    return int(meta['meta'].get('iter', 0))
