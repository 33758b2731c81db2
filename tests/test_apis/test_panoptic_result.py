# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import sys

import numpy as np
import pytest
from pycocotools import mask as mask_api

from mmdet_efficientps.apis import Instances, PanopticResult
from mmdet_efficientps.structures.panoptic import PanopticClass, PanopticClasses

CLASSES = PanopticClasses(
    (
        PanopticClass(24, 'person', True, (220, 20, 60)),
        PanopticClass(26, 'car', True, (0, 0, 142)),
        PanopticClass(7, 'road', False, (128, 64, 128)),
    )
)
# Two cars on a road, and void in a corner.
ENCODED = np.array(
    [
        [3, 2, 2, 2, 2],
        [2, 1001, 1001, 2, 2001],
        [2, 2, 1001, 2, 2001],
    ]
)


@pytest.fixture
def result():
    return PanopticResult.from_panoptic_seg(
        ENCODED, CLASSES, scores=[0.75, 0.5], name='drive/1.jpg'
    )


def test_segments_have_class_area_box_and_score(result):
    road, car, other = result.segments
    assert (road.label, road.area, road.bbox, road.score) == (2, 9, (0, 0, 5, 3), None)
    assert (car.id, car.area, car.bbox, car.score) == (1002, 3, (1, 1, 2, 2), 0.75)
    assert (other.id, other.area, other.bbox, other.score) == (
        2002,
        2,
        (4, 1, 1, 2),
        0.5,
    )
    assert result.class_of(car) == CLASSES.classes[1]
    assert np.array_equal(result.mask(other), ENCODED == 2001)


def test_mmdets_encoding_comes_back(result):
    assert np.array_equal(result.panoptic_seg(), ENCODED)


def test_a_score_that_is_not_known_is_none():
    result = PanopticResult.from_panoptic_seg(ENCODED, CLASSES)
    assert [s.score for s in result.segments] == [None] * 3
    assert all('score' not in entry for entry in result.to_coco())
    assert [s['score'] for s in result.as_dict()['segments']] == [None] * 3


def test_a_pixel_tells_its_segment(result):
    assert result.segment_at(4, 2).id == 2002
    assert result.segment_at(0, 0) is None
    with pytest.raises(IndexError, match='pixel x=5, y=0 is outside of 5x3'):
        result.segment_at(5, 0)
    with pytest.raises(IndexError, match='x=-1'):
        result.segment_at(-1, 0)


def test_json_has_the_categories_of_the_data_set(result):
    assert result.to_coco()[1] == {
        'id': 1002,
        'category_id': 26,
        'area': 3,
        'bbox': [1, 1, 2, 2],
        'iscrowd': 0,
        'score': 0.75,
    }
    content = json.loads(json.dumps(result.as_dict()))
    assert content['name'] == 'drive/1.jpg'
    assert (content['height'], content['width']) == (3, 5)
    for entry, segment in zip(content['segments'], result.segments, strict=True):
        mask = mask_api.decode(entry['segmentation'])
        assert np.array_equal(mask.astype(bool), result.mask(segment))
        assert entry['class'] == result.class_of(segment).name
    assert [entry['isthing'] for entry in content['segments']] == [False, True, True]


def test_instances_are_coco_results(result):
    with pytest.raises(ValueError, match='instances=True'):
        result.instances_to_coco(1)
    mask = mask_api.encode(np.asfortranarray(ENCODED == 1001, dtype=np.uint8))
    result.instances = Instances(
        np.array([[1, 1, 3, 3]], np.float32), np.array([0.5]), np.array([1]), [mask]
    )
    (entry,) = json.loads(json.dumps(result.instances_to_coco('a')))
    assert entry['bbox'] == [1, 1, 2, 2]
    assert (entry['image_id'], entry['category_id'], entry['score']) == ('a', 26, 0.5)
    assert mask_api.area(entry['segmentation']) == 3


def test_drawing_keeps_void_and_has_the_colors_of_the_classes(result):
    image = np.full((3, 5, 3), 100, np.uint8)
    drawn = result.draw(image, alpha=1.0)
    assert drawn[0, 2].tolist() == [128, 64, 128]
    assert result.draw(image, alpha=0.5)[0, 0].tolist() == [50, 50, 50]
    with pytest.raises(ValueError, match='must be of one size'):
        result.draw(image[:2])


def test_a_tracked_thing_keeps_its_color_whatever_its_number_in_the_image():
    big = np.full((9, 20), 2)
    big[2:8, 2:8] = 1001
    one = PanopticResult.from_panoptic_seg(big, CLASSES, [0.9]).with_tracks({1002: 7})
    big[2:8, 12:18] = 1001
    big[2:8, 2:8] = 2001
    two = PanopticResult.from_panoptic_seg(big, CLASSES, [0.9, 0.8])
    image = np.zeros((9, 20, 3), np.uint8)
    assert (two.draw(image)[4, 4] != one.draw(image)[4, 4]).any()
    two = two.with_tracks({2002: 7, 1002: 8})
    assert (two.draw(image)[4, 4] == one.draw(image)[4, 4]).all()
    assert [entry.get('track_id') for entry in two.to_coco()] == [None, 8, 7]


def test_an_image_of_void_alone_has_no_segments():
    result = PanopticResult.from_panoptic_seg(np.full((2, 2), 3), CLASSES, [])
    assert result.segments == ()
    assert result.to_coco() == []
    assert np.array_equal(result.panoptic_seg(), np.full((2, 2), 3))


def test_supervision_gets_masks_and_what_is_known(result):
    supervision = pytest.importorskip('supervision')
    detections = result.with_tracks({1002: 5}).to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.xyxy.tolist() == [[0, 0, 5, 3], [1, 1, 3, 3], [4, 1, 5, 3]]
    assert detections.class_id.tolist() == [2, 1, 1]
    assert np.isnan(detections.confidence[0])
    assert detections.confidence[1:].tolist() == [0.75, 0.5]
    assert detections.tracker_id.tolist() == [-1, 5, -1]
    assert detections.data['class_name'].tolist() == ['road', 'car', 'car']
    assert PanopticResult.from_panoptic_seg(ENCODED, CLASSES).to_supervision()
    nothing = PanopticResult.from_panoptic_seg(np.full((2, 2), 3), CLASSES)
    assert len(nothing.to_supervision()) == 0


@pytest.mark.parametrize(
    'name', ['Mask', 'Polygon', 'Box', 'BoxCorner', 'Color', 'Halo', 'Label', 'Trace']
)
def test_annotators_of_supervision_draw_a_result(name):
    supervision = pytest.importorskip('supervision')
    codes = np.full((60, 80), 2)
    codes[10:40, 10:40], codes[10:40, 50:75], codes[50:] = 1001, 2001, 3
    result = PanopticResult.from_panoptic_seg(codes, CLASSES, [0.9, 0.8])
    detections = result.with_tracks({1002: 1, 2002: 2}).to_supervision()
    annotator = getattr(supervision, f'{name}Annotator')()
    things = detections[detections.data['isthing']]
    assert things.data['class_name'].tolist() == ['car', 'car']
    image = np.zeros((60, 80, 3), np.uint8)
    # The trace has a length from the second image on.
    for shown in (detections, things):
        drawn = annotator.annotate(image.copy(), shown)
    assert drawn.shape == image.shape
    assert drawn.any() or name == 'Trace'


def test_without_supervision_the_command_is_told(result, monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ImportError, match='pip install supervision'):
        result.to_supervision()
