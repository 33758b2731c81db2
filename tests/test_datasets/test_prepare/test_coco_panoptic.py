# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.datasets.prepare import prepare_coco_panoptic
from mmdet_efficientps.structures.panoptic import id2rgb, rgb2id

IDS = {1: 70000, 2: 300, 3: 7, 4: 8}
CATEGORIES = [
    {'id': 5, 'name': 'sky', 'isthing': 0, 'color': [70, 130, 180]},
    {'id': 2, 'name': 'road', 'isthing': 0, 'color': [128, 64, 128]},
    {'id': 9, 'name': 'person', 'isthing': 1, 'color': [220, 20, 60]},
]
CATEGORY_OF = {c['name']: c['id'] for c in CATEGORIES}


class Source:
    """A panoptic json of some images."""

    def __init__(self, root, scene):
        self.root, self.scene = root, scene
        self.json, self.images = root / 'all.json', root / 'photos'
        self.out = root / 'out/labels.json'
        self.content = {'images': [], 'annotations': [], 'categories': CATEGORIES}

    def add(self, name='a', **keys):
        number = len(self.content['images'])
        self.scene.write_image(self.images / f'{name}.jpg')
        ids = self.scene.look_up([0, *IDS.values()])
        path = self.root / 'all' / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(id2rgb(ids)).save(path)
        segments = [
            {'id': IDS[k], 'category_id': CATEGORY_OF[name_], 'iscrowd': 0}
            for k, name_ in self.scene.names.items()
        ]
        self.content['images'].append(
            {'id': number, 'file_name': f'{name}.jpg', 'width': 20, 'height': 12}
        )
        self.content['annotations'].append(
            {'image_id': number, 'file_name': f'{name}.png', 'segments_info': segments}
            | keys
        )
        return segments, path

    def convert(self, **kwargs):
        self.json.write_text(json.dumps(self.content))
        (report,) = prepare_coco_panoptic(self.json, self.images, self.out, **kwargs)
        return report

    def written(self):
        content = json.loads(self.out.read_text())
        return content, [image['file_name'] for image in content['images']]


@pytest.fixture
def source(tmp_path, scene):
    return Source(tmp_path, scene)


def test_labels_stay_and_pngs_are_linked(source):
    _, path = source.add('drive/a')
    assert not source.convert().problems
    content = source.scene.check(source.out)
    assert content['categories'][0]['name'] == 'person'
    assert [c['id'] for c in content['categories']] == [9, 5, 2]
    written = source.out.with_suffix('') / 'drive/a.png'
    assert written.is_symlink()
    assert written.resolve() == path.resolve()


def test_classes_are_joined_and_ignored(source):
    source.add()
    report = source.convert(things=['person'], stuff=[{'ground': ['road', 'sky']}])
    assert report.segments == {'person': 2, 'ground': 1}
    png = source.out.with_suffix('') / 'a.png'
    assert not png.is_symlink()
    ids = rgb2id(np.array(Image.open(png)))
    assert len(np.unique(ids[source.scene.look_up([0, 1, 1, 0, 0]) > 0])) == 1
    report = source.convert(ignore=['sky'])
    assert report.segments == {'person': 2, 'road': 1}
    ids = rgb2id(np.array(Image.open(png)))
    assert not ids[source.scene.objects == 1].any()


def test_thing_that_becomes_stuff_is_one_segment_and_crowds_stay(source):
    segments, _ = source.add()
    segments[2]['iscrowd'] = 1
    report = source.convert(things=['person'], stuff=['road', 'sky'])
    assert report.crowds['person'] == 1
    report = source.convert(stuff=['person', 'road', 'sky'])
    assert report.segments['person'] == 1
    assert not report.crowds['person']


def test_images_are_chosen(source):
    for name in 'abcdefg':
        source.add(name)
    source.convert(num=3)
    assert source.written()[1] == ['a.jpg', 'd.jpg', 'g.jpg']
    first = source.out
    source.out = source.out.with_name('rest.json')
    source.convert(without=first)
    assert source.written()[1] == ['b.jpg', 'c.jpg', 'e.jpg', 'f.jpg']
    with pytest.raises(ValueError, match='--num is 5, and there are 4'):
        source.convert(without=first, num=5)
    with pytest.raises(ValueError, match='has all images'):
        source.convert(without=source.json)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda s, path: s.pop(), 'of the PNG that are not in the json'),
        (lambda s, path: s.append(s[0] | {'id': 99}), 'json that are not in the PNG'),
        (lambda s, path: s[0].update(category_id=77), 'not in categories'),
        (lambda s, path: s[0].update(id=2**24), "'id' of a segment"),
        (lambda s, path: path.write_bytes(b''), 'damaged'),
        (lambda s, path: path.unlink(), 'label PNG is missing'),
        (lambda s, path: Image.new('L', (20, 12)).save(path), 'not 8-bit RGB'),
        (lambda s, path: Image.new('RGB', (20, 13)).save(path), 'differ in size'),
    ],
)
def test_what_does_not_fit_is_named_and_other_images_are_kept(source, spoil, message):
    spoil(*source.add('bad'))
    source.add('good')
    report = source.convert()
    assert message in report.problems.summary()
    assert source.written()[1] == ['good.jpg']
    source.scene.check(source.out)


def test_quotes_marks_and_wrong_areas_are_taken_as_everywhere(source):
    segments, _ = source.add()
    for segment in segments:
        segment.update(id=str(segment['id']), area=12345, bbox=None)
    segments.append({'id': 99, 'category_id': 9, 'iscrowd': 0, 'area': 0})
    source.json.write_text('\ufeff' + json.dumps(source.content), encoding='utf-8')
    (report,) = prepare_coco_panoptic(source.json, source.images, source.out)
    assert not report.problems
    assert report.num_dropped == 1
    source.scene.check(source.out)


def test_names_that_leave_the_folder_are_named(source, kept):
    source.add('good')
    source.add('bad', file_name='../photos/good.jpg')
    before = kept(source.images)
    report = source.convert()
    assert 'file_name of an annotation' in report.problems.summary()
    assert kept(source.images) == before
    assert source.written()[1] == ['good.jpg']


@pytest.mark.parametrize('out', ['all.json', 'photos.json'])
def test_nothing_that_is_there_is_lost(source, kept, out):
    source.add()
    source.convert()
    before = kept(source.root)
    source.out = source.root / out
    with pytest.raises(ValueError, match='input'):
        source.convert()
    assert kept(source.root) == before


def test_category_that_is_listed_nowhere_is_named(source):
    source.add()
    with pytest.raises(ValueError, match=r"not listed: \['sky'\]"):
        source.convert(things=['person'], stuff=['road'])


def test_the_command_converts(source, prepare):
    source.add()
    source.convert()
    out = source.root / 'again.json'
    prepare(
        'coco-panoptic', source.out, source.images, '--out', out, '--nproc', '1',
        '--png-dir', source.root / 'all', '--num', '1',
    )  # fmt: skip
    source.scene.check(out)
