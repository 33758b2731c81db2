# Licensed under the Apache License, Version 2.0. See LICENSE.
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
