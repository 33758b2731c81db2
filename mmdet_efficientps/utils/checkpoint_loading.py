# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Reading checkpoints in torch's safe mode, with errors that say what is wrong.

Since 2.6 ``torch.load`` refuses files that hold anything but tensors and plain
containers unless told otherwise, and MMEngine's checkpoints hold the history of the
training log, numpy numbers included. Switching the safe mode off would let a
checkpoint run any code; here just these few harmless types are declared safe.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from packaging.version import Version
from torch import Tensor

# Of a network of another kind hundreds of keys differ: so many are enough to see it.
_NAMED = 20


class CheckpointError(RuntimeError):
    """A checkpoint file that cannot be used; the message says why and what to do."""


def allow_mmengine_checkpoints() -> None:
    """Declare the types in MMEngine's checkpoints safe for ``torch.load``.

    Applies to the whole process; does nothing for a torch whose default is the
    unsafe mode. What is refused stays refused when MMEngine loads: its fork,
    onedl-mmengine, would read the file once more in the unsafe mode.
    """
    if Version(torch.__version__) < Version('2.6'):
        return
    reduced: list[Any] = [x.__reduce__()[0] for x in (np.array(0.0), np.float64(0))]
    numbers = [np.dtype(code) for code in '?bBhHiIlLqQefd']
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            *{type(number) for number in numbers},
            # what numpy calls its own functions has changed over its versions
            *[(f, f'{package}.multiarray.{f.__name__}')
              for f in reduced for package in ('numpy.core', 'numpy._core')],
            # the pickle of a HistoryBuffer names its methods by getattr
            (_history_buffer_method, 'builtins.getattr'),
        ]
    )  # fmt: skip
    # That of the fork allows any getattr as well, and then everything.
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):
        mmengine_checkpoint._safe_torch_load = torch.load


def _history_buffer_method(owner: type, name: str) -> Callable:
    """What ``getattr`` is allowed to be in a checkpoint: HistoryBuffer's methods."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(
            f'the checkpoint asks for {owner!r}.{name}, which is no part of a training '
            'log: the file is damaged or not to be trusted'
        )
    return getattr(HistoryBuffer, name)


def read_checkpoint(source: str | Path, unsafe: bool = False) -> dict:
    """Read a checkpoint as ``torch.load`` does, without running code it may hold.

    Args:
        source (str | Path): A file, an http(s) address, which is downloaded once to
            where torch keeps such files, or any other address MMEngine knows, such
            as 'openmmlab://...'.
        unsafe (bool): Read what the safe mode refuses as well. That runs whatever
            code the file holds: only for files from people you trust. Defaults to
            False.

    Returns:
        dict: The checkpoint: a state dict, or a dict that has one as 'state_dict'.
        Its tensors are on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is empty, a web page, cut off or damaged, no
            checkpoint at all, or needs ``unsafe``; if a download fails.
    """
    source = str(source)
    if source.startswith(('http://', 'https://')):
        path = _downloaded(source)
    elif '://' in source:
        return CheckpointLoader.load_checkpoint(source, 'cpu')
    else:
        path = Path(source).expanduser()
    check_checkpoint_file(path)
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=not unsafe)
    except pickle.UnpicklingError as error:
        # In the safe mode: what the file holds that is no tensor or plain container.
        needs = re.findall(
            r'GLOBAL (\S+) (?:was not an allowed|whose module \S+ is blocked)',
            str(error),
        )
        if unsafe or not needs:
            raise CheckpointError(f'{path} is damaged: {error}') from error
        raise CheckpointError(
            f'{path} holds more than weights ({", ".join(needs)}), and to read that '
            'is to run code of its author. If you trust the file, read it with '
            'unsafe=True (the tools: --unsafe-load)'
        ) from error
    except (EOFError, LookupError, RuntimeError, ValueError) as error:
        # What torch raises depends on where the file ends.
        raise CheckpointError(
            f'{path} is cut off or damaged ({error}): get it again'
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{path} holds a {type(checkpoint).__name__} where a state dict is needed: '
            'save model.state_dict() instead of the model'
        )
    return checkpoint


def check_checkpoint_file(path: str | Path) -> None:
    """Check that a file may be a checkpoint, without reading all of it.

    Args:
        path (str | Path): The file.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is empty, a web page, a pointer to a file in Git LFS,
            cut off, or anything else; says which.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    if problem := _problem_of_file(path):
        raise CheckpointError(f'{path} {problem}')


def find_state_dict(checkpoint: Mapping) -> dict[str, Tensor]:
    """Find the weights in a checkpoint.

    Args:
        checkpoint (Mapping): As :func:`read_checkpoint` returns it.

    Returns:
        dict[str, Tensor]: The state dict, without the prefix ``module.`` that
        training on several GPUs leaves.

    Raises:
        CheckpointError: If nothing or something else than tensors is in it.
    """
    state = checkpoint.get('state_dict', checkpoint)
    others = [k for k, v in state.items() if not isinstance(v, Tensor)]
    if others or not state:
        raise CheckpointError(
            'the checkpoint has no state dict: there are '
            f'{", ".join(map(str, others[:10])) or "no entries"} where tensors '
            'should be'
        )
    return {key.removeprefix('module.'): value for key, value in state.items()}


def weights_origin(checkpoint: Mapping) -> dict[str, str]:
    """Say where weights are from and under which terms they are.

    What is trained or exported from a checkpoint says the same.

    Args:
        checkpoint (Mapping): As :func:`read_checkpoint` returns it.

    Returns:
        dict[str, str]: ``weights_from`` and ``license`` of its ``meta``, as far as
        they are there.
    """
    meta = checkpoint.get('meta') or {}
    return {key: meta[key] for key in ('weights_from', 'license') if key in meta}


def check_keys(state: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Check that a state dict has the keys of a network, no more and no fewer.

    Args:
        state (Iterable[str]): Keys of the state dict.
        expected (Iterable[str]): Keys of the state dict of the network.
        what (str): What ``state`` is, to begin the message with.

    Raises:
        CheckpointError: If keys are missing or left over; lists all of them.
    """
    state, expected = dict.fromkeys(state), dict.fromkeys(expected)
    _complain(
        what,
        {
            'keys are missing': [key for key in expected if key not in state],
            'keys are left over': [key for key in state if key not in expected],
        },
    )


def check_state_dict(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str
) -> None:
    """Check that a state dict fits a network, key by key.

    Args:
        state (Mapping[str, Tensor]): The state dict.
        expected (Mapping[str, Tensor]): The state dict of the network.
        what (str): What ``state`` is, to begin the message with.

    Raises:
        CheckpointError: If keys are missing or left over or shapes differ; lists
            all of them.
    """
    check_keys(state, expected, what)
    shapes = [
        f'{key} is {tuple(value.shape)}, not {tuple(expected[key].shape)}'
        for key, value in state.items()
        if value.shape != expected[key].shape
    ]
    _complain(what, {'tensors have another shape': shapes})


def _complain(what: str, problems: dict[str, list[str]]) -> None:
    """Raise an error that counts and names what is in the lists."""
    lines = []
    for kind, names in problems.items():
        if names:
            more = len(names) - _NAMED
            named = ', '.join(names[:_NAMED])
            lines.append(
                f'{len(names)} {kind}: {named}' + (f', and {more} more' * (more > 0))
            )
    if lines:
        raise CheckpointError('\n'.join([f'{what} does not fit the network:', *lines]))


def _problem_of_file(path: Path) -> str | None:
    """What is wrong with a file before torch reads it, None if nothing is."""
    with path.open('rb') as file:
        head = file.read(512).lstrip()
    if not head:
        return 'is empty: get it again'
    if head[:1] == b'<':
        return (
            'is a web page, not a checkpoint: the link it came from wants a log-in or '
            'a confirmation, or is dead. Open it in a browser and download the file '
            'there'
        )
    if head.startswith(b'version https://git-lfs'):
        return 'is only the pointer to a file in Git LFS: run `git lfs pull`'
    if head.startswith(b'PK') and not zipfile.is_zipfile(path):
        return (
            f'is cut off after {path.stat().st_size} bytes, its end is missing: '
            'get it again'
        )
    if not head.startswith((b'PK', b'\x80')):
        return f'is no checkpoint of PyTorch, it begins with {head[:8]!r}'
    return None


def _downloaded(url: str) -> Path:
    """Download a file once, by the first process of several."""
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    path = folder / Path(urlparse(url).path).name
    if is_main_process():
        _download(url, path)
    barrier()
    # Another node may have another disk.
    _download(url, path)
    return path


def _download(url: str, path: Path) -> None:
    """Download a file unless it is there, and check the hash its name ends with."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # OpenMMLab's files end with the first eight digits of their SHA-256.
    sha256 = re.search(r'-([0-9a-f]{8,64})\.pth$', path.name)
    try:
        torch.hub.download_url_to_file(url, str(path), sha256 and sha256[1])
    except RuntimeError as error:
        raise CheckpointError(
            f'{url} did not give the file its name promises ({error}): a damaged '
            'download, or a page of a proxy. Try again, or download it in another '
            f'way and put it at {path}'
        ) from error
    except OSError as error:
        raise CheckpointError(
            f'{url} could not be downloaded ({error}). Download it in another way '
            f'and put it at {path}, or name the file in place of the address'
        ) from error
