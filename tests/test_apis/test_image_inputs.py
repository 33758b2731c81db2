# Licensed under the Apache License, Version 2.0. See LICENSE.
import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.apis.image_inputs import (
    iterate_inputs,
    list_images,
    read_image,
    to_bgr,
)


def test_names_keep_the_tree_of_the_folder(photographs):
    (photographs / '._0.jpg').write_bytes(b'of another system')
    (photographs / '.trash').mkdir()
    (photographs / '.trash' / '0.jpg').write_bytes(b'')
    names = [name for name, _ in list_images(photographs)]
    assert names == ['drive1/0.jpg', 'drive1/1.png', 'drive2/0.jpg', 'last.bmp']
    names = [name for name, _ in list_images(photographs / 'drive*' / '0.jpg')]
    assert names == ['drive1/0.jpg', 'drive2/0.jpg']
    names = [name for name, _ in list_images(f'{photographs}/**/*.jpg')]
    assert names == ['drive1/0.jpg', 'drive2/0.jpg']


def test_results_that_lie_in_the_folder_do_not_count(photographs):
    names = [name for name, _ in list_images(photographs, photographs / 'drive1')]
    assert names == ['drive2/0.jpg', 'last.bmp']


def test_a_folder_without_images_says_what_counts(tmp_path):
    (tmp_path / 'notes.txt').write_text('')
    with pytest.raises(FileNotFoundError, match=r'no image in the folder.*\.jpg'):
        list_images(tmp_path)


def exif_turned(path):
    """An image of 20 x 10 that its EXIF data turns by 90 degrees."""
    image = Image.new('RGB', (20, 10), 'red')
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return path


def test_photographs_are_turned_by_their_exif_data(tmp_path):
    path = exif_turned(tmp_path / 'x.jpg')
    assert read_image(path).shape == (20, 10, 3)
    with Image.open(path) as image:
        assert to_bgr(image).shape == (20, 10, 3)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'P', 'LA', '1', 'CMYK', 'I;16'])
def test_pil_images_of_all_kinds_are_what_their_file_is(tmp_path, mode):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8))
    if mode == 'I;16':
        image = Image.fromarray(rng.integers(0, 65536, (12, 9), np.uint16))
    elif mode != 'RGB':
        image = image.convert(mode)
    path = tmp_path / ('x.tif' if mode == 'CMYK' else 'x.png')
    image.save(path)
    with Image.open(path) as opened:
        taken = to_bgr(opened)
    assert taken.shape == (12, 9, 3)
    assert taken.dtype == np.uint8
    if mode != 'CMYK':
        difference = np.abs(taken.astype(int) - read_image(path))
        assert difference.max() <= (1 if mode == 'I;16' else 0)


@pytest.mark.parametrize('suffix', ['.gif', '.webp', '.png'])
def test_animations_are_refused(tmp_path, suffix):
    rng = np.random.default_rng(0)
    frames = [
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(3)
    ]
    path = tmp_path / f'x{suffix}'
    frames[0].save(path, save_all=True, append_images=frames[1:])
    (image,) = iterate_inputs(path)
    assert 'has 3 frames and would be one image' in str(image.problem)
    frames[0].save(path)
    assert read_image(path).shape == (8, 8, 3)


def test_a_truncated_photograph_is_named(tmp_path, photographs):
    path = photographs / 'drive1' / '1.png'
    path.write_bytes(path.read_bytes()[:40])
    problems = [image for image in iterate_inputs(photographs) if image.problem]
    (image,) = problems
    assert image.name == 'drive1/1.png'
    assert 'cannot be decoded' in str(image.problem)


def test_images_in_memory_are_numbered(photographs):
    array = cv2.imread(str(photographs / 'last.bmp'))
    images = list(iterate_inputs([array, photographs / 'last.bmp', array]))
    assert [image.name for image in images] == ['000000', 'last.bmp', '000002']
