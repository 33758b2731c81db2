# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import sys

import pytest
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture
def tool(monkeypatch, tmp_path, load_tool):
    """The benchmark on two tiny frames, in this process."""
    load_tool('analysis_tools/benchmarking.py')
    module = load_tool('analysis_tools/benchmark_prepare.py')
    monkeypatch.setattr(module, 'SIZE', (64, 128))
    monkeypatch.setattr(
        module, 'in_fresh_process', lambda function, *arguments: function(*arguments)
    )
    options = ['--frames', '2', '--nproc', '1', '--data', str(tmp_path), '--json']
    monkeypatch.setattr(sys, 'argv', ['benchmark_prepare.py', *options])
    return module


def test_benchmark_compares_equal_outputs(tool, capsys):
    tool.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report['outputs_equal'] is True
    assert [row['name'] for row in report['results']] == list(tool.CONTENDERS)
    assert all(0 < row['median_s'] < 60 for row in report['results'])


def test_benchmark_refuses_outputs_that_differ(tool, monkeypatch):
    def prepare_another(root, out, nproc):
        tool.prepare_cityscapesscripts(root, out, nproc)
        for png in out.rglob('*.png'):
            Image.new('RGB', Image.open(png).size).save(png)

    monkeypatch.setitem(tool.CONTENDERS, 'cityscapesscripts', prepare_another)
    with pytest.raises(SystemExit, match='differ'):
        tool.main()
