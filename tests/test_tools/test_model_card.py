# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import os
import sys

import pytest
import torch
import yaml

THINGS, STUFF = ('car', 'person'), ('road',)


@pytest.fixture
def work_dir(tmp_path, tiny_config):
    """What a training leaves: two checkpoints, and the log of two validations."""
    folder = tmp_path / 'mine'
    log = folder / '20261127_075152/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    records = [
        {'loss': 1.5, 'step': 20},
        {'panoptic/PQ': 40.0, 'semantic/mIoU': 60.0, 'step': 20},
        {'panoptic/PQ': 41.256, 'panoptic/car_PQ': 50.0, 'step': 40},
    ]
    log.write_text('\n'.join(map(json.dumps, records)))
    meta = dict(
        cfg=tiny_config.pretty_text,
        experiment_name='small_net_20261127_075152',
        dataset_meta=dict(
            classes=THINGS + STUFF, thing_classes=THINGS, stuff_classes=STUFF
        ),
    )
    weights = {
        'conv.weight': torch.zeros(20, 500),
        'bn.running_mean': torch.zeros(20),
    }
    for iteration, name in ((20, 'iter_20.pth'), (40, 'best_panoptic_PQ_iter_40.pth')):
        torch.save(
            dict(state_dict=weights, meta=dict(meta, iter=iteration)), folder / name
        )
    (folder / 'last_checkpoint').write_text('/where/it/was/iter_20.pth')
    return folder


@pytest.fixture
def write_card(load_tool, work_dir, monkeypatch, tmp_path):
    tool = load_tool('model_card.py')

    def _write_card(*options):
        out = tmp_path / 'README.md'
        arguments = (work_dir, '--license', 'apache-2.0', '--out', out, *options)
        monkeypatch.setattr(sys, 'argv', ['model_card.py', *map(str, arguments)])
        tool.main()
        text = out.read_text()
        _, head, body = text.split('---\n', 2)
        return yaml.safe_load(head), body

    return _write_card


def test_card_is_of_the_best_checkpoint_and_its_validation(write_card):
    head, body = write_card()
    assert head['license'] == 'apache-2.0'
    (result,) = head['model-index'][0]['results']
    assert [(m['type'], m['value']) for m in result['metrics']] == [
        ('panoptic_pq', 41.26)
    ]
    assert '| PQ | 41.26 |' in body
    assert '| car | 50.00 |' in body
    assert '| car, person | road |' in body
    # without what norm layers count
    assert '| parameters | 0.01 M |' in body
    assert 'gtFine/cityscapes_panoptic_val.json' in body
    assert '# small_net\n' in body
    assert 'not measured' in body


def test_last_checkpoint_is_taken_where_none_is_best(write_card, work_dir):
    (work_dir / 'best_panoptic_PQ_iter_40.pth').unlink()
    _, body = write_card('--speed', '3 images/s on a toaster', '--dataset', 'Mine')
    assert '| mIoU | 60.00 |' in body
    assert '3 images/s on a toaster' in body


def test_hugging_face_reads_it(write_card, tmp_path):
    hub = pytest.importorskip('huggingface_hub', reason='comes with gradio')
    write_card('--dataset', 'Mine')
    data = hub.ModelCard((tmp_path / 'README.md').read_text()).data
    assert data.license == 'apache-2.0'
    (result,) = data.eval_results
    assert result.dataset_name == 'Mine'
    assert result.metric_name == 'PQ'
    assert result.metric_value == 41.26


def test_not_validated_is_said(write_card, work_dir):
    for log in work_dir.glob('*/vis_data/scalars.json'):
        os.remove(log)
    head, body = write_card()
    assert 'model-index' not in head
    assert 'it was not validated' in body


def test_terms_of_converted_weights_are_passed_on(write_card, work_dir):
    path = work_dir / 'best_panoptic_PQ_iter_40.pth'
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['license'] = 'for academic use'
    torch.save(checkpoint, path)
    _, body = write_card()
    assert 'for academic use' in body


def test_folder_without_checkpoint_is_refused(write_card, work_dir):
    for path in work_dir.glob('*.pth'):
        path.unlink()
    with pytest.raises(SystemExit, match='give the work folder of a training'):
        write_card()
