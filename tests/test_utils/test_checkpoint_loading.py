# Licensed under the Apache License, Version 2.0. See LICENSE.
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

import mmdet_efficientps  # noqa: F401
from mmdet_efficientps.utils import checkpoint_loading
from mmdet_efficientps.utils.checkpoint_loading import (
    CheckpointError,
    check_state_dict,
    find_state_dict,
    read_checkpoint,
)


class Evil:
    def __reduce__(self):
        return print, ('this must not run',)


class RunsACommand:
    def __reduce__(self):
        # of a module that torch refuses in other words than the rest
        return os.system, ('exit 1',)


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


@pytest.mark.parametrize('thing', [Evil(), RunsACommand(), AsksForMore()])
def test_anything_else_is_still_refused(tmp_path, thing):
    torch.save(dict(thing=thing), tmp_path / 'x.pth')
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load(tmp_path / 'x.pth', weights_only=True)


@pytest.mark.parametrize('thing', [Evil(), RunsACommand(), AsksForMore()])
def test_a_training_refuses_it_too(tmp_path, capsys, thing):
    # load_from, resume and DetInferencer read by MMEngine's loader
    torch.save(dict(thing=thing), tmp_path / 'x.pth')
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'), 'cpu')
    assert 'this must not run' not in capsys.readouterr().out


@pytest.fixture(params=[True, False], ids=['zip', 'old format'])
def checkpoint(request, tmp_path):
    path = tmp_path / 'x.pth'
    state = dict(weight=torch.arange(1000.0), bias=torch.ones(2))
    torch.save(
        dict(state_dict=state, meta=dict(epoch=1)),
        path,
        _use_new_zipfile_serialization=request.param,
    )
    return path


def test_a_checkpoint_is_read(checkpoint):
    state = find_state_dict(read_checkpoint(checkpoint))
    assert torch.equal(state['weight'], torch.arange(1000.0))


@pytest.mark.parametrize('share', [0, 0.001, 0.01, 0.03, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_named(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r'x\.pth is .*get it again'):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('\n<!DOCTYPE html><html><body>Sign in</body></html>', 'is a web page'),
        ('version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
        ('epoch,loss', 'is no checkpoint of PyTorch'),
    ],
)
def test_files_that_are_no_checkpoints_are_told_apart(tmp_path, content, message):
    (tmp_path / 'x.pth').write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / 'x.pth')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nothing\.pth'):
        read_checkpoint(tmp_path / 'nothing.pth')


def test_a_file_with_code_is_read_only_if_asked_to(tmp_path, capsys):
    torch.save(dict(thing=Evil()), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=r'print\).*unsafe=True'):
        read_checkpoint(tmp_path / 'x.pth')
    assert not capsys.readouterr().out
    read_checkpoint(tmp_path / 'x.pth', unsafe=True)
    assert capsys.readouterr().out == 'this must not run\n'


def test_code_of_a_module_that_torch_blocks_is_named_too(tmp_path):
    torch.save(dict(thing=RunsACommand()), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=r'than weights .*\.system\)'):
        read_checkpoint(tmp_path / 'x.pth')


@pytest.mark.parametrize('first_process', [True, False])
def test_a_download_is_there_once_on_every_node(tmp_path, monkeypatch, first_process):
    downloads = []

    def download(url, path, hash_prefix):
        assert hash_prefix is None
        downloads.append(url)
        torch.save({'weight': torch.ones(2)}, path)

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(checkpoint_loading, 'is_main_process', lambda: first_process)
    for _ in range(2):
        state = read_checkpoint('https://example.org/models/x.pth?download=1')
        assert torch.equal(state['weight'], torch.ones(2))
    assert len(downloads) == 1
    assert Path(tmp_path, 'checkpoints', 'x.pth').is_file()


def test_a_download_must_have_the_hash_its_name_ends_with(tmp_path, monkeypatch):
    served, cache = tmp_path / 'served', tmp_path / 'cache'
    served.mkdir()
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(cache))
    torch.save({'weight': torch.ones(2)}, served / 'x.pth')
    digest = hashlib.sha256((served / 'x.pth').read_bytes()).hexdigest()[:8]
    (served / 'x.pth').rename(served / f'x-{digest}.pth')
    (served / 'x-00000000.pth').write_text('<html>Please log in</html>')
    checkpoint_loading._downloaded((served / f'x-{digest}.pth').as_uri())
    with pytest.raises(CheckpointError, match='not give the file its name promises'):
        checkpoint_loading._downloaded((served / 'x-00000000.pth').as_uri())
    assert [p.name for p in (cache / 'checkpoints').iterdir()] == [f'x-{digest}.pth']


def test_a_checkpoint_without_weights_is_refused(tmp_path):
    torch.save([torch.ones(1)], tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='holds a list'):
        read_checkpoint(tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='there are epoch, iter where tensors'):
        find_state_dict(dict(epoch=1, iter=2))


def test_the_prefix_of_several_gpus_is_taken_off():
    state = find_state_dict({'module.conv.weight': torch.ones(1)})
    assert list(state) == ['conv.weight']


def test_all_that_does_not_fit_is_listed():
    net = torch.nn.Linear(2, 3)
    check_state_dict(net.state_dict(), net.state_dict(), 'x.pth')
    with pytest.raises(CheckpointError) as error:
        check_state_dict({'weights': net.weight}, net.state_dict(), 'x.pth')
    assert str(error.value).splitlines() == [
        'x.pth does not fit the network:',
        '2 keys are missing: weight, bias',
        '1 keys are left over: weights',
    ]
    other = torch.nn.Linear(2, 4).state_dict()
    with pytest.raises(CheckpointError, match=r'weight is \(4, 2\), not \(3, 2\)'):
        check_state_dict(other, net.state_dict(), 'x.pth')
