# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import pytest
import torch
from mmdet.registry import DATASETS

from mmdet_efficientps.datasets import PanopticDataset

CATEGORIES = [
    {'id': 7, 'name': 'road', 'isthing': 0, 'color': [128, 64, 128]},
    {'id': 26, 'name': 'car', 'isthing': 1, 'color': [0, 0, 142]},
    {'id': 24, 'name': 'person', 'isthing': 1, 'color': [220, 20, 60]},
]
METAINFO = {'thing_classes': ('person', 'car'), 'stuff_classes': ('road',)}


@pytest.fixture
def content():
    """A json of two images: one with three segments, one with none."""
    segments = [
        {'id': 100, 'category_id': 7},
        {'id': 200, 'category_id': 26, 'iscrowd': 0, 'bbox': [1, 2, 3, 4]},
        {'id': 300, 'category_id': 24, 'iscrowd': 1},
    ]
    return {
        'images': [
            {'id': 1, 'file_name': 'sub/a.jpg', 'width': 8, 'height': 6},
            {'id': 2, 'file_name': 'b.jpg', 'width': 8, 'height': 6},
        ],
        'annotations': [
            {'image_id': 2, 'file_name': 'other_b.png', 'segments_info': []},
            {'image_id': 1, 'file_name': 'label_a.png', 'segments_info': segments},
        ],
        'categories': CATEGORIES,
    }


@pytest.fixture
def build(tmp_path, content):
    """Write ``content`` and build the data set on it."""

    def _build(**kwargs):
        for folder in ('images', 'labels'):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / 'panoptic.json').write_text(json.dumps(content))
        config = {
            'type': 'PanopticDataset',
            'data_root': str(tmp_path),
            'ann_file': 'panoptic.json',
            'data_prefix': {'img': 'images', 'seg': 'labels'},
        }
        return DATASETS.build(config | kwargs)

    return _build


def test_labels_follow_metainfo_and_not_the_json(build):
    dataset = build(metainfo=METAINFO)
    assert dataset.metainfo['classes'] == ('person', 'car', 'road')
    assert dataset.cat2label == {24: 0, 26: 1, 7: 2}
    assert dataset.metainfo['palette'] == [(220, 20, 60), (0, 0, 142), (128, 64, 128)]


def test_without_metainfo_the_json_gives_the_classes_things_first(build):
    meta = build().metainfo
    assert meta['classes'] == ('car', 'person', 'road')
    assert meta['thing_classes'] == ('car', 'person')
    assert meta['stuff_classes'] == ('road',)


def test_paths_come_from_image_and_annotation_each(build, tmp_path):
    item = build(metainfo=METAINFO).get_data_info(0)
    assert item['img_id'] == 1
    assert item['img_path'] == str(tmp_path / 'images' / 'sub' / 'a.jpg')
    assert item['seg_map_path'] == str(tmp_path / 'labels' / 'label_a.png')
    assert (item['height'], item['width']) == (6, 8)


def test_crowd_thing_is_an_ignored_instance_and_no_thing_segment(build):
    item = build(metainfo=METAINFO).get_data_info(0)
    assert item['segments_info'] == [
        {'id': 100, 'category': 2, 'is_thing': False, 'iscrowd': 0},
        {'id': 200, 'category': 1, 'is_thing': True, 'iscrowd': 0},
        {'id': 300, 'category': 0, 'is_thing': False, 'iscrowd': 1},
    ]
    assert item['instances'] == [
        {'bbox_label': 1, 'ignore_flag': 0, 'segment_id': 200, 'bbox': [1, 2, 4, 6]},
        {'bbox_label': 0, 'ignore_flag': 1, 'segment_id': 300},
    ]


def test_image_without_segments_is_kept(build):
    dataset = build(metainfo=METAINFO)
    assert len(dataset) == 2
    item = dataset.get_data_info(1)
    assert item['instances'] == item['segments_info'] == []
    assert item['seg_map_path'].endswith('other_b.png')


def test_one_segment_id_may_be_used_in_several_images(build, content):
    content['annotations'][0]['segments_info'] = [{'id': 200, 'category_id': 7}]
    dataset = build(metainfo=METAINFO)
    assert [s['category'] for s in dataset.get_data_info(1)['segments_info']] == [2]
    assert len(dataset.get_data_info(0)['segments_info']) == 3


def test_images_are_balanced_by_the_classes_that_are_named(build):
    dataset = build(metainfo=METAINFO)
    labels = dataset.get_cat_ids(0)
    assert len(set(labels)) > 1
    classes = dataset.metainfo['classes']
    dataset = build(metainfo=METAINFO, balanced_classes=[classes[labels[0]]])
    assert set(dataset.get_cat_ids(0)) == {labels[0]}
    with pytest.raises(ValueError, match=r"balanced_classes has \['cart'\]"):
        build(balanced_classes=['cart'])


def test_image_without_annotation_is_for_testing_only(build, content):
    del content['annotations'][0]
    with pytest.raises(ValueError, match=r'1 images .*b\.jpg.*annotations'):
        build()
    assert build(test_mode=True).get_data_info(1)['seg_map_path'] is None


@pytest.mark.parametrize(
    ('changes', 'field'),
    [
        ({'ann_file': 'none.json'}, 'none.json.*ann_file'),
        ({'data_prefix': {'img': 'none', 'seg': 'labels'}}, r"none.*prefix\['img'\]"),
        ({'data_prefix': {'img': 'images', 'seg': 'none'}}, r"none.*prefix\['seg'\]"),
    ],
)
def test_missing_path_is_named_with_its_field_and_the_command(build, changes, field):
    with pytest.raises(FileNotFoundError, match=f'{field}.*make my-set'):
        build(prepare_hint='make my-set', **changes)


def test_class_names_that_differ_are_all_named(build):
    metainfo = {'thing_classes': ('person', 'cart'), 'stuff_classes': ('road',)}
    with pytest.raises(ValueError, match=r"metainfo: \['cart'\].*json: \['car'\]"):
        build(metainfo=metainfo)


def test_thing_that_the_json_calls_stuff_is_refused(build):
    metainfo = {'thing_classes': ('person', 'car', 'road'), 'stuff_classes': ()}
    with pytest.raises(ValueError, match=r"thing classes differ.*\['road'\]"):
        build(metainfo=metainfo)


def test_classes_must_list_things_first(build):
    metainfo = METAINFO | {'classes': ('road', 'person', 'car')}
    with pytest.raises(ValueError, match='thing_classes followed by stuff_classes'):
        build(metainfo=metainfo)


def test_classes_alone_do_not_say_what_is_a_thing(build):
    with pytest.raises(ValueError, match='both thing_classes and stuff_classes'):
        build(metainfo={'classes': ('person', 'car', 'road')})


def test_unknown_category_of_a_segment_is_named(build, content):
    content['annotations'][1]['segments_info'][0]['category_id'] = 99
    with pytest.raises(ValueError, match='segment 100 of image 1 has category_id 99'):
        build()


def test_all_problems_of_the_json_are_told_at_once(build, content):
    other, first = content['annotations']
    first['segments_info'] += [{'id': 100, 'category_id': 7}] * 2
    other['segments_info'] = [{'id': k, 'category_id': 99} for k in range(1, 8)]
    content['annotations'].append(dict(other, segments_info=[]))
    with pytest.raises(ValueError, match=r'panoptic\.json cannot be used') as error:
        build()
    message = str(error.value)
    assert '10 problems:' in message
    assert '7 x category that is not in categories' in message
    assert 'segment 1 of image 2 has category_id 99' in message
    assert '... and 2 more' in message
    assert '2 x segment id that occurs twice in an image' in message
    assert '1 x two annotations for one image\n    2' in message


def test_category_must_say_whether_it_is_a_thing(build, content):
    content['categories'] = [*CATEGORIES, {'id': 8, 'name': 'sky'}]
    with pytest.raises(
        ValueError, match=r"'isthing' of a category.*\n.*id 8: it is missing"
    ):
        build()


def test_json_of_boxes_is_told_from_a_panoptic_one(build, content):
    content['annotations'] = [{'image_id': 1, 'category_id': 7, 'bbox': [0, 0, 2, 2]}]
    with pytest.raises(ValueError, match="without 'segments_info'.*coco-polygons"):
        build()


def test_two_categories_of_one_name_are_refused(build, content):
    content['categories'] = [*CATEGORIES, {'id': 8, 'name': 'road', 'isthing': 0}]
    with pytest.raises(ValueError, match='two categories of one name'):
        build()


def test_json_without_images_is_refused(build, content):
    content['images'] = []
    with pytest.raises(ValueError, match=r'panoptic\.json lists no images'):
        build()


@pytest.mark.parametrize('text', ['', '{"images": [', '[]', '{"images": []}'])
def test_json_that_is_none_or_cut_short_is_named(build, tmp_path, monkeypatch, text):
    monkeypatch.setattr('json.dumps', lambda _: text)
    with pytest.raises(ValueError, match=r'panoptic\.json cannot be used'):
        build()


def test_incomplete_entries_are_all_told(build, content):
    del content['images'][0]['width']
    content['images'].append({'id': 2, 'file_name': 'c.jpg', 'width': 8, 'height': 6})
    content['categories'] = [*CATEGORIES, {'id': 7, 'name': 'sky', 'isthing': 0}]
    del content['annotations'][0]['file_name']
    del content['annotations'][1]['segments_info'][1]['category_id']
    with pytest.raises(ValueError, match='5 problems') as error:
        build()
    for text in (
        "'width' of an image must be a positive whole number\n    images, id 1: it is",
        'id that occurs twice in images\n    2',
        'id that occurs twice in categories\n    7',
        "'file_name' of an annotation must be a text\n    image 2: it is missing",
        "'category_id' of a segment must be a whole number\n    image 1, segment 200",
    ):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ('field', 'value', 'expected'),
    [
        ('bbox', None, {'bbox': None}),
        ('bbox', [], {'bbox': None}),
        ('bbox', ['1', 2, 3.0, 4], {'bbox': [1, 2, 4, 6]}),
        ('iscrowd', None, {'ignore_flag': 0}),
        ('iscrowd', True, {'ignore_flag': 1}),
        ('iscrowd', '1', {'ignore_flag': 1}),
        ('id', '200', {'segment_id': 200}),
        ('category_id', 26.0, {'bbox_label': 1}),
    ],
)
def test_nulls_and_numbers_in_quotes_are_read(build, content, field, value, expected):
    content['annotations'][1]['segments_info'][1][field] = value
    instance = build(metainfo=METAINFO).get_data_info(0)['instances'][0]
    assert {key: instance.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('id', 2**24),
        ('id', 0),
        ('id', 'car'),
        ('id', True),
        ('category_id', None),
        ('iscrowd', 2),
        ('bbox', [1, 2, 3]),
        ('bbox', [1, 2, float('nan'), 4]),
    ],
)
def test_values_that_mean_nothing_are_named(build, content, field, value):
    content['annotations'][1]['segments_info'][1][field] = value
    with pytest.raises(
        ValueError, match=rf"'{field}' of a segment must be .*\n.*image 1"
    ):
        build()


def test_a_byte_order_mark_is_no_damage(build, content, monkeypatch):
    text = json.dumps(content)
    monkeypatch.setattr('json.dumps', lambda _: f'\ufeff{text}')
    assert len(build()) == 2


def test_an_image_id_in_quotes_is_the_same_image(build, content):
    content['annotations'][1]['image_id'] = '1'
    item = build().get_data_info(0)
    assert item['img_id'] == 1
    assert len(item['segments_info']) == 3


@pytest.mark.parametrize(('num_classes', 'is_refused'), [(255, False), (256, True)])
def test_more_classes_than_labels_are_refused(build, content, num_classes, is_refused):
    content['categories'] = [
        {'id': k, 'name': f'c{k}', 'isthing': int(k == 26)} for k in range(num_classes)
    ]
    if is_refused:
        with pytest.raises(ValueError, match='256 classes, and at most 255'):
            build()
    else:
        assert build().cat2label[254] == 254


def test_a_filter_that_leaves_no_image_is_named(build, content):
    for annotation in content['annotations']:
        annotation['segments_info'] = []
    with pytest.raises(ValueError, match='none of the 2 images .*filter_cfg.*1000'):
        build(filter_cfg={'min_size': 1000, 'filter_empty_gt': True})


@pytest.mark.parametrize('kind', ['mmengine.ConcatDataset', 'ConcatDataset'])
def test_sets_of_one_class_list_with_other_ids_are_joined(build, content, kind):
    first = build()
    for segment in content['annotations'][1]['segments_info']:
        segment['category_id'] += 100
    content['categories'] = [c | {'id': c['id'] + 100} for c in CATEGORIES]
    joined = DATASETS.build({'type': kind, 'datasets': [first, build()]})
    labels = [
        [s['category'] for s in joined.get_data_info(k)['segments_info']]
        for k in (0, 2)
    ]
    assert labels[0] == labels[1]


def test_metainfo_of_a_training_set_is_read_in_torchs_safe_mode(build, tmp_path):
    # mmengine saves it in every checkpoint
    names = build().metainfo['classes']
    torch.save(build().metainfo, tmp_path / 'meta.pth')
    meta = torch.load(tmp_path / 'meta.pth', weights_only=True)
    assert meta['classes'] == names


def test_sets_of_other_classes_are_not_joined(build, content):
    first = build()
    content['categories'] = [c | {'name': f'{c["name"]} 2'} for c in CATEGORIES]
    with pytest.raises(ValueError, match='meta information'):
        DATASETS.build({'type': 'mmengine.ConcatDataset', 'datasets': [first, build()]})


def test_classes_of_coco_are_not_inherited():
    assert PanopticDataset.METAINFO == {}


def test_classes_without_a_color_get_one_each(build, content):
    content['categories'] = [
        {k: v for k, v in c.items() if k != 'color'} for c in CATEGORIES
    ]
    palette = build(metainfo=METAINFO).metainfo['palette']
    assert len(set(palette)) == 3
    assert all(0 <= channel <= 255 for color in palette for channel in color)


def test_a_palette_of_another_length_is_refused(build):
    with pytest.raises(ValueError, match='palette.* has 1 colors for 3 classes'):
        build(metainfo=METAINFO | {'palette': [(0, 0, 0)]})
