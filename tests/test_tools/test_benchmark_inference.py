# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'benchmark_inference.py'


def run(*args):
    command = [sys.executable, str(TOOL), '--config', 'small', '--threads', '1', *args]
    return subprocess.run(command, capture_output=True, text=True)


def test_networks_are_timed_part_by_part_in_turn():
    names = ['ours eager', 'ours prepared', 'panoptic-fpn_r50', 'maskformer_r50']
    process = run('--size', '64x128', '--repeat', '2', '--json', '--only', *names)
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout.splitlines()[-1])
    assert report['benchmark'] == 'inference'
    assert (report['height'], report['width'], report['threads']) == (64, 128, 1)
    assert [row['name'] for row in report['results']] == names
    for row in report['results']:
        parts = row['parts_s']
        assert {'preprocess', 'backbone', 'fusion'} <= parts.keys()
        assert all(seconds > 0 for seconds in parts.values())
        # the parts are most of the whole, and none is counted twice
        assert 0.5 < sum(parts.values()) / row['median_s'] < 1.1
        assert row['peak_extra_mb'] >= 0
    for row in report['results'][:3]:
        assert {'rpn', 'roi', 'semantic', 'neck'} <= row['parts_s'].keys()
        # all sides fuse as many
        assert 25 <= row['instances'] <= 30


def test_a_size_that_networks_would_pad_is_refused():
    process = run('--size', '100x200')
    assert process.returncode == 2
    assert '100x200' in process.stderr
