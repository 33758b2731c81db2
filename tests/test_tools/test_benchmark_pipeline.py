# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'benchmark_pipeline.py'


def test_benchmark_reports_ours_and_mmdet_as_json():
    pytest.importorskip(
        'panopticapi', reason='pip install --no-deps panopticapi-lite gives it'
    )
    process = subprocess.run(
        [
            *(sys.executable, str(TOOL), '--size', '128', '256', '--density', '12'),
            *('--frames', '4', '--images', '2', '--repeat', '1', '--workers', '1'),
            '--json',
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    report = json.loads(process.stdout.splitlines()[-1])
    assert report['benchmark'] == 'training_pipeline'
    assert report['machine']
    assert report['threads'] == 1
    assert 40 <= report['instances_per_frame'] <= 60
    assert [(row['name'], row['workers']) for row in report['results']] == [
        ('ours', 1),
        ('mmdet', 1),
    ]
    for row in report['results']:
        assert 0 < row['median_s'] < 60
        assert row['peak_extra_mb'] > 0
        assert row['decode_s'] > 0
        assert all(seconds > 0 for seconds in row['steps_s'].values())
    assert 'LoadPanopticMap' in report['results'][0]['steps_s']
    assert 'LoadPanopticAnnotations' in report['results'][1]['steps_s']
