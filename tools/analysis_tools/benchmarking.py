# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What the benchmark scripts of this folder share."""

import argparse
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import wraps
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

MB = 2**20
# Short names of configs, and the size of their images.
CONFIGS = {
    'paper': ('efficientps_effb5_16xb1-50k_cityscapes-1024x2048', '512x1024'),
    'medium': ('efficientps_lite2-medium_1xb2-1520_toy-city-512x1024', '512x1024'),
    'small': ('efficientps_lite0-small_1xb2-760_toy-city-256x512', '256x512'),
}


def machine(device: str = 'cpu') -> str:
    """Describe the machine: processor, CPUs, memory, and GPU if one is used.

    Args:
        device: Torch device of the benchmark.

    Returns:
        One line of text.
    """
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    parts = [
        names[0] if names else platform.machine(),
        f'{os.cpu_count()} CPUs',
        f'{memory:.0f} GiB',
    ]
    if device != 'cpu':
        import torch

        found = torch.cuda.is_available()
        parts.append(torch.cuda.get_device_name(device) if found else 'no CUDA GPU')
    return ', '.join(parts)


def print_json(
    benchmark: str, results: list[dict], threads: int, device: str = 'cpu', **settings
) -> None:
    """Print the report of a benchmark as one JSON object on one line.

    Args:
        benchmark: Name of the benchmark.
        results: One dict per contender, ours first; ``name`` and, where they apply,
            ``median_s`` (seconds per image) and ``peak_extra_mb`` (MB of 2**20 bytes).
        threads: Number of CPU threads.
        device: Torch device of the benchmark.
        **settings: What else says under which conditions it ran.
    """
    report = {'benchmark': benchmark, 'machine': machine(device), 'threads': threads}
    print(json.dumps(report | {'device': device} | settings | {'results': results}))


def resident_mb() -> float:
    """Resident memory of this process in MB of 2**20 bytes."""
    return _read_status('VmRSS')


def peak_resident_mb() -> float:
    """Highest resident memory since the start or :func:`reset_peak`, in MB."""
    return _read_status('VmHWM')


def reset_peak() -> None:
    """Let :func:`peak_resident_mb` start anew from what is resident now."""
    Path('/proc/self/clear_refs').write_text('5')


def _read_status(field: str) -> float:
    status = Path('/proc/self/status').read_text()
    return int(re.search(rf'{field}:\s+(\d+) kB', status)[1]) * 1024 / MB


@contextmanager
def peak_memory(device: str, found: dict) -> Iterator[None]:
    """Put into ``peak_extra_mb`` by how much the memory rises inside, in MB."""
    if device != 'cpu':
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / MB
        yield
        found['peak_extra_mb'] = torch.cuda.max_memory_allocated(device) / MB - before
        return
    reset_peak()
    before = resident_mb()
    yield
    found['peak_extra_mb'] = peak_resident_mb() - before


def in_fresh_process(function: Callable, *args: Any) -> Any:
    """Call a function in a process of its own, which nothing has warmed or bloated.

    Args:
        function: Function of the calling script, at its top level.
        *args: Its arguments.

    Returns:
        What it returns.
    """
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


class Timer:
    """Adds up the seconds of parts, each by a name."""

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = {}
        self.found: dict[str, int] = {}
        self.synchronize = synchronize

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done inside as a part."""
        self.synchronize()
        start = time.perf_counter()
        yield
        self.synchronize()
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def wrap(self, owner: Any, method: str, name: str, count: str = '') -> None:
        """Time a method of an object as a part, and count what it finds."""
        call = getattr(owner, method)

        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                result = call(*args, **kwargs)
            if count:
                self.found[count] = len(result[0])
            return result

        setattr(owner, method, timed)

    def wrap_calls(self, module: Any, name: str) -> None:
        """Time what is called as a module, compiled or not, as a part."""
        running = ExitStack()
        module.register_forward_pre_hook(
            lambda *_: running.enter_context(self.part(name)), prepend=True
        )
        module.register_forward_hook(lambda *_: running.close())


def make_image(height: int, width: int) -> np.ndarray:
    """Make an image of smooth noise, (height, width, 3), uint8."""
    import cv2

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 512x1024."""
    try:
        height, width = (int(side) for side in text.split('x'))
    except ValueError:
        height = width = 0
    if min(height, width) < 32 or height % 32 or width % 32:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no HEIGHTxWIDTH of multiples of 32, such as 512x1024'
        )
    return height, width
