# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest

from mmdet_efficientps.datasets.prepare import prepare_label_studio
from mmdet_efficientps.structures.brush_masks import encode_brush_mask

CLASSES = {'things': ['person'], 'stuff': ['road', 'sky']}


def region(label, kind, **value):
    return {
        'id': 'x',
        'type': kind,
        'from_name': 'label',
        'to_name': 'image',
        'original_width': 20,
        'original_height': 12,
        'image_rotation': 0,
        'value': {kind: [label], **value},
    }


class Source:
    """Photographs and an export of Label Studio."""

    def __init__(self, root, scene):
        self.images, self.scene = root / 'photos', scene
        self.json, self.out = root / 'export.json', root / 'out/labels.json'
        self.tasks = []
        self.regions = [
            region(
                name,
                'brushlabels',
                format='rle',
                rle=encode_brush_mask(scene.objects == number),
            )
            for number, name in scene.names.items()
        ]

    def add(
        self,
        image='/data/local-files/?d=photos/drive/a%20b.jpg',
        name='drive/a b.jpg',
        **keys,
    ):
        self.scene.write_image(self.images / name)
        task = {
            'id': len(self.tasks) + 1,
            'data': {'image': image},
            'annotations': [{'id': 7, 'result': self.regions, 'was_cancelled': False}],
        }
        self.tasks.append(task | keys)

    def convert(self, **kwargs):
        self.json.write_text(json.dumps(self.tasks))
        (report,) = prepare_label_studio(
            self.json, self.images, self.out, **CLASSES | kwargs
        )
        return report


@pytest.fixture
def source(tmp_path, scene):
    return Source(tmp_path, scene)


@pytest.mark.parametrize(
    'image',
    [
        '/data/local-files/?d=photos/drive/a%20b.jpg',
        'https://example.org/drive/a%20b.jpg?token=1',
        's3://bucket/x/drive/a b.jpg',
        # Of a server on Windows.
        '/data/local-files/?d=photos%5Cdrive%5Ca%20b.jpg',
    ],
)
def test_brush_masks_become_segments(source, image):
    source.add(image)
    assert not source.convert().problems
    content = source.scene.check(source.out)
    assert content['images'][0]['file_name'] == 'drive/a b.jpg'


def test_uploaded_image_is_found_by_its_own_name(source):
    source.add('/data/upload/3/0a1b2c3d-photo.jpg', 'photo.jpg')
    assert not source.convert().problems
    source.scene.check(source.out)


@pytest.mark.parametrize('name', ['a#1.jpg', 'a?b.jpg', '100%.jpg', 'a\\b.jpg'])
def test_name_in_a_bucket_is_no_address(source, name):
    source.add(f's3://bucket/{name}', name)
    assert not source.convert().problems
    source.scene.check(source.out)


def test_uploads_are_found_by_the_names_that_they_are_stored_by(source):
    source.add('/data/upload/3/0a1b2c3d-IMG_1.jpg', 'IMG (1).jpg')
    source.add('/data/upload/3/0a1b2c3d-Stra%C3%9Fe.jpg', 'Straße.jpg')
    assert not source.convert().problems
    assert len(source.scene.check(source.out)['images']) == 2
    # Now it may be either.
    source.scene.write_image(source.images / 'IMG_1.jpg')
    ((kind, _),) = source.convert().problems.names.items()
    assert 'several could be it' in kind


def test_polygons_rectangles_and_ellipses_are_parts_of_the_image_in_percent(source):
    source.regions = [
        region('sky', 'rectanglelabels', x=0, y=0, width=100, height=25, rotation=0),
        region('road', 'polygonlabels', points=[[0, 50], [90, 50], [90, 90], [0, 90]]),
        # Turned by a quarter around its upper left corner.
        region(
            'person', 'rectanglelabels', x=25, y=50, width=10, height=25, rotation=90
        ),
        region('person', 'ellipselabels', x=80, y=50, radiusX=10, radiusY=25),
    ]  # fmt: skip
    source.add()
    assert not source.convert().problems
    segments = json.loads(source.out.read_text())['annotations'][0]['segments_info']
    boxes = {(s['category_id'], *s['bbox']): s['area'] for s in segments}
    assert boxes[3, 0, 0, 20, 3] == 60
    # 2 x 3 pixels become 3 x 2, to the left of the corner.
    assert boxes[1, 2, 6, 3, 2] == 6
    assert boxes[1, 14, 3, 4, 6] == pytest.approx(np.pi * 2 * 3, abs=2)


def test_last_annotation_that_was_not_skipped_counts(source):
    skipped = {'result': [], 'was_cancelled': True}
    first = {'result': self_made(source.regions[:1])}
    done = {'result': source.regions}
    source.add(annotations=[first, done, skipped])
    source.add('/x/later.jpg', 'later.jpg', annotations=[skipped])
    source.add('/x/never.jpg', 'never.jpg', annotations=[], predictions=[done])
    report = source.convert()
    assert not report.problems
    assert 'not labelled: 2 tasks' in report.summary()
    assert len(source.scene.check(source.out)['images']) == 1


def self_made(regions):
    return [dict(r) for r in regions]


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (region('road', 'brushlabels', format='rle', rle=[1, 2]), 'cut short'),
        (
            region('road', 'brushlabels', rle=encode_brush_mask(np.ones((2, 2), bool))),
            'differ in size',
        ),
        (
            region('road', 'brushlabels', rle=encode_brush_mask(np.zeros((12, 20)))),
            'without a pixel',
        ),
        (region('road', 'polygonlabels', points=[[0, 0], [1, 1]]), 'less than 3'),
        (region('road', 'polygonlabels', points=[[0, 0], [1, None]]), 'no numbers'),
        (region('road', 'polygonlabels', points=None), 'no numbers'),
        (region('road', 'polygonlabels', points=[[0, 0], 5, [9, 9]]), 'no numbers'),
        (region('road', 'polygonlabels', points=[1, 2, 3]), 'no numbers'),
        (region('road', 'keypointlabels', x=5, y=5, width=1), 'keypointlabels are not'),
        (region('road', 'polygon', points=[[0, 0], [9, 0], [9, 9]]), None),
        (region('road', 'rectanglelabels', x=0, y=0, width=5), 'no numbers'),
        (region('road', 'rectanglelabels', x=0, y=0, width=1e9, height=3), 'far out'),
        (region('road', 'brushlabels', rle=[]) | {'image_rotation': 90}, 'was turned'),
        (region('road', 'polygonlabels', points=[]) | {'value': {'points': []}}, None),
    ],
)  # fmt: skip
def test_region_that_is_no_segment_is_named_and_all_others_are_kept(
    source, wrong, message
):
    source.regions.append(wrong)
    source.add()
    report = source.convert()
    assert (message or 'without a label') in report.problems.summary()
    source.scene.check(source.out)


def test_labels_of_regions_may_stand_in_entries_of_their_own(source):
    shapes = [{**r, 'id': k, 'type': 'brush'} for k, r in enumerate(source.regions)]
    for entry in source.regions:
        value = {**entry['value'], 'labels': entry['value'].pop('brushlabels')}
        entry.update(id=source.regions.index(entry), type='labels', value=value)
    source.regions += shapes
    source.add()
    assert not source.convert().problems
    source.scene.check(source.out)


def test_what_is_no_region_is_passed_over(source):
    source.regions += [
        {'type': 'relation', 'from_id': 'a', 'to_id': 'b'},
        {'type': 'choices', 'value': {'choices': ['sunny']}},
        {'type': 'textarea', 'value': {'text': ['x']}},
    ]
    source.add()
    assert not source.convert().problems
    source.scene.check(source.out)


def test_what_is_wrong_with_a_task_is_named(source):
    source.add()
    source.add(name='drive/a b.jpg')
    source.add('/x/gone.jpg', 'drive/a b.jpg')
    source.regions = [{**r, 'original_width': 21} for r in source.regions]
    source.add('/x/other.jpg', 'other.jpg')
    text = source.convert().problems.summary()
    for message in ('another task has, too', 'is not in', 'differ in size'):
        assert message in text
    source.scene.check(source.out)


@pytest.mark.parametrize('content', ['{}', '[1]', '[{"image": "a.jpg"}]', '['])
def test_other_exports_are_refused(source, content):
    source.images.mkdir()
    source.json.write_text(content)
    with pytest.raises(ValueError, match='export as "JSON"|not a json'):
        prepare_label_studio(source.json, source.images, source.out, **CLASSES)


def test_the_command_converts(source, prepare):
    source.add()
    source.convert()
    out = source.out.with_name('again.json')
    prepare(
        'label-studio', source.json, source.images, '--out', out, '--nproc', '1',
        '--things', 'person', '--stuff', 'road', 'sky',
    )  # fmt: skip
    source.scene.check(out)
