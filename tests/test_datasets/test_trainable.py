# Licensed under the Apache License, Version 2.0. See LICENSE.
import cv2
import numpy as np
import pytest

from mmdet_efficientps.datasets.fingerprint import DataFiles, read_fingerprint
from mmdet_efficientps.datasets.trainable import check_split, list_warnings
from mmdet_efficientps.structures.panoptic import read_json, write_json
from mmdet_efficientps.testing.data_set_trees import write_own

CATEGORIES = [
    {'id': 5, 'name': 'road', 'isthing': 0},
    {'id': 7, 'name': 'car', 'isthing': 1},
]
ROAD, CAR = 1, 2


@pytest.fixture
def make(tmp_path):
    """Write a data set of which ``picture(number)`` gives the images, and read it."""

    def _make(name, count=4, picture=None, change=None):
        ids = np.full((48, 64), ROAD)
        ids[:9, :9] = CAR
        json_file, images = write_own(
            tmp_path, name, [ids] * count, {ROAD: 5, CAR: 7}, CATEGORIES, seed=len(name)
        )
        if picture is not None:
            for number in range(count):
                cv2.imwrite(str(images / f'{number}.png'), picture(number))
        if change is not None:
            content = read_json(json_file)
            change(content)
            write_json(json_file, content)
        return read_fingerprint(DataFiles(json_file, images, tmp_path / name))

    return _make


def before_a_wall(first):
    """Give pictures of a grey wall, with a pixel elsewhere in each."""

    def _picture(number):
        pixels = np.full((48, 64), 128, np.uint8)
        pixels.flat[first + number] = 255
        return pixels

    return _picture


def leaks(train, val, **kwargs):
    return [w for w in list_warnings(train, val, **kwargs) if w.startswith('leak')]


def test_before_a_fixed_camera_pictures_look_alike_and_are_not_refused(make):
    train, val = make('train', 5, before_a_wall(0)), make('val', 3, before_a_wall(90))
    check_split(train, val)
    (leak,) = leaks(train, val)
    assert '3 of 3 validation images look the same' in leak
    assert '--val-fraction' in leak


def test_no_split_is_advised_to_who_has_split(make):
    train, val = make('train', 5, before_a_wall(0)), make('val', 3, before_a_wall(90))
    (leak,) = leaks(train, val, was_split=True)
    assert 'cannot be kept on one side' in leak
    assert '--val' not in leak


def test_equal_pixels_on_both_sides_are_refused_and_fewer_than_half_named(make):
    train = make('train', 5, before_a_wall(0))
    with pytest.raises(ValueError, match='3 images, of which 2 have the same pixels'):
        check_split(train, make('val', 3, before_a_wall(3)))
    val = make('val', 3, before_a_wall(4))
    check_split(train, val)
    equal, near = leaks(train, val)
    assert '1 of 3 validation images has the same pixels as' in equal
    assert '0.png = 4.png' in equal
    assert '2 of 3 validation images look the same' in near


def test_one_image_is_one_image(make):
    train = make('train', 5, before_a_wall(0))
    with pytest.raises(ValueError, match=r'lists 1 image, of which 1 is in .* too'):
        check_split(train, train.select([0]))


def test_a_file_under_two_ids_is_named(make):
    def change(content):
        content['images'][2]['file_name'] = '0.png'

    train, val = make('train', change=change), make('val')
    text = '1 image file in '
    (warning,) = [w for w in list_warnings(train, val) if text in w]
    assert '0.png (ids 0, 2)' in warning
    assert str(train.files.json_file) in warning
    assert not [w for w in list_warnings(val, val) if text in w]


def test_images_that_are_read_as_dark_are_named(make):
    def twelve_bits(number):
        return np.linspace(0, 4095, 48 * 64).reshape(48, 64).astype(np.uint16) + number

    train, val = make('train', 3, twelve_bits), make('val')
    (warning,) = [w for w in list_warnings(train, val) if 'black' in w]
    assert warning.startswith(
        f'3 of 3 images in {train.files.json_file} are almost black'
    )
    assert '0.png, 1.png, 2.png' in warning
