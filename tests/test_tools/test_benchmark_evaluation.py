# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib.util
import json
import sys

import pytest
import torch

pytestmark = pytest.mark.slow


@pytest.fixture
def tool(load_tool):
    load_tool('analysis_tools/benchmarking.py')
    return load_tool('analysis_tools/benchmark_evaluation.py')


def test_scenes_without_the_wanted_number_of_segments_end_the_search(
    tool, tmp_path, monkeypatch
):
    monkeypatch.setattr(tool, 'MAX_TRIES', 3)
    with pytest.raises(SystemExit, match='0 of 6 scenes .* 900 to 1000 segments'):
        tool.write_images(tmp_path, 2, (64, 128), (900, 1000))


def test_all_evaluators_find_the_same_quality(tool, monkeypatch, capsys):
    # A process for each takes long to start and changes nothing about the quality.
    monkeypatch.setattr(
        tool, 'in_fresh_process', lambda function, *arguments: function(*arguments)
    )
    options = ['--height', '96', '--width', '192', '--images', '2', '--repeat', '1']
    options += ['--segments', '5', '60', '--json']
    monkeypatch.setattr(sys, 'argv', ['benchmark_evaluation.py', *options])
    threads = torch.get_num_threads()
    tool.main()
    torch.set_num_threads(threads)

    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report['benchmark'] == 'panoptic_evaluation'
    assert report['threads'] == 1
    assert 5 <= report['mean_segments'] <= 60
    rows = {row['name']: row for row in report['results']}
    names = ['ours_in_memory', 'ours_from_files', 'cityscapesscripts']
    if importlib.util.find_spec('panopticapi'):
        names.append('mmdet_coco_panoptic_metric')
    assert list(rows) == [*names, 'png_decoding']
    for row in report['results']:
        assert 0 < row['median_s'] < 60
        assert row['peak_extra_mb'] >= 0
    quality = rows['ours_in_memory']['pq']
    # neither trivially right nor trivially wrong
    assert 0.2 < quality < 0.95
    for name in names:
        assert rows[name]['pq'] == pytest.approx(quality, abs=1e-9)
