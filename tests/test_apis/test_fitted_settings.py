# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.structures.bbox import bbox_overlaps

from mmdet_efficientps.apis import fitted_settings as fit
from mmdet_efficientps.apis.fitted_settings import MODEL_SIZES, STRIDES, ModelSize

# 100 bytes a pixel and 1 MB: 99 kB are 990 pixels.
TINY = ModelSize(
    model='m',
    schedule='s',
    crop=(512, 256),
    batch_size=2,
    bytes_per_pixel=100,
    fixed_bytes=1e6,
    passes=10,
    least_iters=100,
)
BOXES = np.array([[10.0, 20.0]])


def square_boxes(*sides):
    return np.array([(side, side) for side in sides], dtype=float)


@pytest.mark.parametrize(
    ('sides', 'small', 'expected', 'why'),
    [
        # Large things: what the network is made for, at the aspect of the images.
        ((2048, 1024), 100, (512, 256), 'made for, 512x256'),
        # At a quarter, 20 pixels would be 5: 8 / 20 of the size is needed.
        ((2048, 1024), 20, (832, 416), 'keep 8 pixels'),
        # Small images are not enlarged,
        ((256, 128), 10, (256, 128), 'The size of the images'),
        # but for small things, and no more than twice.
        ((256, 128), 5, (416, 192), 'keep 8 pixels'),
        ((256, 128), 1, (512, 256), 'Twice the size'),
    ],
)
def test_images_are_as_large_as_small_things_need(sides, small, expected, why):
    fitted = fit.fit_scale(np.array(sides), np.full(50, float(small)), (512, 256))
    assert fitted.value == expected
    assert why in fitted.reason
    assert f'{small:.1f} pixels' in fitted.reason


@pytest.mark.parametrize(
    ('megabytes', 'batch_size', 'crop'),
    [
        # 512 x 256 pixels need 13.1 MB, and there is 1 MB besides.
        (28, 2, (512, 256)),
        (27, 1, (512, 256)),
        (15, 1, (512, 256)),
        # 11 MB: 84 % of the pixels, 0.916 of the sides, rounded down.
        (12, 1, (448, 224)),
    ],
)
def test_the_crop_fits_the_memory(megabytes, batch_size, crop):
    fitted, batch = fit.fit_crop((512, 256), 0.0, TINY, megabytes * 1e6, BOXES)
    assert (fitted.value, batch.value) == (crop, batch_size)
    needed = batch_size * np.prod(crop) * 100 + 1e6
    assert needed <= megabytes * 1e6
    assert f'{megabytes / 1e3:.1f} GB' in fitted.reason


@pytest.mark.parametrize(
    ('upright', 'crop'), [(0.05, (512, 256)), (0.5, (512, 512)), (0.95, (256, 512))]
)
def test_the_crop_lies_as_the_images_do(upright, crop):
    assert fit.fit_crop((512, 256), upright, TINY, 1e9, BOXES)[0].value == crop


def test_things_larger_than_the_crop_are_told():
    boxes = square_boxes(10, 300)
    reason = fit.fit_crop((512, 256), 0.0, TINY, 1e9, boxes)[0].reason
    assert '50% of the things are larger than the crop' in reason


def test_too_little_memory_is_refused_with_what_is_needed():
    # 128 x 128 pixels are 1.64 MB.
    with pytest.raises(ValueError, match='b5|smaller --model') as error:
        fit.fit_crop((512, 256), 0.0, MODEL_SIZES['b5'], 1e9, BOXES)
    assert 'needs 1.6 GB or more' in str(error.value)


@pytest.mark.parametrize(('scale', 'ratios'), [(4, [0.7, 1.4]), (8, [0.5, 1.0, 2.0])])
def test_overlaps_are_those_with_the_anchors_of_mmdet(scale, ratios):
    rng = np.random.default_rng(0)
    boxes = rng.uniform(5, 300, (50, 2))
    generator = AnchorGenerator(strides=STRIDES, scales=[scale], ratios=ratios)
    anchors = torch.cat(generator.base_anchors)
    centered = torch.from_numpy(np.concatenate([-boxes / 2, boxes / 2], axis=1))
    expected = bbox_overlaps(centered.float(), anchors).max(dim=1).values
    found = fit.anchor_ious(boxes, scale, ratios)
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_anchors_have_the_sides_and_shapes_of_the_boxes():
    scale, ratios = fit.fit_anchors(square_boxes(24, 24, 48, 48, 96, 192))
    assert (scale.value, ratios.value) == (6, [1.0])
    assert 'anchors have 24, 48, 96, 192' in scale.reason
    assert '100% of the boxes' in scale.reason
    upright = np.array([(20, 56)] * 6 + [(40, 56)] * 4, dtype=float)
    assert fit.fit_anchors(upright)[1].value == [1.4, 2.8]


def test_stuff_is_kept_but_for_the_smallest_regions():
    # One region in twenty has 100 pixels, the others 1000 and more.
    areas = np.array([100.0] * 5 + [1000.0] * 95).reshape(100, 1)
    fitted = fit.fit_min_stuff_area(areas, 1e7)
    assert 64 <= fitted.value <= 1000
    # A class of small regions only is not given up for it.
    both = np.concatenate([areas, np.zeros_like(areas)], axis=1)
    both[:4, 1] = 20
    fitted = fit.fit_min_stuff_area(both, 1e7)
    assert fitted.value == 16
    assert '25 % have less than 20' in fitted.reason


def test_stuff_limit_is_no_larger_part_than_in_the_paper():
    fitted = fit.fit_min_stuff_area(np.full((9, 2), 1e6), 2048 * 1024)
    assert fitted.value == 2048
    assert 'the 1024th part of an image' in fitted.reason
    assert fit.fit_min_stuff_area(np.zeros((3, 0)), 1e6).value == 1


def test_every_image_is_seen_as_often_as_is_usual():
    iters, interval = fit.fit_iterations(200, 2, TINY)
    assert (iters.value, interval.value) == (1000, 250)
    assert '200 images with 2 a step are seen 10.0 times each' in iters.reason
    # Few images: the least number of steps, rounded up to four times ten.
    iters, interval = fit.fit_iterations(3, 2, TINY)
    assert (iters.value, interval.value) == (120, 30)
    assert '100 steps the least' in iters.reason
    iters, interval = fit.fit_iterations(200, 2, TINY, max_iters=7)
    assert (iters.value, interval.value) == (7, 1)
    assert 'As asked for' in iters.reason


@pytest.mark.parametrize(
    ('names', 'prob'),
    [
        (['road', 'leftover', 'bright'], None),
        (['left hand', 'road'], 0.0),
        (['Turn-Right'], 0.0),
    ],
)
def test_images_are_mirrored_unless_a_class_has_a_side(names, prob):
    assert fit.fit_flip(names).value == prob


def test_classes_in_few_images_are_rare():
    fitted = fit.find_rare(['a', 'b', 'c', 'd'], np.array([10, 9, 0, 100]), 100)
    assert fitted.value == [1]
    assert 'b (9)' in fitted.reason


@pytest.mark.parametrize('text', ['', '8 TB', 'much', '0GB', '-1'])
def test_what_is_no_memory_is_refused(text):
    with pytest.raises(ValueError, match='no amount of memory'):
        fit.parse_memory(text)
