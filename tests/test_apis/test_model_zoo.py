# Licensed under the Apache License, Version 2.0. See LICENSE.
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector
from PIL import Image

from mmdet_efficientps import get_config, init_model
from mmdet_efficientps.apis import find_config, load_config
from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError

pytestmark = pytest.mark.slow

DEMO = 'efficientps_lite0-small_1xb2-760_toy-city-256x512'
CLASSES = CityscapesPanopticDataset.METAINFO['classes']
OTHER_CLASSES = 'efficientps_lite0-small_1xb2-760_pedestrian-zone'


@pytest.fixture(scope='module')
def state():
    return init_model(DEMO, device='cpu').state_dict()


@pytest.fixture
def save(tmp_path, state):
    """Write a checkpoint of the demo as MMEngine does, but for some keys."""

    def _save(classes=CLASSES, **changes):
        weights = {k: v for k, v in (state | changes).items() if v is not None}
        meta = dict(dataset_meta=dict(CLASSES=classes)) if classes else {}
        torch.save(dict(state_dict=weights, meta=meta), tmp_path / 'x.pth')
        return tmp_path / 'x.pth'

    return _save


@pytest.mark.parametrize('name', [DEMO, f'{DEMO}.py', f'efficientps/{DEMO}.py'])
def test_a_config_is_found_by_its_name(name):
    assert get_config(name).train_cfg.max_iters == 760
    assert find_config(name).stem == DEMO


def test_an_unknown_name_is_answered_with_similar_ones():
    with pytest.raises(ValueError, match='Similar names:\n  ' + DEMO):
        get_config('efficientps_lite0-small_toy-city')
    with pytest.raises(ValueError, match='there is no config'):
        get_config('efficientps_effb5')
    with pytest.raises(ValueError, match=f'There are:\n(.*\n)*  {DEMO}'):
        get_config('@')


def test_base_configs_are_no_configs():
    with pytest.raises(ValueError, match='there is no config'):
        get_config('default_runtime')


def test_a_file_goes_before_a_name(tmp_path):
    path = tmp_path / f'{DEMO}.py'
    path.write_text('mine = True')
    assert load_config(path).mine
    assert load_config(str(path)).mine


@pytest.mark.parametrize('kind', ['array', 'file', 'list'])
def test_a_model_predicts_on_images_of_any_kind(save, kind, tmp_path):
    model = init_model(find_config(DEMO), save(), device='auto')
    assert not model.training
    assert model.dataset_meta['classes'] == CLASSES
    assert next(model.parameters()).is_cuda == torch.cuda.is_available()
    image = np.random.default_rng(0).integers(0, 256, (100, 180, 3), np.uint8)
    if kind == 'file':
        Image.fromarray(image).save(tmp_path / 'x.png')
    images = {'array': image, 'list': [image], 'file': str(tmp_path / 'x.png')}
    result = inference_detector(model, images[kind])
    if kind == 'list':
        (result,) = result
    segments = result.pred_panoptic_seg.sem_seg
    assert segments.shape == (1, 100, 180)
    assert set((segments % 1000).unique().tolist()) <= set(range(len(CLASSES) + 1))


@pytest.mark.parametrize(
    'name',
    [
        'efficientps_effb5_16xb1-25k_kitti-384x1280',
        'efficientps_effb5_16xb1-144k_idd-720x1280',
    ],
)
def test_images_without_annotations_pass_where_data_sets_resize_theirs(name):
    class Model(torch.nn.Module):
        cfg = get_config(name)
        data_preprocessor = torch.nn.Module()
        data_preprocessor.device = torch.device('cpu')

        def test_step(self, data):
            return data['data_samples']

    image = np.zeros((94, 310, 3), np.uint8)
    assert inference_detector(Model(), image).ori_shape == (94, 310)


def test_the_weights_are_those_of_the_checkpoint(save, state):
    bias = torch.full_like(state['rpn_head.rpn_cls.bias'], 0.25)
    path = save(**{'rpn_head.rpn_cls.bias': bias})
    model = init_model(DEMO, path, device='cpu')
    assert torch.equal(model.rpn_head.rpn_cls.bias, bias)


@pytest.mark.parametrize('device', ['gpu', 'cuda:99'])
def test_a_device_that_is_not_here_is_named(device):
    with pytest.raises(ValueError, match=f"cannot use the device '{device}' here"):
        init_model(DEMO, device=device)


def test_without_a_checkpoint_the_classes_are_those_of_the_config(recwarn):
    model = init_model(DEMO, device='cpu')
    assert model.dataset_meta['classes'] == CLASSES
    assert len(model.dataset_meta['palette']) == len(CLASSES)
    assert not [w for w in recwarn if 'COCO' in str(w.message)]


def test_classes_of_the_checkpoint_go_before_those_of_the_config(save):
    renamed = ('pedestrian', *CLASSES[1:])
    model = init_model(DEMO, save(renamed), device='cpu')
    assert model.dataset_meta['classes'] == renamed
    # weights alone do not know
    model = init_model(DEMO, save(None), device='cpu')
    assert model.dataset_meta['classes'] == CLASSES


def test_a_checkpoint_for_other_classes_is_refused(save):
    with pytest.raises(CheckpointError, match='for 19 classes .* is for 10'):
        init_model(OTHER_CLASSES, save(), device='cpu')
    # where it does not name its classes, by the shapes
    with pytest.raises(CheckpointError, match=r'fc_cls.weight is \(9, 256\), not \(3'):
        init_model(OTHER_CLASSES, save(None), device='cpu')


def test_missing_and_left_over_keys_are_an_error_that_lists_them(save):
    path = save(**{'rpn_head.rpn_cls.bias': None, 'extra.weight': torch.ones(1)})
    with pytest.raises(CheckpointError) as error:
        init_model(DEMO, path, device='cpu')
    assert 'keys are missing: rpn_head.rpn_cls.bias' in str(error.value)
    assert 'keys are left over: extra.weight' in str(error.value)


def test_a_web_page_is_no_checkpoint(tmp_path):
    Path(tmp_path / 'x.pth').write_text('<!DOCTYPE html>')
    with pytest.raises(CheckpointError, match='web page'):
        init_model(DEMO, tmp_path / 'x.pth', device='cpu')


def test_a_checkpoint_alone_is_enough(save, tmp_path):
    path = save()
    content = torch.load(path, weights_only=True)
    content['meta']['cfg'] = get_config(DEMO).pretty_text
    torch.save(content, path)
    model = init_model(path, device='cpu')
    assert model.dataset_meta['classes'] == CLASSES
    assert model.cfg.test_pipeline == get_config(DEMO).test_pipeline


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (None, 'holds no config'),
        ('import os', "line 1 is no value: 'import os'"),
        ('model = dict(a=__import__("os").system("true"))', 'line 1 is no value'),
        ('x = 1\ny = (', 'line 2 is no Python'),
    ],
)
def test_nothing_inside_a_checkpoint_is_run(tmp_path, text, words):
    torch.save(dict(state_dict={}, meta=dict(cfg=text)), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=words):
        init_model(tmp_path / 'x.pth')


def test_category_ids_are_those_that_the_network_was_trained_with(save):
    path = save()
    model = init_model(DEMO, path, device='cpu')
    assert [c['id'] for c in model.dataset_meta['categories']][:2] == [24, 25]
    content = torch.load(path, weights_only=True)
    content['meta']['category_ids'] = list(range(100, 119))
    torch.save(content, path)
    model = init_model(DEMO, path, device='cpu')
    assert [c['id'] for c in model.dataset_meta['categories']][:2] == [100, 101]
    assert model.dataset_meta['categories'][0]['isthing'] == 1
    assert model.dataset_meta['categories'][-1]['isthing'] == 0


def test_category_ids_that_nobody_knows_are_the_labels(save):
    renamed = ('pedestrian', *CLASSES[1:])
    model = init_model(DEMO, save(classes=renamed), device='cpu')
    assert [c['id'] for c in model.dataset_meta['categories']] == list(range(19))
