# Licensed under the Apache License, Version 2.0. See LICENSE.
import sys
from pathlib import Path

import pytest

from mmdet_efficientps.apis.archive_run import ArchiveRun
from mmdet_efficientps.utils import ProblemList

pytest.importorskip('pyarrow', reason="needs Ray: pip install 'ray[data]'")


@pytest.fixture
def call(load_tool, monkeypatch):
    """Run a tool in this process; the run itself may be replaced by its outcome."""

    def _call(name, *arguments, outcome=None):
        tool = load_tool(name)
        calls = []
        if outcome is not None:

            def predict_to_archive(*args, **kwargs):
                calls.append((args, kwargs))
                return outcome

            monkeypatch.setattr(tool, 'predict_to_archive', predict_to_archive)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        tool.main()
        return calls

    return _call


def test_options_reach_the_run(call, capsys):
    options = '--tile 128x64 --score-thr 0.5 --workers 3 --gpus 0.5 --retry-errors'
    ((args, kwargs),) = call(
        *('predict_archive.py', 'in', 'a.py', 'b.pth', '--out', 'out'),
        *options.split(),
        outcome=ArchiveRun(num_predicted=2, num_known=5, num_missing=0),
    )
    assert args[:2] == ('in', 'out')
    found = {key: args[2][key] for key in ('model', 'weights', 'tile', 'score_thr')}
    assert found == {
        'model': 'a.py',
        'weights': 'b.pth',
        'tile': (128, 64),
        'score_thr': 0.5,
    }
    assert (kwargs['workers'], kwargs['gpus'], kwargs['retry_errors']) == (3, 0.5, True)
    assert '2 images were predicted, 5 were known' in capsys.readouterr().out


def test_errors_and_missing_images_are_told_and_end_with_1(call, capsys):
    problems = ProblemList()
    problems.add('cannot be decoded', '/a.jpg')
    for outcome, text in (
        (ArchiveRun(num_missing=0, problems=problems), '/a.jpg'),
        (ArchiveRun(num_missing=7), '7 images are missing'),
    ):
        with pytest.raises(SystemExit) as exit_:
            call(
                *('predict_archive.py', 'in', 'a.pth', '--out', 'out'), outcome=outcome
            )
        assert exit_.value.code == 1
        assert text in capsys.readouterr().out


def test_damaged_files_are_told_but_no_failure(call, capsys):
    outcome = ArchiveRun(num_missing=0, damaged=[Path('part-1.parquet.damaged')])
    call('predict_archive.py', 'in', 'a.pth', '--out', 'out', outcome=outcome)
    assert 'part-1.parquet.damaged is cut off' in capsys.readouterr().out


def test_a_wrong_command_is_answered_in_words(call, tmp_path):
    pytest.importorskip('ray', reason="needs Ray: pip install 'ray[data]'")
    with pytest.raises(SystemExit, match='error: .*none does not exist'):
        call(
            'predict_archive.py', tmp_path / 'none', 'a.pth', '--out', tmp_path / 'out'
        )
    with pytest.raises(SystemExit, match='error: .*no archive'):
        call('archive_to_coco.py', tmp_path, '--out', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
