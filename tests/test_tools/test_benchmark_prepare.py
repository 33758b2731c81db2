# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

TOOLS = Path(__file__).parents[2] / 'tools' / 'analysis_tools'


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The benchmark on two tiny frames, in this process."""
    monkeypatch.syspath_prepend(TOOLS)
    spec = importlib.util.spec_from_file_location(
        'benchmark_prepare', TOOLS / 'benchmark_prepare.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
