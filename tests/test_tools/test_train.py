# Licensed under the Apache License, Version 2.0. See LICENSE.
import runpy
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from mmdet_efficientps.apis.command_line import read_run_config

TOOL = Path(__file__).parents[2] / 'tools' / 'train.py'
CONFIG = 'configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'


def test_conversion_of_iabn_to_plain_batch_norm_is_refused(monkeypatch):
    options = ['--cfg-options', 'sync_bn=torch']
    arguments = ['train.py', str(TOOL.parents[1] / CONFIG), *options]
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit, match="sync_bn='torch'.*InPlaceABNSync"):
        runpy.run_path(str(TOOL), run_name='__main__')


def arguments_of(name, monkeypatch, *given):
    """Arguments that a tool has read, without running it."""
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', *given])
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    return runpy.run_path(str(TOOL.with_name(f'{name}.py')))['parse_args']()


def test_a_config_that_is_not_there_is_named(monkeypatch):
    args = arguments_of('train', monkeypatch, 'gone.py')
    with pytest.raises(SystemExit, match=r'there is no config file gone\.py'):
        read_run_config(args)


def test_a_work_folder_that_cannot_be_is_named_before_anything_is_built(
    monkeypatch, tmp_path
):
    (tmp_path / 'file').write_text('')
    for name, given in (('train', []), ('test', ['gone.pth'])):
        arguments = [f'{name}.py', str(TOOL.parents[1] / CONFIG), *given]
        arguments += ['--work-dir', str(tmp_path / 'file')]
        monkeypatch.setattr(sys, 'argv', arguments)
        monkeypatch.setattr('mmengine.runner.Runner.from_cfg', None)
        with pytest.raises(SystemExit, match='nothing can be written.*--work-dir'):
            runpy.run_path(str(TOOL.with_name(f'{name}.py')), run_name='__main__')


@pytest.mark.parametrize(
    ('name', 'positional'), [('train', ['c.py']), ('test', ['c.py', 'x.pth'])]
)
def test_training_and_testing_share_their_arguments(monkeypatch, name, positional):
    args = arguments_of(
        name,
        monkeypatch,
        *positional,
        *('--work-dir', 'w', '--launcher', 'pytorch', '--local-rank', '3'),
        *('--cfg-options', 'a.b=1', 'c=[1,2]'),
    )
    assert (args.config, args.work_dir, args.launcher) == ('c.py', 'w', 'pytorch')
    assert args.local_rank == 3
    assert args.cfg_options == {'a.b': 1, 'c': [1, 2]}


def test_options_of_the_command_line_go_into_the_config(monkeypatch, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text('a = dict(b=0)')
    args = arguments_of('train', monkeypatch, str(path), '--cfg-options', 'a.b=1')
    config = read_run_config(args)
    assert (config.a.b, config.launcher) == (1, 'none')
    assert config.work_dir == 'work_dirs/mine'
    path.write_text('work_dir = "kept"')
    assert read_run_config(args).work_dir == 'kept'
    args.work_dir = 'given'
    assert read_run_config(args).work_dir == 'given'


@pytest.mark.parametrize(
    ('resume', 'load_from'), [(['--resume'], None), (['--resume', 'x.pth'], 'x.pth')]
)
def test_a_config_that_is_resumed_keeps_the_weights_it_began_with(
    monkeypatch, tmp_path, resume, load_from
):
    configs = []
    monkeypatch.setattr(
        'mmengine.runner.Runner.from_cfg',
        lambda config: configs.append(config) or Mock(),
    )
    options = ['--work-dir', str(tmp_path), *resume, '--cfg-options', 'load_from=a.pth']
    arguments = ['train.py', str(TOOL.parents[1] / CONFIG), *options]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(TOOL), run_name='__main__')
    (config,) = configs
    assert (config.resume, config.load_from) == (True, load_from)
    assert config.start_from == 'a.pth'


def test_mixed_precision_is_for_every_device(monkeypatch, tmp_path):
    configs = []
    monkeypatch.setattr(
        'mmengine.runner.Runner.from_cfg',
        lambda config: configs.append(config) or Mock(),
    )
    options = ['--amp', '--work-dir', str(tmp_path)]
    arguments = ['train.py', str(TOOL.parents[1] / CONFIG), *options]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(TOOL), run_name='__main__')
    assert configs[0].optim_wrapper.type == 'AmpOptimWrapper'
    assert configs[0].optim_wrapper.optimizer.type == 'AdamW'
