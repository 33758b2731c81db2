# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.datasets.prepare import prepare_mask_pairs
from mmdet_efficientps.datasets.prepare.mask_pairs import read_label_values

CLASSES = {'things': ['person'], 'stuff': ['road', 'sky']}
COLORS = {'sky': (70, 130, 180), 'road': (128, 64, 128), 'person': (220, 20, 60)}
NUMBERS = {'sky': 1, 'road': 7, 'person': 12}


class Pairs:
    """A folder of images, one of classes and one of objects."""

    def __init__(self, root, scene):
        self.root, self.scene = root, scene
        self.labels = root / 'labels.txt'
        self.out = root / 'out/labels.json'
        lines = (f'{r} {g} {b} {name}' for name, (r, g, b) in COLORS.items())
        self.labels.write_text('\n'.join(lines))
        scene.write_image(root / 'images/drive/a.jpg')
        self.write_classes(self.colors())
        self.write_objects(scene.objects.astype(np.uint8))

    def colors(self):
        """The classes by color."""
        names = self.scene.names
        table = [(0, 0, 0)] + [COLORS[names[k]] for k in range(1, 5)]
        return self.scene.look_up(table).astype(np.uint8)

    def numbers(self, dtype=np.uint8):
        """The classes by number."""
        values = [0] + [NUMBERS[self.scene.names[k]] for k in range(1, 5)]
        self.labels.write_text('\n'.join(f'{v} {name}' for name, v in NUMBERS.items()))
        return self.scene.look_up(values).astype(dtype)

    def write(self, folder, picture, name='drive/a.png'):
        path = self.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(picture)
        picture.save(path)

    def write_classes(self, picture, name='drive/a.png'):
        self.write('classes', picture, name)

    def write_objects(self, picture, name='drive/a.png'):
        self.write('objects', picture, name)

    def convert(self, **kwargs):
        options = {
            'class_dir': self.root / 'classes',
            'image_dir': self.root / 'images',
            'labels': self.labels,
            'out': self.out,
            'object_dir': self.root / 'objects',
            **CLASSES,
        }
        (report,) = prepare_mask_pairs(**options | kwargs)
        return report

    def check(self, **kwargs):
        report = self.convert(**kwargs)
        assert not report.problems, report.problems.summary()
        return self.scene.check(self.out)


@pytest.fixture
def pairs(tmp_path, scene):
    return Pairs(tmp_path, scene)


def palette_picture(values, colors=None):
    picture = Image.fromarray(values.astype(np.uint8), 'P')
    table = np.zeros((256, 3), dtype=np.uint8)
    for value, color in (colors or {}).items():
        table[value] = color
    picture.putpalette(table.ravel().tolist())
    return picture


def test_colors_and_numbered_objects_become_segments(pairs):
    content = pairs.check()
    (image,) = content['images']
    assert image['file_name'] == 'drive/a.jpg'
    assert [c['color'] for c in content['categories']] == [
        list(COLORS[name]) for name in ('person', 'road', 'sky')
    ]


def test_categories_have_the_numbers_of_the_labels(pairs):
    pairs.write_classes(pairs.numbers())
    content = pairs.check()
    assert [c['id'] for c in content['categories']] == [12, 7, 1]


@pytest.mark.parametrize(
    'kind',
    [
        '16 bit',
        'grey as color',
        'palette',
        'alpha',
        'grey alpha',
        '4 bit',
        'rgb objects',
    ],
)
def test_png_of_any_kind_is_read(pairs, kind):
    values = pairs.numbers()
    if kind == '16 bit':
        pairs.write_classes(values.astype(np.uint16))
        pairs.write_objects((pairs.scene.objects * 301).astype(np.uint16))
    elif kind == 'grey as color':
        pairs.write_classes(np.stack([values] * 3, axis=-1))
    elif kind == 'palette':
        pairs.write_classes(palette_picture(values))
        pairs.write_objects(palette_picture(pairs.scene.objects))
    elif kind == 'alpha':
        pairs.labels.write_text(json.dumps(COLORS))
        pairs.labels = pairs.labels.rename(pairs.root / 'labels.json')
        pairs.write_classes(np.dstack([pairs.colors(), np.full_like(values, 255)]))
    elif kind == 'grey alpha':
        pairs.write_classes(np.dstack([values, np.full_like(values, 255)]))
    elif kind == '4 bit':
        path = pairs.root / 'classes/drive/a.png'
        path.write_bytes(four_bit_png(values))
        assert Image.open(path).mode == 'L'
    else:
        pairs.write_classes(values)
        pairs.write_objects(
            np.dstack(
                [pairs.scene.objects.astype(np.uint8)] * 2
                + [3 * pairs.scene.objects.astype(np.uint8)]
            )
        )
    pairs.check()


def four_bit_png(values):
    """A grey PNG of 4 bits, which Pillow reads but does not write."""
    rows = [bytes((row[::2] << 4 | row[1::2]).tolist()) for row in values]
    return png_of(rows, values.shape, depth=4, kind=0)


def png_of(rows, shape, depth, kind):
    """A PNG of packed rows."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return (
            struct.pack('>I', len(content))
            + kind
            + content
            + struct.pack('>I', checksum)
        )

    header = struct.pack('>IIBBBBB', *shape[::-1], depth, kind, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row for row in rows)))
        + chunk(b'IEND', b'')
    )


def test_palette_is_looked_up_if_labels_are_colors(pairs):
    numbers = pairs.scene.look_up([0, 9, 8, 7, 7])
    colors = {9: COLORS['sky'], 8: COLORS['road'], 7: COLORS['person']}
    pairs.write_classes(palette_picture(numbers, colors))
    pairs.check()


def test_objects_of_different_classes_may_have_one_number(pairs):
    pairs.write_objects(pairs.scene.look_up([0, 1, 1, 1, 2]).astype(np.uint8))
    pairs.check()


def test_things_of_no_object_are_a_crowd(pairs):
    pairs.write_objects(np.zeros(pairs.scene.shape, np.uint8))
    report = pairs.convert()
    assert report.crowds['person'] == report.segments['person'] == 1


def test_without_objects_there_is_stuff_only(pairs):
    with pytest.raises(ValueError, match='no PNGs that tell objects apart'):
        pairs.convert(object_dir=None)
    lists = {'things': [], 'stuff': ['person', 'road'], 'ignore': ['sky']}
    report = pairs.convert(object_dir=None, **lists)
    assert report.segments == {'person': 1, 'road': 1}


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda p: p.write_classes(np.ones((12, 21, 3), np.uint8)), 'differ in size'),
        (lambda p: p.write_objects(np.ones((11, 20), np.uint8)), 'differ in size'),
        (lambda p: p.write_classes(p.colors() + 1), 'values that no label has'),
        (
            lambda p: p.labels.write_text(p.labels.read_text() + '\n1 1 1 tram'),
            None,
        ),
        (lambda p: (p.root / 'classes/drive/a.png').write_bytes(b''), 'no PNG'),
        (lambda p: cut(p.root / 'classes/drive/a.png'), 'is damaged'),
        (lambda p: cut(p.root / 'objects/drive/a.png'), 'is damaged'),
        (lambda p: jpeg(p.root / 'classes/drive/a.png'), 'no PNG'),
        (lambda p: deep(p.root / 'classes/drive/a.png'), 'colors of 16 bits'),
        (lambda p: grey_alpha(p.root / 'objects/drive/a.png'), 'alpha or colors of 16'),
        (lambda p: p.write_classes(transparent(p.colors())), 'transparent in parts'),
        (lambda p: p.scene.write_image(p.root / 'images/drive/a.png'), 'two suffixes'),
        (lambda p: p.write_classes(p.colors(), 'b.png'), 'image is missing'),
        (lambda p: (p.root / 'objects/drive/a.png').unlink(), 'PNG of objects is'),
    ],
)
def test_what_is_wrong_is_named_and_other_images_are_kept(pairs, spoil, message):
    pairs.scene.write_image(pairs.root / 'images/good.jpg')
    pairs.write_classes(pairs.colors(), 'good.png')
    pairs.write_objects(pairs.scene.objects.astype(np.uint8), 'good.png')
    spoil(pairs)
    report = pairs.convert()
    if message is None:
        assert not report.problems
    else:
        assert message in report.problems.summary()
    content = json.loads(pairs.out.read_text())
    names = [image['file_name'] for image in content['images']]
    pairs.scene.check(pairs.out, names.index('good.jpg'))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def jpeg(path):
    Image.open(path).convert('RGB').save(path, 'JPEG')


def deep(path):
    cv2.imwrite(str(path), np.zeros((12, 20, 3), np.uint16))


def grey_alpha(path):
    """Grey and alpha of 16 bits, of which Pillow gives the upper 8."""
    rows = [b'\1\2\xff\xff' * 20] * 12
    path.write_bytes(png_of(rows, (12, 20), depth=16, kind=4))


def transparent(colors):
    alpha = np.full(colors.shape[:2], 255, np.uint8)
    alpha[0, 0] = 254
    return np.dstack([colors, alpha])


def test_label_that_is_listed_nowhere_is_named(pairs):
    report = pairs.convert(stuff=['road'])
    assert "labels that are not listed: ['sky']; add them" in report.problems.summary()
    assert not pairs.out.exists()


def test_label_of_value_zero_is_one_as_all_others(pairs):
    pairs.write_classes(pairs.scene.look_up([9, 0, 7, 12, 12]).astype(np.uint8))
    pairs.labels.write_text('0 sky\n7 road\n9 nothing\n12 person')
    report = pairs.convert(stuff=['road'], ignore=['nothing'])
    assert "labels that are not listed: ['sky']" in report.problems.summary()
    pairs.check(ignore=['nothing'])


def test_image_that_nobody_has_labelled_is_left_out_and_counted(pairs):
    pairs.scene.write_image(pairs.root / 'images/b.png')
    assert 'not labelled: 1 images' in pairs.convert().summary()
    assert len(pairs.check()['images']) == 1


def test_turned_photograph_has_the_size_it_is_trained_at(pairs):
    exif = Image.Exif()
    exif[274] = 6
    path = pairs.root / 'images/drive/a.jpg'
    pairs.scene.write_image(path, size=(12, 20), exif=exif)
    pairs.check()


def test_links_that_lead_up_again_are_no_endless_folders(pairs):
    for folder in ('images', 'classes', 'objects'):
        (pairs.root / folder / 'drive/up').symlink_to('../..')
        (pairs.root / folder / 'drive/here').symlink_to('.')
    assert len(pairs.check()['images']) == 1


def test_newer_objects_have_their_image_made_again(pairs):
    pairs.check()
    assert pairs.convert().num_kept == 1
    path = pairs.root / 'objects/drive/a.png'
    pairs.write_objects(pairs.scene.look_up([0, 0, 0, 3, 3]).astype(np.uint8))
    os.utime(path, ns=(1, 1))
    report = pairs.convert()
    assert (report.num_kept, report.segments['person']) == (0, 1)


@pytest.mark.parametrize(
    'out',
    ['images.json', 'classes.json', 'objects.json', 'images/a.json', 'link/a.json'],
)
def test_nothing_is_written_where_inputs_are(pairs, kept, out):
    (pairs.root / 'link').symlink_to(pairs.root / 'objects')
    before = kept(pairs.root)
    with pytest.raises(ValueError, match='input|where images and labels are looked'):
        pairs.convert(out=pairs.root / out)
    assert kept(pairs.root) == before


@pytest.mark.parametrize(
    ('name', 'text', 'expected'),
    [
        ('a.txt', '# x\n1 2 3 a b\n\n4 5 6 c\n', {'a b': (1, 2, 3), 'c': (4, 5, 6)}),
        ('a.txt', '\ufeff7 a b\n8: c\n', {'a b': 7, 'c': 8}),
        ('a.txt', 'a\nb c\n', {'a': 0, 'b c': 1}),
        ('map.txt', 'a:1,2,3::\nb:4, 5, 6:x:y\n', {'a': (1, 2, 3), 'b': (4, 5, 6)}),
        ('labelmap.txt', 'background:::\nperson:::\n', {'background': 0, 'person': 1}),
        ('a.yaml', 'a: 7\nb: "8"\n', {'a': 7, 'b': 8}),
        ('a.yaml', 'no: 7\n1: 8\n~: 9\n', {'no': 7, '1': 8, '~': 9}),
        ('a.yaml', 'on: [1, 2, 3]\n', {'on': (1, 2, 3)}),
        ('a.json', '\ufeff{"a": [1, 2, 3]}', {'a': (1, 2, 3)}),
    ],
)  # fmt: skip
def test_label_files_of_all_kinds_are_read(tmp_path, name, text, expected):
    path = tmp_path / name
    path.write_text(text, encoding='utf-8')
    assert read_label_values(path) == expected


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.txt', '', 'has no labels'),
        ('a.txt', '7 a\nb\n', "'b' has None"),
        ('a.txt', '7 a\n1 2 3 b\n', 'both numbers and colors'),
        ('a.txt', '7 a\n7 b\n', "'a' and 'b'"),
        ('a.txt', '7 a\n8 a\n', "'a' and 'a'"),
        ('a.txt', '1 2 300 a\n', "'a' has"),
        ('a.yaml', 'a: [1, 2]', "'a' has"),
        ('a.yaml', 'a: -1', "'a' has"),
        ('a.yaml', 'a: yes', "'a' has"),
        ('a.yaml', '- a', 'number or a color for each'),
        ('a.json', '{', 'cannot be read'),
    ],
)
def test_label_files_that_say_nothing_are_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_label_values(path)


def test_the_command_joins_labels(pairs, prepare):
    arguments = ('classes', 'images', '--objects', 'objects', '--labels', 'labels.txt')
    arguments = [a if a.startswith('--') else pairs.root / a for a in arguments]
    prepare(
        'mask-pairs', *arguments, '--out', pairs.out, '--nproc', '1',
        '--things', 'person', '--stuff', 'all=road,sky',
    )  # fmt: skip
    content = json.loads(pairs.out.read_text())
    assert [c['name'] for c in content['categories']] == ['person', 'all']
    assert len(content['annotations'][0]['segments_info']) == 3
