# Licensed under the Apache License, Version 2.0. See LICENSE.
"""mmdet's own tools for inference on a network of this package."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import VISUALIZERS
from mmengine.config import Config

from mmdet_efficientps import init_model
from mmdet_efficientps.datasets import CityscapesPanopticDataset

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / 'configs/efficientps'
DEMO = CONFIGS / 'efficientps_lite0-small_1xb2-760_toy-city-256x512.py'
OWN_CLASSES = CONFIGS / 'efficientps_lite0-small_1xb2-760_pedestrian-zone.py'
CITYSCAPES = CityscapesPanopticDataset.METAINFO
SIZE = (100, 180)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A photograph and a checkpoint as training leaves it."""
    folder = tmp_path_factory.mktemp('stock')
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    cv2.imwrite(str(folder / 'street.png'), pixels)
    torch.manual_seed(0)
    model = init_model(DEMO, device='cpu')
    # Random weights are sure of nothing; mmdet draws no map without segments.
    model.semantic_head.conv_logits.bias.data[CITYSCAPES['classes'].index('road')] = 9
    meta = dict(dataset_meta=CITYSCAPES)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'x.pth')
    return folder


@pytest.fixture(scope='module')
def images(folder):
    """The photograph as path and as array, BGR."""
    path = str(folder / 'street.png')
    return {'path': path, 'array': cv2.imread(path)}


@pytest.fixture(scope='module')
def detector(folder):
    return init_detector(str(DEMO), str(folder / 'x.pth'), device='cpu')


def panoptic(result):
    return result.pred_panoptic_seg.sem_seg


@pytest.mark.parametrize('order', [('path', 'array'), ('array', 'path')])
def test_an_array_and_a_path_in_turn_give_the_same(detector, images, order):
    first, second, third = (
        panoptic(inference_detector(detector, images[kind]))
        for kind in (*order, order[0])
    )
    assert first.shape == (1, *SIZE)
    assert first.equal(second)
    assert first.equal(third)


@pytest.mark.parametrize('kind', ['path', 'array'])
def test_a_list_gives_a_list(detector, images, kind):
    results = inference_detector(detector, [images[kind]] * 2)
    assert len(results) == 2
    assert panoptic(results[0]).equal(panoptic(results[1]))


def test_changes_of_the_models_config_hold(detector, images):
    # as mmdet's demos do, for frames of a video
    loader = detector.cfg.test_dataloader.dataset.pipeline[0]
    assert loader.type == 'LoadImageFromFile'
    loader.type = 'mmdet.LoadImageFromNDArray'
    assert (
        detector.cfg.test_dataloader.dataset.pipeline[0].type
        == 'mmdet.LoadImageFromNDArray'
    )
    assert panoptic(inference_detector(detector, images['array'])).shape == (1, *SIZE)
    loader.type = 'LoadImageFromFile'


def test_grey_and_alpha_are_seen_as_color(detector, images):
    image = images['array']
    grey = image[..., 0]
    expected = panoptic(inference_detector(detector, np.dstack([grey] * 3)))
    for shown in (grey, grey[..., None]):
        assert panoptic(inference_detector(detector, shown)).equal(expected)
    alpha = np.dstack([image, grey])
    expected = panoptic(inference_detector(detector, image))
    assert panoptic(inference_detector(detector, alpha)).equal(expected)


@pytest.mark.parametrize('dtype', ['uint16', 'int64', 'float01'])
def test_numbers_of_unknown_meaning_are_refused(detector, images, dtype):
    image = images['array']
    image = image / 255 if dtype == 'float01' else image.astype(dtype)
    with pytest.raises(ValueError, match='0..255'):
        inference_detector(detector, image)


@pytest.mark.parametrize('shape', [(512, 12), (12, 512), (1, 1), (300, 1), (1, 300)])
def test_strips_go_through_the_pipeline(detector, shape):
    result = inference_detector(detector, np.full((*shape, 3), 90, np.uint8))
    assert panoptic(result).shape == (1, *shape)


def inferencer(folder, config=DEMO, **kwargs):
    pytest.importorskip(
        'panopticapi', reason='mmdet needs it: pip install --no-deps panopticapi-lite'
    )
    return DetInferencer(
        config if isinstance(config, Config) else str(config),
        str(folder / 'x.pth'),
        device='cpu',
        show_progress=False,
        **kwargs,
    )


@pytest.fixture(scope='module')
def infer(folder):
    return inferencer(folder)


@pytest.mark.parametrize('batch_size', [1, 2])
@pytest.mark.parametrize('kinds', [['path'], ['array'], ['path', 'array', 'path']])
def test_the_inferencer_takes_paths_arrays_and_lists_of_both(
    infer, images, detector, kinds, batch_size
):
    expected = inference_detector(detector, images['path'])
    inputs = [images[kind] for kind in kinds]
    results = infer(inputs if len(inputs) > 1 else inputs[0], batch_size=batch_size)
    assert len(results['predictions']) == len(kinds)
    for prediction in results['predictions']:
        assert prediction['panoptic_seg'].shape == (*SIZE, 3)
        scores = expected.pred_instances.scores.tolist()
        assert prediction['scores'] == pytest.approx(scores, abs=1e-5)


def test_the_inferencer_takes_a_folder(infer, folder):
    assert len(infer(str(folder))['predictions']) == 1


def test_the_inferencer_writes_pictures_and_predictions(infer, images, tmp_path):
    infer.num_visualized_imgs = infer.num_predicted_imgs = 0
    infer([images['path'], images['array']], out_dir=str(tmp_path), no_save_pred=False)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*.*'))
    assert files == [
        'preds/0.json',
        'preds/0_panoptic_seg.png',
        'preds/street.json',
        'preds/street_panoptic_seg.png',
        'vis/00000001.jpg',
        'vis/street.png',
    ]
    pictures = [
        cv2.imread(str(tmp_path / f'preds/{name}_panoptic_seg.png'))
        for name in ('0', 'street')
    ]
    np.testing.assert_array_equal(*pictures)


def test_the_inferencer_gives_pictures_and_prints(infer, images, capsys):
    results = infer(
        [images['path'], images['array'][..., 0]], return_vis=True, print_result=True
    )
    assert [picture.ndim for picture in results['visualization']] == [3, 3]
    assert 'panoptic_seg' in capsys.readouterr().out


def test_the_inferencer_needs_no_config_beside_a_checkpoint_of_the_runner(
    folder, images, tmp_path
):
    pytest.importorskip('panopticapi')
    checkpoint = torch.load(folder / 'x.pth', weights_only=True)
    checkpoint['meta']['cfg'] = Config.fromfile(DEMO).pretty_text
    torch.save(checkpoint, tmp_path / 'run.pth')
    infer = DetInferencer(weights=str(tmp_path / 'run.pth'), device='cpu')
    assert len(infer(images['array'])['predictions']) == 1


@pytest.mark.parametrize('palette', ['citys', 'coco', 'random'])
def test_palettes_are_taken_by_name(folder, images, palette):
    infer = inferencer(folder, palette=palette)
    (picture,) = infer(images['path'], return_vis=True)['visualization']
    # the image, the prediction and a legend
    assert picture.shape[0] > SIZE[0]


def test_mmdets_visualizer_draws_what_the_inferencer_predicts(folder, images):
    config = Config.fromfile(DEMO)
    config.visualizer.type = 'DetLocalVisualizer'
    infer = inferencer(folder, config)
    (picture,) = infer(images['path'], return_vis=True)['visualization']
    assert picture.shape == (*SIZE, 3)
    assert not np.array_equal(picture, images['array'][..., ::-1])


def save_with(folder, path, **dataset_meta):
    checkpoint = torch.load(folder / 'x.pth', weights_only=True)
    checkpoint['meta']['dataset_meta'] = dataset_meta
    torch.save(checkpoint, path)
    return path


def test_the_colors_are_those_of_the_checkpoint(folder, tmp_path):
    own = [(k, 2 * k, 3 * k) for k in range(len(CITYSCAPES['classes']))]
    path = save_with(
        folder, tmp_path / 'x.pth', classes=CITYSCAPES['classes'], palette=own
    )
    assert init_model(DEMO, path, device='cpu').dataset_meta['palette'] == own


@pytest.mark.parametrize('palette', [None, 'random', [(1, 2, 3)]])
def test_without_colors_of_the_checkpoint_they_are_those_of_the_config(
    folder, tmp_path, palette
):
    meta = dict(classes=CITYSCAPES['classes']) | (
        {} if palette is None else {'palette': palette}
    )
    path = save_with(folder, tmp_path / 'x.pth', **meta)
    model = init_model(DEMO, path, device='cpu')
    assert model.dataset_meta['palette'] == CITYSCAPES['palette']


def test_checkpoints_of_concatenated_sets_have_the_meta_of_each(folder, tmp_path):
    path = save_with(folder, tmp_path / 'x.pth')
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['dataset_meta'] = [CITYSCAPES, CITYSCAPES]
    torch.save(checkpoint, path)
    model = init_model(DEMO, path, device='cpu')
    assert model.dataset_meta['classes'] == CITYSCAPES['classes']


@pytest.mark.parametrize('kind', ['PanopticVisualizer', 'DetLocalVisualizer'])
def test_classes_without_colors_get_some_and_are_drawn(images, kind):
    model = init_model(OWN_CLASSES, device='cpu')
    palette = model.dataset_meta['palette']
    assert len(set(palette)) == len(model.dataset_meta['classes']) == 10
    model.semantic_head.conv_logits.bias.data[-1] = 9
    result = inference_detector(model, images['path'])
    visualizer = VISUALIZERS.build(dict(type=kind, name=f'colors of {kind}'))
    visualizer.dataset_meta = model.dataset_meta
    visualizer.add_datasample('x', images['array'], result, draw_gt=False)
    assert not np.array_equal(visualizer.get_image(), images['array'])
