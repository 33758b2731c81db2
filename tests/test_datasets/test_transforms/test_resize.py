# Licensed under the Apache License, Version 2.0. See LICENSE.
import mmcv
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.datasets.transforms import InferencerLoader, LoadImageFromNDArray
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmdet_efficientps.datasets.transforms import (
    LoadCheckedImage,
    PackPanopticTargets,
    PanopticResize,
    RandomScaleCrop,
)
from mmdet_efficientps.datasets.transforms.resize import resize_map, to_color_image


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32])
def test_a_map_takes_the_pixel_at_the_center(dtype):
    row = np.array([[10, 11, 12, 13, 14, 15]], dtype=dtype)
    # new pixels are three wide: their centers are those of the second and the fifth
    smaller = resize_map(row, (2, 1))
    assert smaller.tolist() == [[11, 14]]
    assert smaller.dtype == dtype
    # and two of five: centers at 0.25, 0.75, 1.25, ... of the source
    larger = resize_map(row[:, :2], (4, 2))
    assert larger.tolist() == [[10, 10, 11, 11]] * 2


def ramp_and_map():
    """An image whose value is the column, and a map with the same values."""
    columns = np.tile(np.arange(60, dtype=np.uint8), (60, 1))
    return np.repeat(columns[..., None], 3, axis=2), columns


@pytest.mark.parametrize('size', [(20, 20), (12, 12), (90, 90)])
@pytest.mark.parametrize('kind', ['PanopticResize', 'RandomScaleCrop'])
def test_labels_stay_where_the_image_shows_them(kind, size):
    image, labels = ramp_and_map()
    transform = (
        PanopticResize(scale=size, keep_ratio=True)
        if kind == 'PanopticResize'
        else RandomScaleCrop(scale=size, crop_size=size)
    )
    results = transform({'img': image, 'gt_seg_map': labels})
    assert results['gt_seg_map'].shape == size
    difference = results['gt_seg_map'].astype(int) - results['img'][..., 0]
    # Bilinear values are those of the pixel center: the nearest pixel is off by
    # less than one, to either side alike.
    assert abs(difference).max() <= 1
    assert abs(difference[:, 2:-2].mean()) <= 0.25
    stock = mmcv.imresize(labels, size, interpolation='nearest')
    if size[0] < 60:
        assert (stock.astype(int) - results['img'][..., 0]).mean() <= -0.75


@pytest.mark.parametrize(
    ('shape', 'size', 'expected'),
    [
        # height and width; the scale (width, height); height and width
        ((12, 512), (512, 256), (12, 512)),
        ((1, 1), (512, 256), (256, 256)),
        ((300, 1), (512, 256), (512, 2)),
        ((1, 5000), (512, 256), (1, 512)),
        ((5000, 2), (512, 256), (512, 1)),
    ],
)
def test_strips_keep_at_least_a_pixel(shape, size, expected):
    results = PanopticResize(scale=size, keep_ratio=True)(
        {'img': np.full((*shape, 3), 9, np.uint8), 'gt_seg_map': np.zeros(shape, 'u1')}
    )
    assert results['img'].shape == (*expected, 3)
    assert results['img_shape'] == results['gt_seg_map'].shape == expected
    scale = expected[1] / shape[1], expected[0] / shape[0]
    assert results['scale_factor'] == scale


GREY = np.array([[0, 100], [200, 255]], np.uint8)
BGR = np.stack([GREY, GREY // 2, GREY // 4], axis=-1)


@pytest.mark.parametrize(
    ('image', 'expected'),
    [
        (GREY, np.stack([GREY] * 3, axis=-1)),
        (GREY[..., None], np.stack([GREY] * 3, axis=-1)),
        (np.dstack([BGR, 255 - GREY]), BGR),
        (BGR, BGR),
        (BGR.astype(np.float64), BGR),
        (np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 3))),
    ],
    ids=['grey', 'one-channel', 'alpha', 'bgr', 'float-255', 'black'],
)
def test_arrays_of_sure_meaning_are_taken(image, expected):
    color = to_color_image(image)
    np.testing.assert_array_equal(color, expected)
    assert color.dtype == (np.uint8 if image.dtype == np.uint8 else np.float32)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (BGR.astype(np.uint16) * 257, 'type uint16'),
        (BGR.astype(np.int64), 'type int64'),
        (BGR > 100, 'type bool'),
        (BGR / 255, r'fractional numbers in 0\.\.1'),
        (BGR - 128.0, 'fractional numbers in -128'),
        (BGR * np.nan, 'fractional numbers in nan'),
        (BGR[..., :2], r'shape \(2, 2, 2\)'),
        (BGR[None], r'shape \(1, 2, 2, 3\)'),
        (BGR[:0], r'shape \(0, 2, 3\)'),
        (np.zeros((3, 40, 60), np.uint8), r'shape \(3, 40, 60\)'),
    ],
)
def test_arrays_of_other_kinds_are_refused_in_words(image, message):
    resize = PanopticResize(scale=(8, 8), keep_ratio=True)
    with pytest.raises(ValueError, match=f'image given as an array .*{message}'):
        resize({'img': image})


def test_a_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / 'deep.png'
    Image.fromarray(GREY.astype(np.uint16) * 257).save(path)
    pipeline = Compose(
        [
            dict(type='LoadImageFromFile', color_type='unchanged'),
            dict(type='PanopticResize', scale=(8, 8)),
        ]
    )
    with pytest.raises(ValueError, match=r'deep\.png is of type uint16'):
        pipeline({'img_path': str(path)})


def test_mmdets_inferencer_finds_the_loader_by_its_name(tmp_path):
    loader = InferencerLoader(backend_args=None)
    assert type(loader.from_file) is LoadCheckedImage
    assert type(loader.from_ndarray) is LoadImageFromNDArray
    assert TRANSFORMS.get('LoadImageFromFile') is LoadCheckedImage
    # mmcv's own is still there for those who ask for it
    assert TRANSFORMS.get('mmengine.LoadImageFromFile') is LoadCheckedImage.__base__


def test_only_images_from_files_have_a_path():
    pack = PackPanopticTargets(meta_keys=('img_path', 'ori_shape'))
    common = {'img': BGR, 'ori_shape': (2, 2)}
    array = pack(common | {'img_path': None})['data_samples']
    assert 'img_path' not in array
    assert pack(common | {'img_path': 'a.png'})['data_samples'].img_path == 'a.png'
