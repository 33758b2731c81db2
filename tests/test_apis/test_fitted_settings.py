# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.structures.bbox import bbox_overlaps
from mmengine.dataset import ClassBalancedDataset

from mmdet_efficientps.apis import fitted_settings as fit
from mmdet_efficientps.apis.fitted_settings import MODEL_SIZES, STRIDES, ModelSize

# 100 bytes a pixel and 1 MB: 99 kB are 990 pixels.
TINY = ModelSize(
    model='m',
    schedule='s',
    crop=(512, 256),
    batch_size=2,
    bytes_per_pixel=100,
    prediction_bytes_per_pixel=20,
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
        ((256, 128), 1, (256, 128), 'twice the size would bring only 0% of the things'),
    ],
)
def test_images_are_as_large_as_small_things_need(sides, small, expected, why):
    things = np.full(50, float(small))
    fitted = fit.fit_scale(np.array(sides), things, TINY, 1e9)
    assert fitted.value == expected
    assert why in fitted.reason
    assert f'{small:.1f} pixels' in fitted.reason


def test_images_are_no_larger_than_helps():
    # Half of the things are too small at any size, the others need 8 / 5.
    things = np.array([1.0] * 25 + [5.0] * 25)
    fitted = fit.fit_scale(np.array((640, 320)), things, TINY, 1e9)
    assert fitted.value == (1024, 512)
    assert 'only 50% of the things to 8 pixels' in fitted.reason


@pytest.mark.parametrize('sides', [(2048, 1024), (2000, 1500), (4000, 40)])
def test_the_prediction_of_a_whole_image_fits_the_memory(sides):
    # 20 bytes a pixel and 1 MB: there is memory for 70000 pixels.
    things = np.full(50, 20.0)
    fitted = fit.fit_scale(np.array(sides), things, TINY, 2.4e6)
    assert np.prod(fitted.value) * 20 + 1e6 <= 2.4e6
    # No smaller than the 32 pixels to which sides are rounded make it.
    long, short = fitted.value
    assert (long + 32) * (short + 32) > 70000
    assert 'memory is the limit' in fitted.reason
    plenty = fit.fit_scale(np.array(sides), things, TINY, 1e9)
    assert np.prod(plenty.value) > np.prod(fitted.value)
    assert 'limit' not in plenty.reason


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
    assert f'of the {megabytes // 10 / 100:g} GB' in fitted.reason
    share = np.prod(crop) / (512 * 256)
    part = 'The whole image' if share == 1 else f'{int(100 * share)}% of the image'
    assert fitted.reason.startswith(part)


@pytest.mark.parametrize(
    ('upright', 'crop'), [(0.05, (512, 256)), (0.5, (512, 512)), (0.95, (256, 512))]
)
def test_the_crop_lies_as_the_images_do(upright, crop):
    assert fit.fit_crop((512, 256), upright, TINY, 1e9, BOXES)[0].value == crop


@pytest.mark.parametrize(('megabytes', 'seen'), [(30, 'The whole'), (12, '62% of the')])
def test_a_square_is_no_part_of_an_image(megabytes, seen):
    fitted, _ = fit.fit_crop((512, 256), 0.5, TINY, megabytes * 1e6, BOXES)
    # In 320x320 pixels, more than 11 MB allow for none, 320x256 of 512x256 are seen.
    assert fitted.value == ((512, 512) if megabytes == 30 else (320, 320))
    assert fitted.reason.startswith(
        f'{seen} image in a square, since 50% of the images'
    )


def test_a_strip_fits_the_memory():
    # The short side cannot be less than 32.
    fitted, _ = fit.fit_crop((4000, 32), 0.0, TINY, 4e6, BOXES)
    assert fitted.value == (928, 32)
    assert fitted.value[0] * 32 * 100 + 1e6 <= 4e6


def test_things_larger_than_the_crop_are_told():
    boxes = square_boxes(10, 300)
    reason = fit.fit_crop((512, 256), 0.0, TINY, 1e9, boxes)[0].reason
    assert '50% of the things are larger than the crop' in reason


def test_too_little_memory_is_refused_with_what_is_needed():
    # 128 x 128 pixels are 1.64 MB.
    with pytest.raises(ValueError, match='b5|smaller --model') as error:
        fit.fit_crop((512, 256), 0.0, MODEL_SIZES['b5'], 1e9, BOXES)
    assert str(error.value).startswith('1 GB are too little')
    assert 'needs 1.58 GB or more' in str(error.value)


def test_what_is_needed_is_more_than_what_is_too_little():
    # 600 MB and 128 x 128 pixels of 1290 bytes are 621 MB.
    with pytest.raises(ValueError, match=r'0\.61 GB are .* needs 0\.63 GB'):
        fit.fit_crop((512, 256), 0.0, MODEL_SIZES['small'], 0.619e9, BOXES)


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
    # One region in six has less than 200 pixels, the others 1000 and more.
    areas = np.array([150.0] * 15 + [1000.0] * 85).reshape(100, 1)
    fitted = fit.fit_min_stuff_area(areas, 1e7)
    assert fitted.value == 128
    # A class of small regions only is not given up for it.
    both = np.concatenate([areas, np.zeros_like(areas)], axis=1)
    both[:4, 1] = 20
    fitted = fit.fit_min_stuff_area(both, 1e7)
    assert fitted.value == 16
    assert 'half have less than 20' in fitted.reason


def test_stuff_limit_is_no_larger_part_than_twice_that_of_the_paper():
    fitted = fit.fit_min_stuff_area(np.full((9, 2), 1e6), 2048 * 1024)
    assert fitted.value == 4096
    assert 'the 512th part of an image' in fitted.reason
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
    assert iters.value == 7
    assert 'As asked for' in iters.reason


@pytest.mark.parametrize('steps', [2, 3, 7, 9, 1001, 9999, 10001, 30030])
def test_validations_are_counted_with_that_after_the_last_step(steps):
    iters, interval = fit.fit_iterations(200, 2, TINY, max_iters=steps)
    # As mmengine's IterBasedTrainLoop asks after every step.
    count = sum(
        step % interval.value == 0 or step == iters.value
        for step in range(1, iters.value + 1)
    )
    assert interval.reason.startswith(f'{count} validations')
    assert count <= (4 if steps < 10000 else 20)
    assert count >= min(steps, 3)


def test_images_of_rare_classes_count_as_often_as_they_are_drawn():
    iters, _ = fit.fit_iterations(100, 2, TINY, drawn=120)
    assert iters.value == 600
    assert '120 in a pass; with 2 a step there are 10.0 passes' in iters.reason


class Shown:
    """A data set of the classes of its images, as mmengine asks for them."""

    metainfo: dict = {}

    def __init__(self, presence):
        self.presence = presence

    def __len__(self):
        return len(self.presence)

    def full_init(self):
        pass

    def get_cat_ids(self, place):
        return np.flatnonzero(self.presence[place]).tolist()


@pytest.mark.parametrize('total', [7, 30, 140])
def test_images_are_drawn_as_often_as_by_mmengine(total):
    rng = np.random.default_rng(total)
    presence = rng.random((total, 6)) < [0.9, 0.1, 0.09, 0.02, 0.01, 0]
    # Shown by a tenth of the images; by one.
    presence[:, 1] = np.arange(total) < total / 10
    presence[:, 4] = np.arange(total) == 3
    wrapper = object.__new__(ClassBalancedDataset)
    wrapper.dataset = Shown(presence)
    expected = wrapper._get_repeat_factors(wrapper.dataset, fit.RARE_SHARE)
    assert fit.times_drawn(presence).tolist() == np.ceil(expected).tolist()


@pytest.mark.parametrize(
    ('names', 'prob'),
    [
        (['road', 'leftover', 'bright'], None),
        (['left hand', 'road'], 0.0),
        (['Turn-Right'], 0.0),
        (['leftArm'], 0.0),
        (['RightShoe'], 0.0),
        (['RIGHT_SHOE'], 0.0),
        (['left2'], 0.0),
        (['lefthand'], 0.0),
        (['road', 'rightmost lane'], 0.0),
        # Only the other one says that it is a side.
        (['armleft', 'armright'], 0.0),
        (['cleft', 'upright', 'wheelwright', 'Leftovers', 'rights', 'lefty'], None),
    ],
)
def test_images_are_mirrored_unless_a_class_has_a_side(names, prob):
    assert fit.fit_flip(names).value == prob


def test_classes_in_few_images_are_rare():
    fitted = fit.find_rare(['a', 'b', 'c', 'd'], np.array([10, 9, 0, 100]), 100)
    assert fitted.value == [1]
    assert 'b (9)' in fitted.reason


def test_classes_with_too_few_examples_are_not_drawn_more_often():
    fitted = fit.find_rare(['a', 'b', 'c', 'd'], np.array([5, 4, 1, 100]), 100)
    assert fitted.value == [0]
    assert 'Fewer than 5 show b (4), c (1)' in fitted.reason
    assert fit.times_drawn(np.zeros((3, 0), bool)).tolist() == [1, 1, 1]


@pytest.mark.parametrize('text', ['', '8 TB', 'much', '0GB', '-1'])
def test_what_is_no_memory_is_refused(text):
    with pytest.raises(ValueError, match='no amount of memory'):
        fit.parse_memory(text)
