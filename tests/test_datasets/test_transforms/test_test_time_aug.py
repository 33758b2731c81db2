# Licensed under the Apache License, Version 2.0. See LICENSE.
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmengine.config import Config

from mmdet_efficientps.datasets.transforms import PanopticTestTimeAug

DATA_SETS = Path(__file__).parents[3] / 'configs/_base_/datasets'


def views(image, **kwargs):
    start = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    return PanopticTestTimeAug(**kwargs)(start)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (50, 101, 3), np.uint8)


def test_views_have_the_scales_of_the_paper_and_their_mirrors(image):
    result = views(image, scale=(202, 100))
    shapes = [tuple(view.shape[1:]) for view in result['inputs']]
    assert shapes[::2] == shapes[1::2]
    # 50 pixels fit into 100 twice
    assert [h for h, _ in shapes[::2]] == [75, 100, 125, 150, 175, 200]
    for view, sample in zip(result['inputs'], result['data_samples'], strict=True):
        assert sample.img_shape == tuple(view.shape[1:])
        assert sample.ori_shape == (50, 101)
        width_scale, height_scale = sample.scale_factor
        assert sample.img_shape == (round(50 * height_scale), round(101 * width_scale))
    flips = [sample.flip for sample in result['data_samples']]
    assert flips == [False, True] * 6
    for one, two in zip(result['inputs'][::2], result['inputs'][1::2], strict=True):
        assert torch.equal(one, two.flip(2))


def test_without_flip_there_is_a_view_a_ratio(image):
    result = views(image, scale=(101, 50), ratios=(1.0, 2.0), flip=False)
    assert [tuple(v.shape) for v in result['inputs']] == [(3, 50, 101), (3, 100, 202)]
    assert np.array_equal(result['inputs'][0].permute(1, 2, 0).numpy(), image)


def test_the_metas_of_a_config_are_packed(image):
    keys = ('ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
    result = views(image, scale=(101, 50), meta_keys=keys)
    assert set(result['data_samples'][0].metainfo_keys()) == set(keys)


@pytest.mark.parametrize('ratios', [(), (1.0, 0.0)])
def test_ratios_that_make_no_view_are_refused(ratios):
    with pytest.raises(ValueError, match='ratios of PanopticTestTimeAug'):
        PanopticTestTimeAug((10, 10), ratios)


@pytest.mark.parametrize(
    'name', [p.stem for p in DATA_SETS.glob('*.py') if p.stem != 'panoptic']
)
def test_the_second_scale_of_every_data_set_is_that_of_its_test(name, image):
    """Loaded as one size, annotated as another where the data set has its own."""
    cfg = Config.fromfile(DATA_SETS / f'{name}.py')
    start = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    start |= dict(img_id=0, img_path='a.png', height=40, width=90)
    start |= dict(seg_map_path=None, segments_info=[])
    tested, augmented = (
        Compose([TRANSFORMS.build(step) for step in pipeline[1:]])(dict(start))
        for pipeline in (cfg.test_pipeline, cfg.tta_pipeline)
    )
    assert torch.equal(augmented['inputs'][2], tested['inputs'])
    metas = [
        {k: v for k, v in sample.metainfo.items() if not k.startswith('flip')}
        for sample in (augmented['data_samples'][2], tested['data_samples'])
    ]
    assert metas[0] == metas[1]
