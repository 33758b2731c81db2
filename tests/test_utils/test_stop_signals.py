# Licensed under the Apache License, Version 2.0. See LICENSE.
import os
import signal
import time

import pytest

from mmdet_efficientps.utils.stop_signals import StopSignals


@pytest.fixture
def signals():
    noted = StopSignals()
    noted.install()
    yield noted
    noted.uninstall()


def test_a_signal_is_noted_and_ends_nothing(signals):
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.received == signal.SIGUSR1


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_fork_of_the_process(signals, number):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, b'ready')
        time.sleep(30)
        os._exit(0)
    os.read(reader, 5)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
    assert not signals.received


def test_afterwards_signals_do_what_they_did():
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]
    noted = StopSignals()
    noted.install()
    noted.uninstall()
    assert before == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]
