# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import os
import sys

import pytest
import torch
import yaml
from mmengine.config import Config

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


def result_of(head):
    """The only result in the header of a card."""
    (network,) = head['model-index']
    (result,) = network['results']
    return result


def test_card_is_of_the_best_checkpoint_and_its_validation(write_card):
    head, body = write_card()
    assert head['license'] == 'apache-2.0'
    metrics = [(m['type'], m['value']) for m in result_of(head)['metrics']]
    assert metrics == [('panoptic_pq', 41.26)]
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
    assert 'the logs have no validation of it' in body


@pytest.fixture
def change(work_dir):
    """Change the config, and what the best checkpoint holds about itself."""

    def _change(options=None, name='best_panoptic_PQ_iter_40.pth', **meta):
        path = work_dir / 'best_panoptic_PQ_iter_40.pth'
        checkpoint = torch.load(path, weights_only=True)
        config = Config.fromstring(checkpoint['meta']['cfg'], '.py')
        config.merge_from_dict(options or {})
        checkpoint['meta'].update(meta, cfg=config.pretty_text)
        path.unlink()
        torch.save(checkpoint, work_dir / name)

    return _change


BY_EPOCH = {'default_hooks.logger.log_metric_by_epoch': True}


def test_validation_of_a_training_that_counts_epochs_is_found(write_card, change):
    change(BY_EPOCH, 'best_panoptic_PQ_epoch_20.pth', epoch=20, iter=700)
    _, body = write_card()
    assert 'Validation after epoch 20, in percent' in body
    assert '| PQ | 40.00 |' in body


def test_checkpoint_within_an_epoch_has_no_validation(write_card, change, work_dir):
    change(BY_EPOCH, 'iter_720.pth', epoch=20, iter=720)
    _, body = write_card('--checkpoint', work_dir / 'iter_720.pth')
    assert 'the logs have no validation of it' in body


def test_a_card_that_a_person_has_filled_in_stays(write_card, tmp_path):
    (tmp_path / 'README.md').write_text('mine')
    with pytest.raises(SystemExit, match=r'README\.md exists.*--overwrite'):
        write_card()
    assert (tmp_path / 'README.md').read_text() == 'mine'
    write_card('--overwrite')


@pytest.mark.parametrize(
    ('options', 'meta', 'origin'),
    [
        ({}, {}, 'from scratch'),
        ({'load_from': 'a.pth'}, {}, 'a.pth'),
        # As tools/train.py --resume leaves them.
        ({'load_from': None, 'start_from': 'a.pth', 'resume': True}, {}, 'a.pth'),
        ({'load_from': 'b.pth', 'resume': True}, {}, 'from scratch'),
        ({'load_from': 'b.pth', 'resume': True}, {'weights_from': 'a.pth'}, 'a.pth'),
    ],
)
def test_weights_at_the_start_are_not_those_of_a_resume(
    write_card, change, options, meta, origin
):
    change(options, **meta)
    _, body = write_card()
    assert f'| weights at the start | {origin} |' in body


def test_terms_of_converted_weights_are_passed_on(write_card, change):
    change(license='GPLv3, for academic use')
    # they cannot be under the licence that the command says
    with pytest.raises(SystemExit, match=r'apache-2\.0 is not that of the weights'):
        write_card()
    head, body = write_card('--license', 'other', '--license-name', 'gpl-academic')
    assert head['license'] == 'other'
    assert head['license_name'] == 'gpl-academic'
    assert head['license_link'] == 'LICENSE'
    assert 'gpl-academic. GPLv3, for academic use.' in body


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--license', 'Apache 2.0'), 'in small letters'),
        (('--license', 'other'), 'belong together'),
        (('--license-name', 'mine'), 'belong together'),
    ],
)
def test_licences_that_hugging_face_does_not_take_are_refused(
    write_card, options, message
):
    with pytest.raises(SystemExit, match=message):
        write_card(*options)


def test_data_are_named_by_their_folder(write_card, change):
    # of the type of Cityscapes
    head, _ = write_card()
    assert result_of(head)['dataset'] == {'type': 'toy_city', 'name': 'toy_city'}
    change({'val_dataloader.dataset.data_root': None})
    head, _ = write_card('--overwrite')
    assert result_of(head)['dataset']['name'] == 'CityscapesPanopticDataset'


def test_other_networks_are_not_called_efficientps(write_card, change):
    head, body = write_card()
    assert 'EfficientPS (Mohan and Valada, IJCV 2021)' in body
    change({'model.type': 'MaskFormer'})
    head, body = write_card('--overwrite')
    assert 'EfficientPS' not in body
    assert 'with MaskFormer' in body
    assert 'maskformer' in head['tags']


def test_folder_without_checkpoint_is_refused(write_card, work_dir):
    for path in work_dir.glob('*.pth'):
        path.unlink()
    with pytest.raises(SystemExit, match='give the work folder of a training'):
        write_card()
