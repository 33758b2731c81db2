# Licensed under the Apache License, Version 2.0. See LICENSE.
import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.datasets.prepare import BadInputError, readers
from mmdet_efficientps.datasets.transforms import LoadCheckedImage


def test_16_bit_rgb_is_not_cut_to_8_bits(tmp_path):
    path = tmp_path / 'label.png'
    cv2.imwrite(str(path), np.full((4, 4, 3), 300, np.uint16))
    with pytest.raises(BadInputError, match='not 8-bit RGB'):
        readers.read_color_map(path)


def test_jpeg_is_no_label(tmp_path):
    path = tmp_path / 'label.png'
    Image.new('RGB', (4, 4)).save(path, 'JPEG')
    with pytest.raises(BadInputError, match='not 8-bit RGB'):
        readers.read_color_map(path)


@pytest.mark.parametrize(
    ('label', 'fits'),
    [((124, 37), True), ((1280, 384), True), ((640, 384), False), ((0, 0), False)],
)
def test_aspect_ratios_fit_within_two_per_cent(label, fits):
    if fits:
        readers.check_size((1242, 375), label, 'image', same_view=True)
        return
    with pytest.raises(BadInputError, match='differ in size'):
        readers.check_size((1242, 375), label, 'image', same_view=True)


def jpeg(exif=None, size=(30, 20), **kwargs):
    """Bytes of a JPEG with these bytes as EXIF data."""
    stream = io.BytesIO()
    Image.new('RGB', size).save(stream, 'JPEG', **kwargs)
    content = stream.getvalue()
    if exif is None:
        return content
    segment = b'Exif\0\0' + exif
    head = b'\xff\xe1' + struct.pack('>H', len(segment) + 2)
    return content[:2] + head + segment + content[2:]


def tiff(value, kind=3, order='<', magic=42, entries=1):
    """EXIF data with an orientation of four bytes."""
    mark = b'II' if order == '<' else b'MM'
    head = mark + struct.pack(f'{order}HIH', magic, 8, entries)
    return head + struct.pack(f'{order}HHI', 274, kind, 1) + value + bytes(4)


SHORT = '<HH'
EXIF = {
    'none': (None, (30, 20)),
    'cut after the magic number': (b'II*\0', (30, 20)),
    'empty': (b'', (30, 20)),
    'random': (bytes(range(60)), (30, 20)),
    'as it is': (tiff(struct.pack(SHORT, 1, 0)), (30, 20)),
    'upside down': (tiff(struct.pack(SHORT, 3, 0)), (30, 20)),
    'turned': (tiff(struct.pack(SHORT, 6, 0)), (20, 30)),
    'turned, other byte order': (tiff(struct.pack('>HH', 8, 0), order='>'), (20, 30)),
    'turned, then cut': (tiff(struct.pack(SHORT, 6, 0), entries=40), (20, 30)),
    'no such orientation': (tiff(struct.pack(SHORT, 9, 0)), (30, 20)),
    'orientation 0': (tiff(struct.pack(SHORT, 0, 0)), (30, 20)),
    'text': (tiff(b'6\0\0\0', kind=2), (30, 20)),
    'other magic number': (tiff(struct.pack(SHORT, 6, 0), magic=43), (30, 20)),
}


@pytest.mark.parametrize('case', EXIF)
def test_image_with_any_exif_data_has_the_size_it_is_trained_at(tmp_path, case):
    exif, size = EXIF[case]
    path = tmp_path / 'a.jpg'
    path.write_bytes(jpeg(exif))
    assert readers.read_image_size(path) == size
    # What training loads is the judge of the table above.
    image = LoadCheckedImage()({'img_path': str(path)})['img']
    assert image.shape[1::-1] == size


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF', 'MPO'])
def test_other_formats_turned_by_exif_have_the_size_they_are_trained_at(tmp_path, kind):
    path = tmp_path / f'a.{kind.lower()}'
    exif = Image.Exif()
    exif[274] = 6
    Image.new('RGB', (30, 20)).save(path, kind, exif=exif)
    image = LoadCheckedImage()({'img_path': str(path)})['img']
    assert readers.read_image_size(path) == image.shape[1::-1]


@pytest.mark.parametrize('mode', ['L', 'CMYK', 'I;16', 'P', 'RGBA', '1', 'LA'])
def test_image_of_any_color_mode_has_a_size(tmp_path, mode):
    path = tmp_path / f'a.{"jpg" if mode == "CMYK" else "png"}'
    Image.new(mode, (30, 20)).save(path)
    assert readers.read_image_size(path) == (30, 20)


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_image_of_more_pixels_than_pillow_allows_has_a_size(
    tmp_path, monkeypatch, suffix
):
    path = tmp_path / f'a.{suffix}'
    Image.new('L', (60, 40)).save(path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    assert readers.read_image_size(path) == (60, 40)
    # The limit is one for all of a program, which may want it.
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_file_that_is_no_image_is_named(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(b'Exif, but no image')
    with pytest.raises(BadInputError, match='damaged or no image'):
        readers.read_image_size(path)
    with pytest.raises(BadInputError, match='is missing'):
        readers.read_image_size(tmp_path)


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
@pytest.mark.parametrize('kept', [0, 0.1, 0.5, 0.95])
def test_damage_anywhere_in_an_image_is_found(tmp_path, suffix, kept):
    path = tmp_path / f'noise.{suffix}'
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    assert readers.read_image_size(path) == (64, 64)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(BadInputError) as error:
        readers.read_image_size(path)
    ((kind, names),) = error.value.problems.names.items()
    assert 'image cannot be read' in kind
    assert names == [str(path)]


@pytest.mark.parametrize('lost', [1, 12, 13, 200])
@pytest.mark.parametrize(
    ('read', 'pixels'),
    [
        (readers.read_instance_map, np.arange(400, dtype=np.uint16).reshape(20, 20)),
        (readers.read_color_map, np.arange(1200).astype(np.uint8).reshape(20, 20, 3)),
    ],
)
def test_label_png_that_is_cut_short_is_named(tmp_path, read, pixels, lost):
    path = tmp_path / 'label.png'
    content = cv2.imencode('.png', pixels)[1].tobytes()
    path.write_bytes(content)
    assert read(path).shape == (20, 20)
    path.write_bytes(content[:-lost])
    with pytest.raises(BadInputError, match='damaged'):
        read(path)


@pytest.mark.parametrize('shape', [(4, 4), (4, 4, 3)])
def test_instance_map_of_another_depth_is_named(tmp_path, shape):
    path = tmp_path / 'label.png'
    cv2.imwrite(str(path), np.ones(shape, np.uint8))
    with pytest.raises(BadInputError, match='not 16-bit grey'):
        readers.read_instance_map(path)
