# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest
import yaml

from mmdet_efficientps.datasets.prepare import prepare_yolo

CLASSES = {'things': ['person'], 'stuff': ['road', 'sky']}
NAMES = ['sky', 'person', 'road']


class Source:
    """A data set of YOLO: data.yaml, images/train and labels/train."""

    def __init__(self, root, scene):
        self.root, self.scene = root / 'data', scene
        self.out = root / 'out/labels.json'
        self.data = self.root / 'data.yaml'
        self.content = {'path': '.', 'train': 'images/train', 'names': NAMES}

    def lines(self):
        height, width = self.scene.shape
        return [
            ' '.join(
                [str(NAMES.index(name))]
                + [f'{x / width} {y / height}' for x, y in polygon]
            )
            for number, name in self.scene.names.items()
            for polygon in self.scene.polygons(number)
        ]

    def write(self, name='a', extra=(), images='images/train'):
        self.scene.write_image(self.root / images / f'{name}.jpg')
        folder = self.root / images.replace('images', 'labels')
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f'{name}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join([*self.lines(), *extra]))
        return path

    def convert(self, **kwargs):
        self.data.write_text(yaml.safe_dump(self.content))
        (report,) = prepare_yolo(self.data, self.out, **CLASSES | kwargs)
        return report


@pytest.fixture
def source(tmp_path, scene):
    return Source(tmp_path, scene)


@pytest.mark.parametrize(
    'names', [NAMES, dict(enumerate(NAMES)), {'0': 'sky', 1: 'person', 2: 'road'}]
)
def test_polygons_become_segments(source, names):
    source.content['names'] = names
    source.write('drive/a')
    assert not source.convert().problems
    content = source.scene.check(source.out)
    assert content['images'][0]['file_name'] == 'drive/a.jpg'
    assert [(c['id'], c['name']) for c in content['categories']] == [
        (1, 'person'), (2, 'road'), (0, 'sky')
    ]  # fmt: skip


def test_numbers_of_classes_may_be_written_as_those_of_corners(source):
    path = source.write()
    lines = path.read_text().splitlines()
    path.write_text('\r\n'.join(f'{float(x[0]):.6e}{x[1:]}' for x in lines))
    assert not source.convert().problems
    source.scene.check(source.out)


@pytest.mark.parametrize('layout', ['[no, on, 7.0]', '{0: no, 1: on, 2: 7.0}'])
def test_names_that_yaml_takes_for_something_else_are_texts(source, layout):
    source.write()
    source.data.write_text(f'train: images/train\nnames: {layout}')
    classes = {'things': ['on'], 'stuff': ['no', '7.0']}
    (report,) = prepare_yolo(source.data, source.out, **classes)
    assert not report.problems
    content = json.loads(source.out.read_text())
    assert [c['name'] for c in content['categories']] == ['on', 'no', '7.0']
    assert {s['category_id'] for s in content['annotations'][0]['segments_info']} == {
        0, 1, 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ('keys', 'images'),
    [
        ({'path': None}, 'images/train'),
        ({'path': '/somewhere/else'}, 'images/train'),
        ({'path': 'inner', 'train': 'images/train'}, 'inner/images/train'),
        # As Roboflow writes it, beside the folder.
        ({'path': None, 'train': '../train/images'}, 'train/images'),
        ({'path': None, 'train': ['images/train']}, 'images/train'),
        ({'path': None, 'train': 'images/a b'}, 'images/a b'),
    ],
)
def test_images_are_where_the_yaml_says(source, keys, images):
    source.content |= keys
    source.write('a', images=images)
    assert not source.convert().problems
    source.scene.check(source.out)


def test_images_of_a_list_and_another_split(source):
    source.write('a', images='images/val')
    source.write('b', images='images/val')
    source.content['val'] = 'val.txt'
    (source.root / 'val.txt').write_text(
        '\ufeff./images/val/a.jpg\n\nimages/val/c.jpg\n'
    )
    report = source.convert(split='val')
    assert list(report.problems.names.values()) == [['images/val/c.jpg']]
    assert len(source.scene.check(source.out)['images']) == 1


def test_image_without_labels_is_left_out_and_one_without_objects_is_void(source):
    source.write('a')
    source.write('b').unlink()
    source.write('c').write_text('')
    report = source.convert()
    assert 'not labelled: 1 images' in report.summary()
    assert not report.problems
    segments = {
        a['file_name']: len(a['segments_info'])
        for a in json.loads(source.out.read_text())['annotations']
    }
    assert segments == {'a.png': 4, 'c.png': 0}


def test_images_without_any_labels_are_refused(source):
    source.write('a').unlink()
    with pytest.raises(FileNotFoundError, match=r'should be .*/labels/train/a\.txt'):
        source.convert()


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('1 0.5 0.5 0.1 0.1', 'a box, not a polygon'),
        ('1 0.5 0.5', 'less than 3 points'),
        ('1 0 0 1 0 1', 'half a point'),
        ('9 0 0 1 0 1 1', 'class that the YAML does not have'),
        ('person 0 0 1 0 1 1', 'class that the YAML does not have'),
        ('1 0 0 nan 0 1 1', 'no numbers'),
        ('1 0 0 x 0 1 1', 'no numbers'),
        ('1 0 0 640 0 640 480', 'far outside the image'),
    ],
)
def test_line_that_is_no_segment_is_named_and_all_others_are_kept(
    source, line, message
):
    source.write('a', extra=[line])
    report = source.convert()
    assert message in report.problems.summary()
    assert 'labels/train/a.txt' in report.problems.summary()
    source.scene.check(source.out)


def test_label_that_is_listed_nowhere_is_named(source):
    source.write('a')
    report = source.convert(stuff=['road'])
    assert "labels that are not listed: ['sky']" in report.problems.summary()


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ({'names': None}, 'names must give'),
        ({'names': ['a', 'a']}, 'names must give'),
        ({'names': {'x': 'a'}}, 'names must give'),
        (
            {'train': None, 'val': 'images/val'},
            r"no images for 'train', but for \['val'\]",
        ),
        ({'names': ['sky', 'human', 'road']}, r"no such category: \['person'\]"),
    ],
)
def test_yaml_that_cannot_be_used_is_refused(source, keys, message):
    source.write('a')
    source.content |= keys
    with pytest.raises(ValueError, match=message):
        source.convert()


def test_nothing_that_is_there_is_lost(source, kept):
    source.write('a')
    source.convert()
    before = kept(source.root)
    source.out = source.root / 'images/train.json'
    with pytest.raises(ValueError, match='input'):
        source.convert()
    assert kept(source.root) == before


def test_what_supervision_writes_is_read(source, prepare):
    sv = pytest.importorskip('supervision', reason='needs supervision')
    photo = source.root.parent / 'photo.jpg'
    source.scene.write_image(photo)
    objects = source.scene.objects
    masks = np.stack([objects == k for k in source.scene.names])
    boxes = sv.mask_to_xyxy(masks).astype(float)
    labels = np.array([NAMES.index(n) for n in source.scene.names.values()])
    found = sv.Detections(xyxy=boxes, mask=masks, class_id=labels)
    data = sv.DetectionDataset(NAMES, [str(photo)], {str(photo): found})
    data.as_yolo(
        images_directory_path=str(source.root / 'train/images'),
        annotations_directory_path=str(source.root / 'train/labels'),
        data_yaml_path=str(source.data),
    )
    content = yaml.safe_load(source.data.read_text()) | {'train': 'train/images'}
    source.data.write_text(yaml.safe_dump(content))
    prepare(
        'yolo', source.data, '--out', source.out, '--nproc', '1',
        '--things', 'person', '--stuff', 'road', 'sky',
    )  # fmt: skip
    segments = json.loads(source.out.read_text())['annotations'][0]['segments_info']
    assert len(segments) == 4
    # Its polygons go through the centres of pixels: a row and a column are lost.
    person = [s for s in segments if s['category_id'] == 1]
    assert all(s['bbox'][2:] == [2, 4] for s in person)
