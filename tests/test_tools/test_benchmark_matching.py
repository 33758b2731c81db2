# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'benchmark_matching.py'


def run(*options):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, options)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_both_match_the_same_anchors():
    options = ('--size', '256x512', '--instances', 40, '--threads', 1, '--repeat', 1)
    process = run(*options, '--json')
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout.splitlines()[-1])
    assert report['benchmark'] == 'matching'
    assert report['machine']
    ours, theirs = report['results']
    assert (ours['name'], theirs['name']) == ('ours', 'mmdet')
    # 3 anchors in each cell of strides 4 to 32
    cells = sum(256 // stride * 512 // stride for stride in (4, 8, 16, 32))
    assert ours['anchors'] == theirs['anchors'] == 3 * cells
    assert ours['positive'] == theirs['positive'] >= 40
    assert 'get an object' in run(*options).stdout


def test_no_objects_are_refused():
    process = run('--instances', 0)
    assert process.returncode == 2
    assert '--instances 0 is too few' in process.stderr
