# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.datasets.transforms import LoadPanopticAnnotations
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmdet_efficientps.datasets.transforms import (
    LoadCheckedImage,
    LoadPanopticSegments,
    load_panoptic_png,
)
from mmdet_efficientps.utils.panoptic_ids import id2rgb

# Classes: 0 person, 1 car, 2 road. The car has a pixel of its own at the right.
ROAD, CAR, GROUP = 70000, 26001, 24
IDS = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [ROAD, CAR, CAR, ROAD, ROAD, ROAD],
        [ROAD, CAR, CAR, ROAD, ROAD, CAR],
        [GROUP, GROUP, ROAD, ROAD, 0, 0],
    ]
)
VOID = 255


@pytest.fixture
def results(tmp_path):
    """Result dict of an image with a car, a group of persons, road and void."""
    image_path, png_path = tmp_path / 'image.png', tmp_path / 'label.png'
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (*IDS.shape, 3), np.uint8)).save(image_path)
    Image.fromarray(id2rgb(IDS)).save(png_path)
    return {
        'img_path': str(image_path),
        'seg_map_path': str(png_path),
        'img_id': 1,
        'ori_shape': IDS.shape,
        'height': IDS.shape[0],
        'width': IDS.shape[1],
        'segments_info': [
            {'id': ROAD, 'category': 2, 'is_thing': False, 'iscrowd': 0},
            {'id': GROUP, 'category': 0, 'is_thing': False, 'iscrowd': 1},
            {'id': CAR, 'category': 1, 'is_thing': True, 'iscrowd': 0},
        ],
        'instances': [
            # The box of the json is wrong on purpose.
            {'bbox_label': 0, 'ignore_flag': 1, 'segment_id': GROUP},
            {
                'bbox_label': 1,
                'ignore_flag': 0,
                'segment_id': CAR,
                'bbox': [0, 0, 1, 1],
            },
        ],
    }


def test_boxes_are_tight_around_the_masks(results):
    results = LoadPanopticSegments()(results)
    assert results['gt_bboxes'].tensor.tolist() == [[0, 3, 2, 4], [1, 1, 6, 3]]
    assert results['gt_bboxes_labels'].tolist() == [0, 1]


def test_masks_stand_in_the_order_of_the_instances(results):
    masks = LoadPanopticSegments()(results)['gt_masks'].masks
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks[0], IDS == GROUP)
    np.testing.assert_array_equal(masks[1], IDS == CAR)


def test_group_is_ignored_but_painted_with_its_class(results):
    results = LoadPanopticSegments()(results)
    assert results['gt_ignore_flags'].tolist() == [True, False]
    assert results['gt_seg_map'].dtype == np.uint8
    assert results['gt_seg_map'].tolist() == [
        [VOID] * 6,
        [2, 1, 1, 2, 2, 2],
        [2, 1, 1, 2, 2, 1],
        [0, 0, 2, 2, VOID, VOID],
    ]


def test_agrees_with_mmdet_where_mmdet_can_load(results):
    pytest.importorskip('panopticapi')
    results['instances'] = []
    results['segments_info'][1]['is_thing'] = True
    expected = LoadPanopticAnnotations()(dict(results))
    results['instances'] = [
        {'bbox_label': 0, 'ignore_flag': 0, 'segment_id': GROUP},
        {'bbox_label': 1, 'ignore_flag': 0, 'segment_id': CAR},
    ]
    loaded = LoadPanopticSegments()(results)
    np.testing.assert_array_equal(loaded['gt_seg_map'], expected['gt_seg_map'])
    np.testing.assert_array_equal(loaded['gt_masks'].masks, expected['gt_masks'].masks)


def test_segment_without_pixels_has_no_instance(results):
    results['segments_info'].append({'id': 5, 'category': 1, 'is_thing': True})
    results['instances'].insert(
        1, {'bbox_label': 1, 'ignore_flag': 0, 'segment_id': 5, 'bbox': [0, 0, 2, 2]}
    )
    results = LoadPanopticSegments()(results)
    assert results['gt_ignore_flags'].tolist() == [True, False]
    assert len(results['gt_bboxes']) == len(results['gt_masks']) == 2


@pytest.mark.parametrize('labelled', [True, False])
def test_image_without_things_gives_empty_arrays(results, labelled):
    results['instances'] = []
    if labelled:
        ids = np.full(IDS.shape, ROAD)
    else:
        ids = np.zeros(IDS.shape, dtype=int)
        results['segments_info'] = []
    Image.fromarray(id2rgb(ids)).save(results['seg_map_path'])
    results = LoadPanopticSegments()(results)
    assert results['gt_bboxes'].tensor.shape == (0, 4)
    assert results['gt_masks'].masks.shape == (0, *IDS.shape)
    assert results['gt_bboxes_labels'].shape == results['gt_ignore_flags'].shape == (0,)
    assert (results['gt_seg_map'] == (2 if labelled else VOID)).all()


def test_image_without_ground_truth_passes_unchanged(results):
    results['seg_map_path'] = None
    assert LoadPanopticSegments()(dict(results)) == results


def test_parts_can_be_left_out(results):
    results = LoadPanopticSegments(with_mask=False, with_seg=False)(results)
    assert 'gt_bboxes' in results
    assert 'gt_masks' not in results
    assert 'gt_seg_map' not in results


def test_id_that_the_json_lacks_is_named_with_the_file(results):
    del results['segments_info'][0]
    with pytest.raises(ValueError, match=rf'label\.png .*\[{ROAD}\]'):
        LoadPanopticSegments()(results)


def test_label_of_another_size_is_named_with_the_image(results):
    results['ori_shape'] = (8, 6)
    with pytest.raises(
        ValueError, match=r'image\.png is \(8, 6\), .*label\.png is \(4, 6\)'
    ):
        LoadPanopticSegments()(results)


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n'])
def test_broken_png_is_named(results, tmp_path, content):
    (tmp_path / 'label.png').write_bytes(content)
    with pytest.raises(ValueError, match=r'label\.png cannot be decoded'):
        LoadPanopticSegments()(results)


def test_missing_png_is_named(results, tmp_path):
    (tmp_path / 'label.png').unlink()
    with pytest.raises(FileNotFoundError, match='label.png'):
        LoadPanopticSegments()(results)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_label_map_of_another_kind_is_refused(tmp_path, dtype):
    path = tmp_path / 'labelIds.png'
    Image.fromarray(np.full((4, 4), 7, dtype=dtype)).save(path)
    with pytest.raises(ValueError, match='expected 8-bit RGB'):
        load_panoptic_png(str(path))


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_broken_image_is_named(results, tmp_path, content):
    (tmp_path / 'image.png').write_bytes(content)
    with pytest.raises(ValueError, match=r'image\.png cannot be decoded'):
        LoadCheckedImage()(results)


def test_transforms_of_mmdet_follow(results):
    pipeline = Compose(
        [
            TRANSFORMS.build(config)
            for config in (
                {'type': 'LoadCheckedImage'},
                {'type': 'LoadPanopticSegments'},
                {
                    'type': 'RandomResize',
                    'scale': (12, 8),
                    'ratio_range': (1.0, 1.0),
                    'keep_ratio': True,
                    'resize_type': 'mmdet.Resize',
                },
                {'type': 'RandomCrop', 'crop_size': (12, 8)},
                {'type': 'RandomFlip', 'prob': 1.0},
                {'type': 'PackDetInputs'},
            )
        ]
    )
    packed = pipeline(results)
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 8, 12)
    assert sample.gt_sem_seg.sem_seg.shape == (1, 8, 12)
    # Doubled and mirrored: the car spans columns 1..5 of 6, rows 1..2.
    assert sample.gt_instances.bboxes.tensor.tolist() == [[0, 2, 10, 6]]
    assert sample.gt_instances.labels.tolist() == [1]
    assert sample.ignored_instances.bboxes.tensor.tolist() == [[8, 6, 12, 8]]
    expected = np.kron(IDS[:, ::-1] == CAR, np.ones((2, 2)))
    np.testing.assert_array_equal(sample.gt_instances.masks.masks[0], expected)
    np.testing.assert_array_equal(sample.gt_sem_seg.sem_seg[0] == 1, expected)
