# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'benchmark_fusion.py'


def test_benchmark_reports_ours_and_mmdet_as_json():
    size = ['--height', '64', '--width', '128', '--instances', '4', '--repeat', '2']
    process = subprocess.run(
        [sys.executable, str(TOOL), *size, '--threads', '1', '--json'],
        check=True,
        capture_output=True,
        text=True,
    )
    report = json.loads(process.stdout.splitlines()[-1])
    assert report['benchmark'] == 'panoptic_fusion'
    assert report['machine']
    assert report['threads'] == 1
    names = [row['name'] for row in report['results']]
    assert names == ['ours', 'ours_numpy', 'mmdet_heuristic']
    for row in report['results']:
        assert 0 < row['median_s'] < 60
        assert row['peak_extra_mb'] >= 0
