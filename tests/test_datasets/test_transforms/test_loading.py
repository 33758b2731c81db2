# Licensed under the Apache License, Version 2.0. See LICENSE.
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.datasets.transforms import (
    LoadCheckedImage,
    LoadPanopticMap,
)
from mmdet_efficientps.structures.panoptic import id2rgb, read_panoptic_png

VOID = 255


def test_png_gives_its_ids(tmp_path):
    ids = np.array([[0, 1, 255], [256, 65536, 2**24 - 1]])
    Image.fromarray(id2rgb(ids)).save(tmp_path / 'label.png')
    loaded = read_panoptic_png(str(tmp_path / 'label.png'))
    assert loaded.dtype == np.int32
    assert loaded.tolist() == ids.tolist()


def test_map_counts_segments_in_the_order_of_the_json(results):
    results = LoadPanopticMap()(results)
    assert results['gt_seg_map'].dtype == np.uint8
    assert results['gt_seg_map'].tolist() == [
        [VOID] * 6,
        [0, 2, 2, 0, 0, 0],
        [0, 2, 2, 0, 0, 2],
        [1, 1, 0, 0, VOID, VOID],
    ]


def test_table_tells_stuff_groups_and_instances(results):
    segments = LoadPanopticMap()(results)['gt_segments']
    assert segments['label'][:3].tolist() == [2, 0, 1]
    assert segments['is_instance'][:3].tolist() == [False, True, True]
    assert segments['is_crowd'][:3].tolist() == [False, True, False]
    assert (segments['label'][3:] == VOID).all()
    assert not segments['is_instance'][3:].any()


def test_image_without_ground_truth_passes_unchanged(results):
    results['seg_map_path'] = None
    assert LoadPanopticMap()(dict(results)) == results


def test_image_without_segments_is_void(results, scene):
    results['segments_info'] = results['instances'] = []
    Image.fromarray(id2rgb(0 * scene.ids)).save(results['seg_map_path'])
    assert (LoadPanopticMap()(results)['gt_seg_map'] == VOID).all()


def test_id_that_the_json_lacks_is_named_with_the_file(results, scene):
    del results['segments_info'][0]
    with pytest.raises(ValueError, match=rf'label\.png .*\[{scene.road}\]'):
        LoadPanopticMap()(results)


def test_id_that_the_json_names_twice_is_named_with_the_file(results, scene):
    results['segments_info'].append(results['segments_info'][0])
    with pytest.raises(ValueError, match=r'label\.png .*must not repeat'):
        LoadPanopticMap()(results)


def test_label_of_another_size_is_named_with_the_image(results):
    results['ori_shape'] = (8, 6)
    with pytest.raises(
        ValueError, match=r'image\.png is \(8, 6\), .*label\.png is \(4, 6\)'
    ):
        LoadPanopticMap()(results)


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n'])
def test_broken_png_is_named(results, tmp_path, content):
    (tmp_path / 'label.png').write_bytes(content)
    with pytest.raises(ValueError, match=r'label\.png cannot be decoded'):
        LoadPanopticMap()(results)


def test_missing_png_is_named(results, tmp_path):
    (tmp_path / 'label.png').unlink()
    with pytest.raises(FileNotFoundError, match='label.png'):
        LoadPanopticMap()(results)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_label_map_of_another_kind_is_refused(tmp_path, dtype):
    path = tmp_path / 'labelIds.png'
    Image.fromarray(np.full((4, 4), 7, dtype=dtype)).save(path)
    with pytest.raises(ValueError, match='expected 8-bit RGB'):
        read_panoptic_png(str(path))


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_broken_image_is_named(results, tmp_path, content):
    (tmp_path / 'image.png').write_bytes(content)
    with pytest.raises(ValueError, match=r'image\.png cannot be decoded'):
        LoadCheckedImage()(results)


def odd_images():
    """Bytes of images of one grey value, 100 of 255, in many kinds, by their names."""
    grey = np.full((4, 6), 100, np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    pictures = {
        'grey.png': Image.fromarray(grey),
        'grey.jpg': Image.fromarray(grey),
        'sixteen.png': Image.fromarray(grey.astype(np.uint16) * 257),
        'sixteen.tif': Image.fromarray(grey.astype(np.uint16) * 257),
        'alpha.png': Image.fromarray(np.dstack([rgb, grey])),
        'grey_alpha.png': Image.fromarray(np.dstack([grey, grey]), 'LA'),
        'palette.png': Image.fromarray(rgb).quantize(2),
        'cmyk.jpg': Image.fromarray(rgb).convert('CMYK'),
        'animated.gif': Image.fromarray(rgb),
        'picture.webp': Image.fromarray(rgb),
        'picture.bmp': Image.fromarray(rgb),
    }
    made = {}
    for name, picture in pictures.items():
        buffer = io.BytesIO()
        extra = {}
        if name == 'animated.gif':
            extra = dict(save_all=True, append_images=[Image.fromarray(255 - rgb)])
        picture.save(buffer, Image.registered_extensions()[Path(name).suffix], **extra)
        made[name] = buffer.getvalue()
    return made


ODD_IMAGES = odd_images()


@pytest.mark.parametrize('name', ODD_IMAGES)
def test_image_files_of_all_kinds_come_out_as_8_bit_color(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(ODD_IMAGES[name])
    image = LoadCheckedImage()({'img_path': str(path)})['img']
    assert image.dtype == np.uint8
    assert image.shape == (4, 6, 3)
    # lossy formats may round
    assert abs(image.astype(int) - 100).max() <= 2


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'content',
    [b'', b'no image', ODD_IMAGES['grey.png'][:-30], ODD_IMAGES['grey.jpg'][:50]],
    ids=['empty', 'text', 'cut-png', 'cut-jpeg'],
)
def test_image_that_cannot_be_decoded_is_named(tmp_path, content, backend):
    path = tmp_path / 'broken.png'
    path.write_bytes(content)
    load = LoadCheckedImage(imdecode_backend=backend)
    with pytest.raises(ValueError, match=r'broken\.png cannot be decoded'):
        load({'img_path': str(path)})


def test_missing_image_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nothing\.png'):
        LoadCheckedImage()({'img_path': str(tmp_path / 'nothing.png')})
