# Licensed under the Apache License, Version 2.0. See LICENSE.
import cv2
import numpy as np
import pytest

from mmdet_efficientps.datasets.fingerprint import DataFiles, read_fingerprint
from mmdet_efficientps.structures.panoptic import (
    read_json,
    write_json,
    write_panoptic_png,
)
from mmdet_efficientps.testing.data_set_trees import write_own

CATEGORIES = [
    {'id': 5, 'name': 'road', 'isthing': 0},
    {'id': 7, 'name': 'car', 'isthing': 1},
    {'id': 9, 'name': 'sky', 'isthing': 0},
    {'id': 11, 'name': 'person', 'isthing': 1},
]
ROAD, CAR, SKY, CROWD = 1, 2, 3, 4
KINDS = {ROAD: 5, CAR: 7, SKY: 9, CROWD: 11}


def first_map():
    """20 x 10 pixels: road, and a car of 4 x 9 pixels."""
    ids = np.full((10, 20), ROAD)
    ids[1:10, 2:6] = CAR
    return ids


def second_map():
    """20 x 10 pixels: sky, 50 pixels of void, and a crowd of 10 x 2 pixels."""
    ids = np.full((10, 20), SKY)
    ids[:, :5] = 0
    ids[:2, 10:] = CROWD
    return ids


@pytest.fixture
def files(tmp_path):
    """Two images with labels, measured in the json."""
    json_file, images = write_own(
        tmp_path, 'mine', [first_map(), second_map()], KINDS, CATEGORIES, [CROWD]
    )
    return DataFiles(json_file, images, tmp_path / 'mine')


def change(files, edit):
    """Change the json."""
    content = read_json(files.json_file)
    edit(content)
    write_json(files.json_file, content)


def test_classes_are_counted_things_first(files):
    data = read_fingerprint(files)
    assert data.classes.names == ('car', 'person', 'road', 'sky')
    assert data.num_segments.tolist() == [1, 1, 1, 1]
    assert data.num_images.tolist() == [1, 1, 1, 1]
    # Of 2 x 200 pixels: 36, 20, 200 - 36 and 200 - 50 - 20.
    assert data.pixel_shares.tolist() == [36 / 400, 20 / 400, 164 / 400, 130 / 400]


def test_things_are_measured_without_crowds_and_stuff_by_its_area(files):
    data = read_fingerprint(files)
    (car,) = data.instances
    assert (car['image'], car['area'], car['width'], car['height']) == (0, 36, 4, 9)
    assert sorted(data.stuff_areas) == [130, 164]


def test_classes_of_one_image_are_seen_together(files):
    together = read_fingerprint(files).together
    assert together.tolist() == [
        [1, 0, 1, 0],
        [0, 1, 0, 1],
        [1, 0, 1, 0],
        [0, 1, 0, 1],
    ]


@pytest.mark.parametrize('key', ['area', 'bbox'])
@pytest.mark.parametrize('value', [None, 0])
def test_what_the_json_does_not_measure_is_measured_in_the_png(files, key, value):
    expected = read_fingerprint(files).segments

    def edit(content):
        for annotation in content['annotations']:
            for segment in annotation['segments_info'][1:]:
                segment[key] = [value] * 4 if value == 0 and key == 'bbox' else value

    change(files, edit)
    assert np.array_equal(read_fingerprint(files).segments, expected)


def test_pngs_are_not_decoded_if_the_json_has_all(files):
    for path in files.png_dir.iterdir():
        content = path.read_bytes()
        # The pixels are nonsense, beginning and end those of a PNG.
        path.write_bytes(content[:40] + bytes(len(content) - 52) + content[-12:])
    assert len(read_fingerprint(files).instances) == 1


def test_equal_pixels_have_equal_hashes_whatever_file_they_are_in(files):
    pixels = cv2.imread(str(files.image_dir / '0.png'))
    cv2.imwrite(
        str(files.image_dir / '1.png'), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0]
    )
    first, second = read_fingerprint(files).digests
    assert first == second
    pixels[0, 0, 0] ^= 1
    cv2.imwrite(str(files.image_dir / '1.png'), pixels)
    first, second = read_fingerprint(files).digests
    assert first != second


def write_16_bits(files, top):
    """Replace an image by one of 16 bits, with values up to ``top``."""
    pixels = np.linspace(0, top, 200).reshape(10, 20).astype(np.uint16)
    cv2.imwrite(str(files.image_dir / '1.png'), pixels)


def test_thumbnails_are_of_what_the_training_reads(files):
    write_16_bits(files, 65535)
    assert read_fingerprint(files).thumbnails[1].max() > 250
    write_16_bits(files, 4095)
    assert 0 < read_fingerprint(files).thumbnails[1].max() < 16


def test_processes_give_the_same(files):
    one, two = read_fingerprint(files), read_fingerprint(files, nproc=2)
    assert np.array_equal(one.segments, two.segments)
    assert one.digests == two.digests


def test_part_of_the_images_has_its_own_figures(files):
    part = read_fingerprint(files).select([1])
    assert part.num_images.tolist() == [0, 1, 0, 1]
    assert part.segments['image'].tolist() == [0, 0]
    assert [path.name for path in part.paths] == ['1.png']
    assert [path.name for path in part.png_paths] == ['1.png']


def drop_annotation(files):
    change(files, lambda content: content['annotations'].pop())


def drop_image(files):
    change(files, lambda content: content['images'].pop())


def resize(files):
    change(files, lambda content: content['images'][0].update(width=21))


def cut_png(files):
    path = files.png_dir / '1.png'
    path.write_bytes(path.read_bytes()[:-30])


def grey_png(files):
    cv2.imwrite(str(files.png_dir / '1.png'), np.ones((10, 20), np.uint8))


def small_png(files):
    write_panoptic_png(files.png_dir / '1.png', second_map()[:4, :8])


def small_png_not_measured(files):
    small_png(files)
    change(files, lambda c: c['annotations'][1]['segments_info'][0].pop('area'))


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda f: f.json_file.write_text('{"images": ['), 'damaged or not a json'),
        (lambda f: f.json_file.unlink(), 'json does not exist'),
        (lambda f: (f.image_dir / '1.png').unlink(), 'image is missing'),
        (lambda f: (f.image_dir / '1.png').write_bytes(b'x'), 'damaged or no image'),
        (lambda f: (f.image_dir / '1.png').write_bytes(b''), 'image cannot be read'),
        (lambda f: (f.png_dir / '1.png').unlink(), 'PNG of segments is missing'),
        (
            lambda f: (f.png_dir / '1.png').write_bytes(b'x'),
            r'1\.png: cannot be decoded',
        ),
        (cut_png, r'1\.png: cannot be decoded'),
        (grey_png, r'1\.png: is no panoptic PNG: expected 8-bit RGB'),
        (small_png, r'PNG of segments has another size .*\n.*\(8, 4\) and \(20, 10\)'),
        (small_png_not_measured, 'PNG of segments has another size'),
        (lambda f: write_16_bits(f, 255), 'is read as black: of its 16 bits'),
        (drop_annotation, r"without an entry in 'annotations'"),
        (drop_image, r"annotation of an image that is not in 'images'"),
        (resize, r'another size .*than the json says'),
        (lambda f: f.png_dir.rename(f.png_dir.with_name('a')), 'give it with --seg'),
        (lambda f: f.image_dir.rename(f.image_dir.with_name('a')), 'folder of images'),
        (
            lambda f: change(f, lambda c: c.update(images=[], annotations=[])),
            'lists no images',
        ),
    ],
)
def test_what_is_missing_or_damaged_is_named_with_the_json(files, spoil, message):
    spoil(files)
    with pytest.raises(ValueError, match=message) as error:
        read_fingerprint(files)
    assert str(files.json_file) in str(error.value)


def test_a_png_with_other_segments_than_the_json_is_named(files):
    def edit(content):
        segments = content['annotations'][0]['segments_info']
        del segments[0]['area'], segments[1]

    change(files, edit)
    with pytest.raises(ValueError, match=r'does not fit the json.*\n.*0\.png'):
        read_fingerprint(files)
