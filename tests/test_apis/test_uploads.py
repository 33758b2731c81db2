# Licensed under the Apache License, Version 2.0. See LICENSE.
import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.apis.uploads import (
    UploadedVideo,
    UploadError,
    UploadLimits,
    read_uploaded_image,
)

LIMITS = UploadLimits(megabytes=1, megapixels=0.01, video_seconds=1, video_frames=20)
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (60, 80, 3), np.uint8)


def write_video(path, num_frames, size=(64, 48)):
    video = pytest.importorskip('av', reason='needs PyAV: pip install av') and (
        __import__('mmdet_efficientps.apis.video', fromlist=['VideoWriter'])
    )
    with video.VideoWriter(path, 10, size) as writer:
        for number in range(num_frames):
            frame = np.full((size[1], size[0], 3), 10 * number % 256, np.uint8)
            writer.write(frame)
    return path


@pytest.fixture
def save(tmp_path):
    def _save(image, name, **kwargs):
        path = tmp_path / name
        image.save(path, **kwargs)
        return path

    return _save


def test_an_image_comes_as_bgr_and_without_notes(save):
    path = save(Image.fromarray(NOISE), 'a.png')
    image, notes = read_uploaded_image(path, LIMITS)
    assert (image == NOISE[..., ::-1]).all()
    assert notes == []


def test_a_phone_picture_is_turned_upright(save):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = save(Image.fromarray(NOISE), 'a.jpg', exif=exif)
    image, _ = read_uploaded_image(path, LIMITS)
    assert image.shape == (80, 60, 3)


@pytest.mark.parametrize(
    ('mode', 'note'),
    [('L', 'no colors'), ('RGBA', 'Transparency'), ('P', None), ('CMYK', None)],
)
def test_all_kinds_of_pictures_become_color_images(save, mode, note):
    name = 'a.tif' if mode == 'CMYK' else 'a.png'
    path = save(Image.fromarray(NOISE).convert(mode), name)
    image, notes = read_uploaded_image(path, LIMITS)
    assert (image.shape, image.dtype) == ((60, 80, 3), np.uint8)
    assert [note in n for n in notes] == ([True] if note else [])


def test_of_16_bits_the_upper_ones_are_taken(tmp_path):
    path = tmp_path / 'a.png'
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    cv2.imwrite(str(path), values)
    image, notes = read_uploaded_image(path, LIMITS)
    assert (image[..., 0] == values >> 8).all()
    assert any('16 bits' in note for note in notes)


def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(save):
    frames = [
        Image.fromarray(np.full((6, 8, 3), value, np.uint8)) for value in (10, 200)
    ]
    path = save(frames[0], 'a.gif', save_all=True, append_images=frames[1:])
    image, (note,) = read_uploaded_image(path, LIMITS)
    assert (image == 10).all()
    assert '2 frames' in note


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif'])
def test_half_a_file_is_refused(save, suffix):
    path = save(Image.fromarray(NOISE), f'half{suffix}')
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        UploadError, match=rf'^half\{suffix} (is damaged|cannot be read)'
    ):
        read_uploaded_image(path, LIMITS)


@pytest.mark.parametrize(
    ('content', 'words'),
    [(b'just a text', 'cannot be read as an image'), (b'', 'is empty')],
)
def test_what_is_no_image_is_refused_without_the_path(tmp_path, content, words):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(UploadError, match=words) as caught:
        read_uploaded_image(path, LIMITS)
    assert str(tmp_path) not in str(caught.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(save, monkeypatch):
    path = save(Image.new('RGB', (200, 100)), 'wide.png')
    monkeypatch.setattr(Image.Image, 'load', None)
    with pytest.raises(
        UploadError, match=r'wide.png has 0.02 megapixels.* 0.01 at most'
    ):
        read_uploaded_image(path, LIMITS)


def test_an_image_of_180_megapixels_is_refused(save):
    path = save(Image.new('1', (20000, 9100)), 'huge.png')
    with pytest.raises(UploadError, match='huge.png has .*megapixels.*make it smaller'):
        read_uploaded_image(path, UploadLimits())


def test_too_many_bytes_are_refused(tmp_path):
    path = tmp_path / 'a.bmp'
    path.write_bytes(bytes(1_200_000))
    with pytest.raises(UploadError, match='1.2 MB, and this page takes 1 MB at most'):
        read_uploaded_image(path, LIMITS)


def test_a_short_video_is_drawn_anew(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 5)
    video = UploadedVideo(path, LIMITS)
    seen = []

    def draw(frame):
        seen.append(frame.index)
        return 255 - frame.image

    assert video.redraw(tmp_path / 'out.mp4', draw) == []
    assert seen == [0, 1, 2, 3, 4]
    assert (tmp_path / 'out.mp4').stat().st_size > 0


def test_a_long_video_is_refused_before_a_frame_is_drawn(tmp_path):
    path = write_video(tmp_path / 'long.mp4', 15)
    with pytest.raises(UploadError, match='long.mp4 is too long.* 1 seconds'):
        UploadedVideo(path, LIMITS)


def test_a_video_that_does_not_tell_its_length_ends_at_the_limit(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 15)
    video = UploadedVideo(path, UploadLimits())
    video.limits = LIMITS

    with pytest.raises(UploadError, match='too long'):
        video.redraw(tmp_path / 'out.mp4', lambda frame: frame.image)
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_of_large_frames_is_refused(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 2, size=(128, 96))
    with pytest.raises(UploadError, match='megapixels'):
        UploadedVideo(path, LIMITS)


def test_what_is_no_video_is_refused_without_the_path(tmp_path):
    pytest.importorskip('av', reason='needs PyAV: pip install av')
    path = tmp_path / 'a.mp4'
    path.write_bytes(b'just a text' * 99)
    with pytest.raises(UploadError, match='a.mp4') as caught:
        UploadedVideo(path, LIMITS)
    assert str(tmp_path) not in str(caught.value)
