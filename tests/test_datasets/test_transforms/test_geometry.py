# Licensed under the Apache License, Version 2.0. See LICENSE.
import random

import mmcv
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from PIL import Image

from mmdet_efficientps.datasets.transforms import RandomScaleCrop
from mmdet_efficientps.datasets.transforms.geometry import scaled_window
from mmdet_efficientps.structures.panoptic.index_map import (
    SEGMENT_DTYPE,
    segment_table,
)

SHAPE = (48, 96)
RARE, COMMON = 3, 1


@pytest.fixture
def loaded():
    """Image and index map of blobs; segment 7 is one pixel of a rare class."""
    rng = np.random.default_rng(0)
    index_map = np.kron(rng.integers(0, 7, (8, 16)), np.ones((6, 6))).astype(np.uint8)
    index_map[5, 90] = 7
    rows = [(COMMON, True, False)] * 7 + [(RARE, True, False)]
    return {
        'img': rng.integers(0, 256, (*SHAPE, 3), np.uint8),
        'gt_seg_map': index_map,
        'gt_segments': segment_table(np.array(rows, dtype=SEGMENT_DTYPE)),
    }


@pytest.fixture(autouse=True)
def _seed():
    np.random.seed(1)  # noqa: NPY002 (the generator mmcv draws from)
    random.seed(1)


def test_crop_is_mmdets_crop_of_every_bitmap_resized_to_the_nearest_pixel(loaded):
    transform = RandomScaleCrop((96, 48), (64, 40), (0.5, 2.0))
    bitmaps = BitmapMasks(
        np.stack([loaded['gt_seg_map'] == k for k in range(8)]).astype(np.uint8), *SHAPE
    )
    windows = set()
    for _ in range(20):
        results = transform(dict(loaded))
        window = np.array(results['crop_window'])
        windows.add(results['crop_window'])
        cropped = bitmaps.crop(window)
        size = results['img_shape'][::-1]
        for k in range(8):
            expected = Image.fromarray(cropped.masks[k]).resize(size, Image.NEAREST)
            np.testing.assert_array_equal(results['gt_seg_map'] == k, expected)
        image = mmcv.imcrop(loaded['img'], window - (0, 0, 1, 1))
        np.testing.assert_array_equal(
            results['img'], mmcv.imresize(image, results['img_shape'][::-1])
        )
    assert len(windows) > 10


def test_sizes_are_those_of_mmdet_for_the_same_random_numbers(loaded):
    ours = RandomScaleCrop((96, 48), (64, 40), (0.5, 2.0))
    options = {'scale': (96, 48), 'ratio_range': (0.5, 2.0), 'keep_ratio': True}
    stock = Compose(
        [
            TRANSFORMS.build({'type': 'RandomResize', **options}),
            TRANSFORMS.build({'type': 'RandomCrop', 'crop_size': (64, 40)}),
        ]
    )
    sizes = set()
    for seed in range(20):
        shapes = []
        for transform in (ours, stock):
            np.random.seed(seed)  # noqa: NPY002
            shapes.append(transform(dict(loaded))['img_shape'])
        assert shapes[0] == shapes[1]
        sizes.add(shapes[0])
    assert len(sizes) > 3


def test_window_times_scale_is_the_crop():
    # Twice the size: a crop of 64x40 shows 32x20 pixels.
    assert scaled_window((96, 48), 2.0, (64, 40)) == ((32, 20), (64, 40))
    # Half the size: everything fits.
    assert scaled_window((96, 48), 0.5, (64, 40)) == ((96, 48), (48, 24))


def test_pixels_keep_their_shape(loaded):
    transform = RandomScaleCrop((96, 48), (64, 40), (0.5, 2.0))
    for _ in range(20):
        results = transform(dict(loaded))
        x1, y1, x2, y2 = results['crop_window']
        scale_x, scale_y = results['scale_factor']
        height, width = results['img_shape']
        assert (x2 - x1) * scale_x == pytest.approx(width)
        assert (y2 - y1) * scale_y == pytest.approx(height)
        # The rounding of a window of at least 20 pixels.
        assert scale_x == pytest.approx(scale_y, rel=0.05)


def test_every_corner_is_reached(loaded):
    transform = RandomScaleCrop((96, 48), (94, 47))
    corners = {transform(dict(loaded))['crop_window'][:2] for _ in range(100)}
    assert corners == {(x, y) for x in range(3) for y in range(2)}


def test_crop_around_a_rare_class_always_shows_it(loaded):
    config = {'scale': (96, 48), 'crop_size': (16, 16), 'rare_classes': (RARE,)}
    around = RandomScaleCrop(**config, rare_prob=1.0)
    windows = {around(dict(loaded))['crop_window'] for _ in range(30)}
    assert all(x1 <= 90 < x2 and y1 <= 5 < y2 for x1, y1, x2, y2 in windows)
    assert len(windows) > 5
    never = RandomScaleCrop(**config, rare_prob=0.0)
    shown = [7 in never(dict(loaded))['gt_seg_map'] for _ in range(30)]
    assert not all(shown)


def test_of_several_rare_classes_each_is_as_likely(loaded):
    config = {'scale': (96, 48), 'crop_size': (16, 16), 'rare_prob': 1.0}
    transform = RandomScaleCrop(**config, rare_classes=(COMMON, RARE))
    shown = [7 in transform(dict(loaded))['gt_seg_map'] for _ in range(200)]
    # The one pixel of the rare class is within few of the crops around the other.
    assert 80 <= sum(shown) <= 140


@pytest.mark.parametrize('listed', [True, False])
def test_image_without_the_rare_class_is_cropped_anywhere(loaded, listed):
    loaded['gt_seg_map'][5, 90] = 0
    if not listed:
        loaded['gt_segments'][7] = loaded['gt_segments'][0]
    transform = RandomScaleCrop((96, 48), (16, 16), rare_classes=(RARE,), rare_prob=1.0)
    corners = {transform(dict(loaded))['crop_window'] for _ in range(20)}
    assert len(corners) > 10


def test_image_without_ground_truth_is_cropped(loaded):
    results = RandomScaleCrop((96, 48), (16, 16))({'img': loaded['img']})
    assert results['img'].shape == (16, 16, 3)
    assert 'gt_seg_map' not in results


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'crop_size': (0, 4)}, 'crop_size of RandomScaleCrop'),
        ({'ratio_range': (2.0, 0.5)}, 'ratio_range of RandomScaleCrop'),
        ({'rare_prob': 2}, 'rare_prob of RandomScaleCrop'),
    ],
)
def test_wrong_argument_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        RandomScaleCrop(**({'scale': (8, 4), 'crop_size': (8, 4)} | change))


def test_stock_transforms_handle_the_map_and_fill_with_void(loaded):
    loaded |= {'img_shape': SHAPE, 'ori_shape': SHAPE}
    pipeline = Compose(
        [
            TRANSFORMS.build(config)
            for config in (
                {'type': 'Resize', 'scale_factor': 2.0},
                {'type': 'YOLOXHSVRandomAug'},
                {'type': 'RandomFlip', 'prob': 1.0},
                {'type': 'Pad', 'size': (200, 100)},
            )
        ]
    )
    image, index_map = loaded['img'], loaded['gt_seg_map']
    results = pipeline(loaded)
    assert results['img'].shape == (100, 200, 3)
    assert results['img'].dtype == np.uint8
    assert not np.array_equal(results['img'][:96, :192][::2, ::-2], image)
    expected = np.full((100, 200), 255)
    expected[:96, :192] = np.kron(index_map[:, ::-1], np.ones((2, 2)))
    np.testing.assert_array_equal(results['gt_seg_map'], expected)
