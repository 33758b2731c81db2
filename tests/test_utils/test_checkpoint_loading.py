# Licensed under the Apache License, Version 2.0. See LICENSE.
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

import mmdet_efficientps  # noqa: F401


class Evil:
    def __reduce__(self):
        return print, ('this must not run',)


class AsksForMore:
    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_the_training_log_of_a_checkpoint_loads_in_the_safe_mode(tmp_path):
    log = HistoryBuffer()
    for value in (1.0, 3.0):
        log.update(value)
    state = dict(log=log, lr=np.float64(0.5), step=np.int64(7), w=torch.ones(2))
    torch.save(state, tmp_path / 'x.pth')
    loaded = torch.load(tmp_path / 'x.pth', weights_only=True)
    assert loaded['log'].mean() == 2.0
    assert loaded['log'].statistics('max') == 3.0
    assert (loaded['lr'], loaded['step']) == (0.5, 7)


@pytest.mark.parametrize('thing', [Evil(), AsksForMore()])
def test_anything_else_is_still_refused(tmp_path, thing):
    torch.save(dict(thing=thing), tmp_path / 'x.pth')
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load(tmp_path / 'x.pth', weights_only=True)
