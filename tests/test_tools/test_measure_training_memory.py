# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import sys

import pytest
import torch

SCRIPT = 'analysis_tools/measure_training_memory.py'
SMALL = 'efficientps_lite0-small_1xb2-760_toy-city-256x512'


@pytest.fixture
def tool(load_tool):
    return load_tool(SCRIPT)


def test_saved_tensors_count_once_and_weights_not_at_all(tool):
    count = tool.count_saved_bytes
    values = torch.rand(10, requires_grad=True)
    # The result of exp, the factor of a product, twice the same factor.
    assert count(lambda: values.exp()) == 40
    assert count(lambda: values * values) == 40
    weight = torch.rand(10, requires_grad=True)
    assert count(lambda: values * weight) == 80
    assert count(lambda: values * weight, [weight]) == 40


def test_tensors_count_while_they_live(tool):
    values = torch.rand(10)
    with tool.LiveBytes([values]) as live:
        first = values * 2
        del first
        # Two at a time: a view is no other one, and what is in place makes none.
        second = values * 3
        third = second.view(5, 2).add_(1).exp()
        second.mul_(2)
    del third
    assert live.peak == 80


def test_a_wider_crop_keeps_more(tool, monkeypatch, capsys):
    arguments = ['x', SMALL, '--shapes', '64', '64', '64', '128']
    arguments += ['--predict', '64', '128']
    monkeypatch.setattr(sys, 'argv', arguments)
    tool.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    small, large = report['saved_mb']
    # The stem alone keeps 32 channels at half the size, 32 bytes a pixel.
    assert (large - small) * 1e6 > 64 * 64 * 32
    assert report['bytes_per_pixel'] == pytest.approx(
        (large - small) * 1e6 / (64 * 64), rel=0.05
    )
    # The image and what the stem makes of it: 12 and 32 bytes a pixel.
    assert report['prediction_bytes_per_pixel'] > 44
