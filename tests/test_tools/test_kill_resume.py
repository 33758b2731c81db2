# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import sys
from pathlib import Path

import pytest
import torch

TOOL = 'analysis_tools/kill_resume.py'


@pytest.mark.slow
def test_a_training_that_is_killed_three_times_ends_the_same(
    load_tool, tmp_path, monkeypatch, capsys
):
    tool = load_tool(TOOL)
    arguments = ['kill_resume.py', '--kills', '3', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    tool.main()
    printed = capsys.readouterr().out
    assert '3 kills, ' in printed
    assert 'equal to the bit' in printed


def write_run(folder, losses, weight):
    folder.mkdir()
    lines = [json.dumps({'iter': k + 1, 'loss': x}) for k, x in enumerate(losses)]
    (folder / 'losses.jsonl').write_text('\n'.join(lines))
    weights = {'state_dict': {'w': torch.tensor(weight)}}
    torch.save(weights, folder / f'iter_{len(losses)}.pth')


def test_differences_are_found(load_tool, tmp_path):
    tool = load_tool(TOOL)
    write_run(tmp_path / 'alone', [1.5, 1.25], 3.0)
    write_run(tmp_path / 'killed', [1.5, 1.2500001], 3.5)
    killed, alone = (
        tool.Training(Path(), tmp_path / name) for name in ('killed', 'alone')
    )
    assert tool.differences(alone, alone, 2) == []
    assert tool.differences(killed, alone, 2) == ['losses of iteration 2', 'weights w']
