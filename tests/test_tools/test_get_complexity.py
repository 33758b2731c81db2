# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS

from mmdet_efficientps import get_config

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'get_complexity.py'
count_complexity = runpy.run_path(str(TOOL))['count_complexity']
PARTS = ('backbone', 'neck', 'rpn', 'bbox', 'mask', 'semantic', 'total')
RELEASE = 'efficientps-release_effb5_16xb1-160e_cityscapes-1024x2048'
PAPER = 'efficientps_effb5_16xb1-50k_cityscapes-1024x2048'

# The network of the release, counted in its own code. Its heads have rows for
# background that mmdet's have not: 4 box deltas of 1024 weights and a bias, 1 mask
# channel of 256 weights and a bias.
RELEASE_PARAMS = dict(
    backbone=23148912,
    neck=3557376,
    rpn=593935,
    bbox=13941805 - 4 * (1024 + 1),
    mask=540169 - (256 + 1),
    semantic=1206547,
    total=42988744 - 4357,
)
RELEASE_GMAC = dict(
    backbone=98.2,
    neck=109.3,
    rpn=103.3,
    bbox=13.9,
    mask=10.6,
    semantic=16.5,
    total=351.9,
)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process; gives what it prints."""

    def _run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')
        return capsys.readouterr().out

    return _run


def part(counts, key, scale=1):
    return {name: round(counts[name][key] / scale, 1) for name in counts}


def test_the_release_network_has_its_parameters_and_macs(run):
    report = json.loads(run(RELEASE, '--json').splitlines()[-1])
    assert report['shape'] == [1024, 2048]
    assert (report['boxes'], report['masks']) == (1000, 100)
    assert part(report['components'], 'params') == RELEASE_PARAMS
    assert part(report['components'], 'macs', 1e9) == RELEASE_GMAC


def test_separable_output_convs_save_what_the_paper_network_saves():
    counts = count_complexity(MODELS.build(get_config(PAPER).model), (1024, 2048))
    assert round(counts['total']['macs'] / 1e9, 1) == 261.0
    # With the rows for background it would be the 40.90 M of the table.
    assert counts['total']['params'] + 4357 == 40902856


def test_a_conv_is_counted_by_hand():
    class Network(torch.nn.Module):
        with_neck = with_semantic_head = False

        def __init__(self):
            super().__init__()
            self.backbone = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.rpn_head = torch.nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False)
            self.roi_head = torch.nn.Module()
            self.roi_head.with_mask = False
            self.roi_head.bbox_head = torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(8 * 7 * 7, 5)
            )
            extractor = torch.nn.Module()
            extractor.roi_layers = [torch.nn.AdaptiveAvgPool2d((7, 7))]
            extractor.out_channels = 8
            self.roi_head.bbox_roi_extractor = extractor
            self.unused = torch.nn.Linear(2, 3, bias=False)

    assert count_complexity(Network(), (64, 96)) == {
        'backbone': {'params': 8 * 27 + 8, 'macs': 32 * 48 * 8 * 27},
        'rpn': {'params': 8 * 4 * 4, 'macs': 32 * 48 * 8 * 4 * 4},
        'bbox': {'params': 392 * 5 + 5, 'macs': 1000 * 392 * 5},
        'other': {'params': 6, 'macs': 0},
        'total': {
            'params': 224 + 128 + 1965 + 6,
            'macs': 331776 + 196608 + 1960000,
        },
    }


@pytest.mark.parametrize(
    'name',
    [
        'panoptic-fpn_lite0-small_1xb2-760_toy-city-256x512',
        'efficientps_r50_16xb1-50k_cityscapes-1024x2048',
    ],
)
def test_other_networks_are_counted_the_same_way(name):
    counts = count_complexity(MODELS.build(get_config(name).model), (64, 128))
    assert tuple(counts) == PARTS
    assert all(min(p.values()) > 0 for p in counts.values())
    for key in ('params', 'macs'):
        assert counts['total'][key] == sum(counts[name][key] for name in PARTS[:-1])


def test_the_table_says_that_the_number_of_the_paper_is_another(run, tmp_path):
    config = 'efficientps_lite0-small_1xb2-760_toy-city-256x512.py'
    out = run(config, '--shape', 64, 128, '--out', tmp_path / 'a' / 'out.json')
    assert '64x128' in out
    assert '433.94' in out
    report = json.loads((tmp_path / 'a' / 'out.json').read_text())
    total = report['components']['total']
    assert f'{total["params"]:,}' in out
    assert f'{total["macs"] / 1e9:.1f}' in out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['efficientps_effb6'], 'there is no config'),
        ([RELEASE, '--shape', '1000', '2048'], None),
    ],
)
def test_wrong_arguments_are_explained(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    if message is None:
        assert 'multiples of 32' in capsys.readouterr().err
    else:
        assert message in str(error.value)


def test_the_config_is_not_overwritten(run, tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text('model = dict()')
    with pytest.raises(SystemExit, match='--out .*mine.py is an input'):
        run(config, '--out', config)
    assert config.read_text() == 'model = dict()'


def test_a_one_stage_network_is_refused():
    with pytest.raises(ValueError, match='Conv2d is no two-stage detector'):
        count_complexity(torch.nn.Conv2d(3, 3, 1), (64, 64))
