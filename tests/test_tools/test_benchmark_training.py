# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'benchmark_training.py'


def run(*args):
    command = [sys.executable, str(TOOL), '--config', 'small', '--threads', '1', *args]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_steps_are_timed_part_by_part():
    names = ['ours float32', 'ours amp checkpointed', 'panoptic-fpn_r50']
    options = ['--size', '64x128', '--instances', '4', '--repeat', '1', '--json']
    process = run(*options, '--only', *names)
    assert process.returncode == 0, process.stderr
    # nothing else is said
    (line,) = process.stdout.splitlines()
    report = json.loads(line)
    assert report['benchmark'] == 'training'
    assert (report['height'], report['width'], report['instances']) == (64, 128, 4)
    assert [row['name'] for row in report['results']] == names
    forward = {'backbone', 'neck', 'rpn', 'roi', 'semantic'}
    for row in report['results']:
        parts = row['parts_s']
        assert parts.keys() == forward | {'data', 'backward', 'optimizer'}
        assert all(seconds > 0 for seconds in parts.values())
        # the parts are most of the whole, and none is counted twice
        assert 0.5 < sum(parts.values()) / row['median_s'] <= 1.001
        assert row['peak_extra_mb'] > 0
        assert 0 < row['loss'] < 100
    exact, half, _ = (row['loss'] for row in report['results'])
    assert half == pytest.approx(exact, rel=0.05)
    assert half != exact


@pytest.fixture
def tool(load_tool):
    load_tool('analysis_tools/benchmarking.py')
    return load_tool('analysis_tools/benchmark_training.py')


@pytest.mark.parametrize('instances', [0, 1, 30, 1000])
def test_targets_are_rectangles_apart_from_each_other(tool, instances):
    numbers, boxes, labels, semantic = tool.make_targets(256, 512, instances, 8, 11)
    assert numbers.shape == semantic.shape == (256, 512)
    assert len(boxes) == len(labels) == instances
    for k, (x1, y1, x2, y2) in enumerate(boxes):
        inside = numbers == k + 1
        assert inside.sum() == (x2 - x1) * (y2 - y1) > 0
        assert inside[y1:y2, x1:x2].all()
        assert (semantic[inside] == labels[k]).all()
    assert np.unique(semantic[numbers == 0]).tolist() == list(range(8, 19))


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (['--size', '100x200'], '100x200'),
        (['--amp-dtype', 'float16'], '--device cuda'),
        (['--repeat', '0'], '--repeat 0'),
        (['--only', 'ours'], "'ours'"),
    ],
)
def test_what_cannot_be_measured_is_refused(tool, options, named, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['benchmark_training.py', *options])
    with pytest.raises(SystemExit):
        tool.parse_args()
    assert named in capsys.readouterr().err
