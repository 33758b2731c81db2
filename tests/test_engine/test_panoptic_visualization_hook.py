# Licensed under the Apache License, Version 2.0. See LICENSE.
from pathlib import Path
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


class Images:
    """Data set of the images of some predictions."""

    def __init__(self, samples, folder):
        self.samples = samples
        self.data_prefix = {'img': str(folder)} if folder else {}

    def __len__(self):
        return len(self.samples)

    def get_data_info(self, index):
        return {'img_path': self.samples[index].img_path}


def loader_of(samples, folder=None, **kwargs):
    return SimpleNamespace(sampler=samples, dataset=Images(samples, folder), **kwargs)


def validate(hook, samples, iteration, batch_size=2, folder=None):
    loader = loader_of(samples, folder, batch_size=batch_size)
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


def draw_test(hook, samples, tmp_path, folder=None):
    runner = SimpleNamespace(
        test_dataloader=loader_of(samples, folder),
        work_dir=str(tmp_path / 'work'),
        timestamp='now',
    )
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, {}, samples)


def prediction_for(path, shape=(20, 30)):
    """An image of 20x30 pixels on disk and a prediction of another size for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), 100, np.uint8))
    sample = DetDataSample(metainfo=dict(img_path=str(path)))
    encoded = torch.ones(1, *shape, dtype=torch.int32)
    sample.pred_panoptic_seg = PixelData(sem_seg=encoded)
    return sample


@pytest.mark.parametrize('folder', [True, False])
def test_two_images_of_one_name_have_two_pictures(visualizer, tmp_path, folder):
    visualizer('LocalVisBackend')
    names = ['drive0/1.png', 'drive1/1.png', 'drive1/1.jpg']
    samples = [prediction_for(tmp_path / 'images' / name) for name in names]
    images = tmp_path / 'images' if folder else None
    hook = PanopticVisualizationHook(draw=True, test_out_dir='pictures')
    draw_test(hook, samples, tmp_path, images)
    pictures = tmp_path / 'work/now/pictures'
    found = {str(p.relative_to(pictures)) for p in pictures.rglob('*.*')}
    assert found == (set(names) if folder else {'1.png', '1_2.png', '1.jpg'})
    validate(hook, samples, 5, folder=images)
    assert len(list((tmp_path / 'work').rglob('val_*_5.png'))) == 3


def test_the_photograph_is_shown_at_the_size_of_the_result(visualizer, tmp_path):
    visualizer('LocalVisBackend')
    sample = prediction_for(tmp_path / 'images/1.png', shape=(50, 80))
    hook = PanopticVisualizationHook(draw=True, test_out_dir='pictures')
    draw_test(hook, [sample], tmp_path, tmp_path / 'images')
    validate(hook, [sample], 5, folder=tmp_path / 'images')
    for path in (tmp_path / 'work').rglob('*.png'):
        # image and prediction side by side
        assert cv2.imread(str(path)).shape[1] == 160


def test_a_picture_of_what_cannot_be_written_is_a_png(visualizer, tmp_path):
    visualizer()
    sample = prediction_for(tmp_path / 'images/1.png')
    (tmp_path / 'images/1.png').rename(tmp_path / 'images/1.webp2')
    sample.set_metainfo(dict(img_path=str(tmp_path / 'images/1.webp2')))
    hook = PanopticVisualizationHook(draw=True, test_out_dir='pictures')
    draw_test(hook, [sample], tmp_path, tmp_path / 'images')
    assert (tmp_path / 'work/now/pictures/1.webp2.png').is_file()


@pytest.mark.parametrize('out', ['images/drive', 'images', '.', 'link', 'images/b'])
def test_a_folder_of_photographs_is_refused_before_the_test(visualizer, tmp_path, out):
    visualizer()
    # In images/b, the picture of a/1.png would be the third photograph.
    names = ('drive/1.png', 'a/1.png', 'b/a/1.png')
    samples = [prediction_for(tmp_path / 'images' / name) for name in names]
    (tmp_path / 'link').symlink_to(tmp_path / 'images')
    before = [Path(sample.img_path).read_bytes() for sample in samples]
    hook = PanopticVisualizationHook(draw=True, test_out_dir=str(tmp_path / out))
    with pytest.raises(ValueError, match=f'--show-dir. {tmp_path}.*images/.*1.png'):
        draw_test(hook, samples, tmp_path, tmp_path / 'images')
    assert [Path(sample.img_path).read_bytes() for sample in samples] == before


def test_no_picture_is_written_through_a_link(visualizer, tmp_path):
    visualizer()
    sample = prediction_for(tmp_path / 'images/1.png')
    before = (tmp_path / 'images/1.png').read_bytes()
    pictures = tmp_path / 'work/now/pictures'
    pictures.mkdir(parents=True)
    (pictures / '1.png').symlink_to(tmp_path / 'images/1.png')
    hook = PanopticVisualizationHook(draw=True, test_out_dir='pictures')
    draw_test(hook, [sample], tmp_path, tmp_path / 'images')
    assert (tmp_path / 'images/1.png').read_bytes() == before
    assert not (pictures / '1.png').is_symlink()


def test_the_storage_backend_of_the_hook_serves_the_visualizer(visualizer):
    made = visualizer()
    hook = PanopticVisualizationHook(backend_args={'backend': 'local'})
    assert made.backend_args == hook.backend_args == {'backend': 'local'}


@pytest.mark.parametrize('label', [1, 2], ids=['road', 'void'])
def test_mmdets_visualizer_draws_any_panoptic_map(visualizer, samples, label):
    visualizer()
    hook = PanopticVisualizationHook(num_images=1)
    stock = VISUALIZERS.build(dict(type='DetLocalVisualizer', name='stock'))
    stock.dataset_meta = META
    hook._visualizer = stock
    samples[0].pred_panoptic_seg.sem_seg[:] = label
    validate(hook, samples[:1], iteration=1)
    # ground truth, of which there is none, and prediction side by side
    picture = stock.get_image()
    assert picture.shape == (20, 60, 3)
    assert (picture[:, :30] == 100).all()
    # a map of road lies over the grey photograph, a void one does not
    assert (picture[:, 30:] == 100).all() == (label == 2)
    assert samples[0].pred_panoptic_seg.sem_seg.shape == (1, 20, 30)


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
    assert backend in [cls.__name__ for cls in type(built).__mro__]
