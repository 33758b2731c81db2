# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / 'tools' / 'analysis_tools'


@pytest.fixture
def tool(load_tool):
    """The script, after those that it imports."""
    load_tool('analysis_tools/benchmarking.py')
    load_tool('analysis_tools/benchmark_inference.py')
    return load_tool('analysis_tools/gpu_report.py')


def run(out, *arguments):
    """Run the script on the CPU."""
    return subprocess.run(
        [
            *(str(TOOLS / 'gpu_report.sh'), '--device', 'cpu', '--size', '64x128'),
            *('--config', 'small', '--out', str(out), *arguments),
        ],
        env=os.environ | {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )


def report(out, *arguments, status=0):
    """Run the script on the CPU; gives its report and table."""
    result = run(out, *arguments)
    assert result.returncode == status, result.stderr[-3000:]
    content = json.loads((out / 'report.json').read_text())
    assert (out / 'report.md').read_text() in result.stdout
    return content['steps'], result.stdout


@pytest.mark.slow
def test_the_cpu_equals_itself(tmp_path):
    steps, table = report(
        tmp_path, '--steps', 'equality iabn determinism', '--minutes', '30'
    )
    rows = steps['equality']['results']
    assert [row['name'] for row in rows if not row['ok']] == []
    names = {row['name'] for row in rows}
    assert {'backbone', 'fusion, same pixels', "iABN, engine 'torch'"} <= names
    assert {row['median_s'] > 0 for row in steps['iabn']['results']} == {True}
    for row in steps['determinism']['results']:
        assert row['losses_equal']
        assert row['weights_equal']
    assert '| backbone | 0 | 0.001 | yes |' in table


def test_a_step_that_fails_is_a_line_of_the_report(tmp_path):
    steps, table = report(
        tmp_path, '--steps', 'equality', '--config', 'no_config', status=1
    )
    assert 'no_config' in steps['equality']['failed']
    assert 'Failed: ' in table


def test_a_step_without_time_is_a_line_of_the_report(tmp_path):
    steps, _ = report(tmp_path, '--steps', 'iabn batches', '--minutes', '0')
    assert list(steps)[:2] == ['iabn', 'training_batch2_float32']
    assert len(steps) == 7
    for step in steps.values():
        assert step == {'failed': 'no time was left'}


def test_only_files_of_a_former_report_are_replaced(tmp_path):
    out = tmp_path / 'report'
    arguments = ('--steps', 'iabn', '--minutes', '0')
    report(out, *arguments)
    mine = [out / name for name in ('notes.json', 'train.log', 'training_notes.log')]
    for path in mine:
        path.write_text('mine')
    (out / 'inference.log').write_text('of a former run')
    steps, _ = report(out, *arguments)
    assert list(steps) == ['iabn']
    assert {path.read_text() for path in mine} == {'mine'}
    assert not (out / 'inference.log').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'is not empty and not of a former report'),
        (('--steps', 'equality speed'), 'there is no step speed'),
        (('--minutes', '0.5'), '--minutes takes a whole number, got 0.5'),
        (('--minutes', '1+end'), '--minutes takes a whole number'),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_touched(tmp_path, arguments, message):
    (tmp_path / 'report.json').write_text('mine')
    result = run(tmp_path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ['mine']


def test_a_difference_is_the_exit_status(tool, tmp_path):
    for value in (0.5, 2):
        rows = [tool.result('neck', value, 1)]
        (tmp_path / 'equality.json').write_text(json.dumps({'results': rows}))
        assert tool.write_report(tmp_path, 'cpu', ['equality']) == (value < 1)
    assert tool.write_report(tmp_path, 'cpu', [])


def test_a_machine_without_a_gpu_has_a_report_too(tool, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    tool.write_report(tmp_path, 'cuda', [])
    assert 'no CUDA GPU' in (tmp_path / 'report.md').read_text()


def test_differences_are_relative_and_hide_no_nan(tool):
    expected = torch.tensor([1.0, -4.0])
    assert tool.difference(torch.tensor([1.5, -4.0]), expected) == 0.125
    pairs = [[expected, torch.tensor([float('nan'), 0])], [expected, expected]]
    value = tool.difference(*pairs)
    assert value != value
    assert not tool.result('x', value, 1)['ok']


def test_tables_have_the_columns_of_all_rows(tool):
    rows = [{'name': 'a', 'ok': True}, {'name': 'b', 'parts_s': {'x': 0.125}}]
    text = tool.markdown(
        {'machine': 'M', 'steps': {'s': {'results': rows}, 't': {'failed': 'why'}}}
    )
    assert text.splitlines() == [
        *('# M', '', '## s', ''),
        '| name | ok | parts_s |',
        '|---|---|---|',
        '| a | yes |  |',
        '| b |  | x 0.125 |',
        *('', '## t', '', 'Failed: why'),
    ]
