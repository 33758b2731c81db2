# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Signals by which clusters and spot machines announce that a run must end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Slurm and torchrun may both send the one signal that was meant.
SECONDS_OF_ONE_SIGNAL = 2.0


class StopSignals:
    """Notes SIGTERM and SIGUSR1, so that a run can end where it is fit to.

    A second one, at least two seconds later, ends the process at once. Processes that
    are forked from this one end at the first, as without this: pools stop theirs so.

    Attributes:
        received (int): Number of the signal that has come, 0 before.
    """

    def __init__(self) -> None:
        self.received = 0
        self._time = 0.0
        self._process = 0
        self._former: dict[int, Any] = {}

    def install(self) -> None:
        """Begin to note signals; in the main thread, elsewhere it does nothing."""
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            for number in STOP_SIGNALS:
                self._former.setdefault(number, signal.signal(number, self._note))

    def uninstall(self) -> None:
        """Let signals do what they did before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            _end_by(number)
            return
        now = time.monotonic()
        if not self.received:
            self.received, self._time = number, now
            # print() may be what is interrupted, and cannot be entered twice.
            os.write(
                2,
                f'\n{signal.Signals(number).name}: a checkpoint is written after this '
                'iteration, then the run ends. Send it again to end at once\n'.encode(),
            )
        elif now - self._time > SECONDS_OF_ONE_SIGNAL:
            _end_by(number)


def _end_by(number: int) -> None:
    """Do what a signal does where nobody notes it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def let_workers_outlive_signals(loader: DataLoader) -> None:
    """Have the workers of a loader live on when all of a job's processes are signalled.

    They are needed, or at least must not fail, until the checkpoint is written; they
    end when their parent does.

    Args:
        loader (DataLoader): A loader whose workers have not been started.
    """
    loader.worker_init_fn = partial(_init_worker, loader.worker_init_fn)


def _init_worker(init: Callable[[int], None] | None, worker: int) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):
        # A handler is not told who sends; one who waits is. Threads inherit the mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if init is not None:
        init(worker)


def _end_with_parent() -> None:
    """Obey a SIGTERM of the process that started this one, and of no other."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
