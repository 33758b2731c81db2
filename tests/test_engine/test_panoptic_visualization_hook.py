# Licensed under the Apache License, Version 2.0. See LICENSE.
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import VISBACKENDS, VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmdet_efficientps.engine import PanopticVisualizationHook
from mmdet_efficientps.visualization import PanopticVisualizer

META = {'classes': ('car', 'road'), 'palette': [(255, 0, 0), (0, 0, 255)]}


@pytest.fixture
def visualizer(tmp_path, monkeypatch):
    """Make the current visualizer, with backends given by their types."""

    def make(*backends, **kwargs):
        made = VISUALIZERS.build(
            dict(
                type='PanopticVisualizer',
                name='current',
                save_dir=str(tmp_path / 'work'),
                vis_backends=[dict(type=backend) for backend in backends],
                **kwargs,
            )
        )
        made.dataset_meta = META
        monkeypatch.setattr(
            PanopticVisualizer, 'get_current_instance', classmethod(lambda cls: made)
        )
        monkeypatch.setattr(
            'mmdet.engine.hooks.visualization_hook.Visualizer', PanopticVisualizer
        )
        return made

    monkeypatch.setattr(PanopticVisualizer, '_instance_dict', {})
    return make


@pytest.fixture
def samples(tmp_path):
    """Seven predictions for images on disk."""
    made = []
    for number in range(7):
        path = tmp_path / f'image{number}.png'
        cv2.imwrite(str(path), np.full((20, 30, 3), 100, np.uint8))
        sample = DetDataSample(metainfo=dict(img_path=str(path)))
        encoded = torch.ones(1, 20, 30, dtype=torch.int32)
        encoded[:, 5:10, 5:15] = 1000
        sample.pred_panoptic_seg = PixelData(sem_seg=encoded)
        made.append(sample)
    return made


def validate(hook, samples, iteration, batch_size=2):
    loader = SimpleNamespace(sampler=samples, batch_size=batch_size)
    runner = SimpleNamespace(val_dataloader=loader, iter=iteration)
    for number, first in enumerate(range(0, len(samples), batch_size)):
        hook.after_val_iter(runner, number, {}, samples[first : first + batch_size])


def test_every_validation_draws_the_same_images(visualizer, samples, tmp_path):
    visualizer('LocalVisBackend')
    hook = PanopticVisualizationHook(num_images=3)
    validate(hook, samples, iteration=10)
    validate(hook, samples, iteration=25)
    names = sorted(path.name for path in (tmp_path / 'work').rglob('*.png'))
    assert names == [
        f'val_image{number}_{iteration}.png'
        for number in (0, 3, 6)
        for iteration in (10, 25)
    ]


def test_more_pictures_than_images_draw_each_once(visualizer, samples, tmp_path):
    visualizer('LocalVisBackend')
    validate(PanopticVisualizationHook(num_images=99), samples, iteration=1)
    assert len(list((tmp_path / 'work').rglob('*.png'))) == len(samples)


def test_no_pictures_if_none_are_wanted(visualizer, samples, tmp_path):
    visualizer('LocalVisBackend')
    validate(PanopticVisualizationHook(num_images=0), samples, iteration=1)
    assert not list((tmp_path / 'work').rglob('*.png'))


def test_wide_pictures_are_scaled_for_backends_only(visualizer, samples, tmp_path):
    made = visualizer('LocalVisBackend', max_width=40)
    validate(PanopticVisualizationHook(num_images=1), samples, iteration=1)
    (path,) = (tmp_path / 'work').rglob('*.png')
    assert cv2.imread(str(path)).shape[1] == 40
    image = np.zeros((20, 30, 3), np.uint8)
    made.add_datasample('a', image, samples[0], out_file=str(tmp_path / 'full.png'))
    assert cv2.imread(str(tmp_path / 'full.png')).shape[1] == 60


def test_tensorboard_gets_scalars_and_pictures(visualizer, samples, tmp_path):
    pytest.importorskip('tensorboard', reason='pip install tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = visualizer('LocalVisBackend', 'TensorboardVisBackend')
    made.add_scalars({'panoptic/PQ': 12.5}, step=10)
    validate(PanopticVisualizationHook(num_images=2), samples, iteration=10)
    made.close()
    events = EventAccumulator(str(tmp_path / 'work' / 'vis_data'))
    if not (tmp_path / 'work' / 'vis_data').is_dir():
        events = EventAccumulator(str(tmp_path / 'work'))
    events.Reload()
    tags = events.Tags()
    assert [event.value for event in events.Scalars('panoptic/PQ')] == [12.5]
    assert sorted(tags['images']) == ['val_image0', 'val_image6']
    assert [event.step for event in events.Images('val_image0')] == [10]


@pytest.mark.parametrize('backend', ['WandbVisBackend', 'MLflowVisBackend'])
def test_other_backends_need_no_more_than_their_name(backend, tmp_path):
    # They import their package when the first value is logged.
    built = VISBACKENDS.build(dict(type=backend, save_dir=str(tmp_path)))
    assert type(built).__name__ == backend
