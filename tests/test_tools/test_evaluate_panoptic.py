# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from mmdet_efficientps.structures.panoptic import write_panoptic_png

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'evaluate_panoptic.py'
CATEGORIES = [
    {'id': 26, 'name': 'car', 'isthing': 1},
    {'id': 7, 'name': 'road', 'isthing': 0},
]
GT = np.array([[26001, 26001, 7, 7], [26001, 26001, 7, 7]])
PRED = np.array([[1, 1, 1, 2], [1, 1, 2, 2]])


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Run the command on two segments; gives what --out has."""
    for kind, ids, table in (
        ('gt', GT, {26001: 26, 7: 7}),
        ('pred', PRED, {1: 26, 2: 7}),
    ):
        write_panoptic_png(tmp_path / kind / 'a.png', ids)
        segments = [
            {'id': k, 'category_id': c, 'area': int((ids == k).sum()), 'iscrowd': 0}
            for k, c in table.items()
        ]
        annotation = {'image_id': 1, 'file_name': 'a.png', 'segments_info': segments}
        content = {'annotations': [annotation], 'categories': CATEGORIES}
        (tmp_path / f'{kind}.json').write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)

    def run(*options):
        arguments = ['gt.json', 'pred.json', '--nproc', '1', '--out', 'out.json']
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments, *options])
        runpy.run_path(str(TOOL), run_name='__main__')
        return json.loads(Path('out.json').read_text())

    return run


def test_prints_and_writes_the_quality(evaluate, capsys):
    values = evaluate()
    assert values['car_PQ'] == pytest.approx(100 * 4 / 5)
    assert values['road_PQ'] == pytest.approx(100 * 3 / 4)
    assert values['PQ'] == pytest.approx(77.5)
    assert '| All (2 classes)    | 77.50 |' in capsys.readouterr().out
    assert 'Boundary_PQ' not in values


def test_boundary_pq_on_request(evaluate):
    # Segments of two rows are all boundary.
    values = evaluate('--boundary')
    assert values['Boundary_PQ'] == values['PQ']


def test_problems_end_with_status_1_and_no_result(evaluate):
    Path('pred/a.png').unlink()
    with pytest.raises(SystemExit, match=r'(?s)1 problem.*PNG does not exist.*a\.png'):
        evaluate()
    assert not Path('out.json').exists()


def test_a_folder_is_refused_before_the_work(evaluate, tmp_path):
    (tmp_path / 'tables').mkdir()
    with pytest.raises(SystemExit, match='--out tables is a folder: give a file'):
        evaluate('--out', 'tables')
