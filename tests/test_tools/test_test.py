# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Continuing a test that was stopped."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmdet_efficientps.evaluation import DumpPanopticResults

TOOL = Path(__file__).parents[2] / 'tools' / 'test.py'
SPEC = importlib.util.spec_from_file_location('test_tool', TOOL)
test_tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(test_tool)

ONE_ROAD = np.full((2, 2), 8), [{'id': 8, 'category': 1}], [26, 7]


@pytest.fixture
def make_cfg(tmp_path):
    """Config of a test on three images without ground truth."""
    categories = [
        {'id': 26, 'name': 'car', 'isthing': 1},
        {'id': 7, 'name': 'road', 'isthing': 0},
    ]
    images = [
        {'id': k, 'file_name': f'{k}.png', 'height': 2, 'width': 2} for k in (4, 5, 6)
    ]
    content = {'images': images, 'categories': categories}
    (tmp_path / 'images.json').write_text(json.dumps(content))
    checkpoint = tmp_path / 'network.pth'
    checkpoint.write_bytes(b'weights')

    def make():
        dataset = {
            'type': 'PanopticDataset',
            'ann_file': str(tmp_path / 'images.json'),
            'data_prefix': {'img': str(tmp_path)},
            'test_mode': True,
            'pipeline': [],
        }
        return Config(
            {
                'model': {'type': 'EfficientPS'},
                'test_dataloader': {'dataset': dataset},
                'test_cfg': {},
                'load_from': str(checkpoint),
            }
        )

    return make


def open_output(folder, cfg):
    return test_tool.open_panoptic_output(DumpPanopticResults, str(folder), cfg)


def images_to_predict(cfg):
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    return [dataset.get_data_info(k)['img_id'] for k in range(len(dataset))]


def test_images_that_are_there_are_not_predicted_again(tmp_path, make_cfg):
    cfg = make_cfg()
    writer, continued = open_output(tmp_path / 'out', cfg)
    assert not continued
    assert images_to_predict(cfg) == [4, 5, 6]
    writer.output.add(5, *ONE_ROAD)

    cfg = make_cfg()
    writer, continued = open_output(tmp_path / 'out', cfg)
    assert continued
    assert images_to_predict(cfg) == [4, 6]

    # stopped after the last image and before the json
    for image_id in (4, 6):
        writer.output.add(image_id, *ONE_ROAD)
    cfg = make_cfg()
    open_output(tmp_path / 'out', cfg)
    assert len(images_to_predict(cfg)) == 1


@pytest.mark.parametrize('indices', [[2, 1], -2])
def test_a_part_of_the_set_is_continued_as_that_part(tmp_path, make_cfg, indices):
    def make_part():
        cfg = make_cfg()
        cfg.test_dataloader.dataset.indices = indices
        return cfg

    writer, _ = open_output(tmp_path / 'out', make_part())
    writer.output.add(5, *ONE_ROAD)
    cfg = make_part()
    open_output(tmp_path / 'out', cfg)
    assert images_to_predict(cfg) == [6]


def test_predictions_of_other_weights_are_not_continued(tmp_path, make_cfg):
    writer, _ = open_output(tmp_path / 'out', make_cfg())
    writer.output.add(5, *ONE_ROAD)
    (tmp_path / 'network.pth').write_bytes(b'other weights')
    with pytest.raises(SystemExit, match='another checkpoint or config'):
        open_output(tmp_path / 'out', make_cfg())


def test_augmentation_reaches_every_part_of_a_data_set():
    parts = [{'type': 'A', 'pipeline': [1]}, {'type': 'B', 'pipeline': [2]}]
    dataset = {'dataset': {'datasets': parts}}
    test_tool.set_pipeline(dataset, [3])
    assert [part['pipeline'] for part in dataset['dataset']['datasets']] == [[3], [3]]


def test_augmentation_without_settings_says_where_they_are(tmp_path, monkeypatch):
    config = tmp_path / 'config.py'
    config.write_text('model = dict()\n')
    arguments = ['test.py', str(config), 'network.pth', '--tta']
    monkeypatch.setattr('sys.argv', arguments)
    with pytest.raises(SystemExit, match='tta_pipeline in .*datasets/panoptic.py has'):
        test_tool.main()
