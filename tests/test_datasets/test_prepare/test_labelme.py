# Licensed under the Apache License, Version 2.0. See LICENSE.
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.datasets.prepare import prepare_labelme

CLASSES = {'things': ['person'], 'stuff': ['road', 'sky']}


def shape(label, points, kind='polygon', **keys):
    return {
        'label': label,
        'points': points,
        'group_id': None,
        'shape_type': kind,
        'flags': {},
        **keys,
    }


def png_text(values):
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, 'PNG')
    return base64.b64encode(stream.getvalue()).decode()


WHOLE = png_text(np.ones((10, 10), bool))


class Source:
    """A folder with photographs and their jsons."""

    def __init__(self, root, scene):
        self.root, self.scene = root / 'photos', scene
        self.out = root / 'out/labels.json'
        self.shapes = [
            shape(name, polygon)
            for number, name in scene.names.items()
            for polygon in scene.polygons(number)
        ]
        self.keys = {'imagePath': 'a.jpg', 'imageWidth': 20, 'imageHeight': 12}

    def write(self, name='drive/a', **keys):
        self.scene.write_image(self.root / f'{name}.jpg')
        content = {
            'version': '5.5.0',
            'flags': {},
            'shapes': self.shapes,
            'imageData': None,
            **self.keys,
            **keys,
        }
        path = self.root / f'{name}.json'
        path.write_text(json.dumps(content))
        return path

    def convert(self, **kwargs):
        (report,) = prepare_labelme(self.root, self.out, **CLASSES | kwargs)
        return report

    def ids(self):
        content = json.loads(self.out.read_text())
        name = content['annotations'][0]['file_name']
        picture = np.array(Image.open(self.out.with_suffix('') / name))
        return picture[..., 0].astype(int), content['annotations'][0]['segments_info']


@pytest.fixture
def source(tmp_path, scene):
    return Source(tmp_path, scene)


def test_polygons_become_segments(source):
    source.write()
    assert not source.convert().problems
    assert source.scene.check(source.out)['images'][0]['file_name'] == 'drive/a.jpg'


def test_rectangles_of_any_two_corners_are_segments(source):
    for entry in source.shapes:
        (x1, y1), _, (x2, y2), _ = entry['points']
        entry.update(points=[[x2, y1], [x1, y2]], shape_type='rectangle')
    source.write()
    assert not source.convert().problems
    source.scene.check(source.out)


def test_shapes_of_one_group_and_label_are_one_object(source):
    source.shapes = [
        shape('person', [[0, 0], [3, 0], [3, 3], [0, 3]], group_id=1),
        shape('person', [[6, 0], [9, 0], [9, 3], [6, 3]], group_id=1),
        # The hidden middle is another shape's.
        shape('person', [[12, 0], [15, 0], [15, 3], [12, 3]], group_id=2),
        shape('road', [[0, 8], [20, 8], [20, 12], [0, 12]], group_id=1),
    ]
    source.write()
    report = source.convert()
    assert report.segments == {'person': 2, 'road': 1, 'sky': 0}
    ids, _ = source.ids()
    assert ids[1, 1] == ids[1, 7] != ids[1, 13]


def test_circle_has_the_area_of_a_circle(source):
    source.shapes = [shape('person', [[10, 6], [10, 2]], 'circle')]
    source.write()
    source.convert()
    _, (segment,) = source.ids()
    assert segment['bbox'] == [6, 2, 8, 8]
    assert segment['area'] == pytest.approx(np.pi * 16, abs=2)


def test_masks_are_put_where_they_belong(source):
    mask = np.zeros((3, 4), dtype=bool)
    mask[0, :] = mask[:, 1] = True
    source.shapes = [
        shape('person', [[5, 6], [8, 8]], 'mask', mask=png_text(mask)),
        shape('person', [[18, -1], [21, 1]], 'mask', mask=png_text(~mask), group_id=3),
        shape('person', [[0, 0], [2, 0], [2, 2], [0, 2]], group_id=3),
    ]
    source.write()
    assert not source.convert().problems
    ids, _ = source.ids()
    np.testing.assert_array_equal(ids[6:9, 5:9] > 0, mask)
    assert len(np.unique(ids)) == 3
    assert ids[0, 0] == ids[0, 18] != ids[6, 5]
    assert ids[0, 19] == 0


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (shape('road', [[0, 0], [9, 9]], 'line'), 'line has no area'),
        (shape('road', [[0, 0]], 'point'), 'point has no area'),
        (shape('road', [[0, 0], [9, 9]]), 'less than 3 points'),
        (shape('road', [[0, 0], [9, 9], [3, 3]], 'rectangle'), 'with 3 points'),
        (shape('road', [[0, 0], [9, 9], [float('nan'), 3]]), 'list of'),
        (shape('road', [[0, 0], [9, 9], [None, 3]]), 'list of'),
        (shape('road', [[0, 0], [9, 9], [1e9, 3]]), 'far outside'),
        (shape('road', [[0, 0], [9, 9], [10**400, 3]]), 'list of'),
        (shape('road', [[0, 0], [1e9, 9]], 'circle'), 'larger than the image'),
        (shape('road', [[0, 0], [9, 9]], 'mask'), 'without picture'),
        (shape('road', [[0, 0], [9, 9]], 'mask', mask='AAAA'), 'damaged'),
        (shape('road', [[2, 14], [5, 23]], 'mask', mask=WHOLE), 'mask outside'),
        (shape('road', [[21, 2], [30, 5]], 'mask', mask=WHOLE), 'mask outside'),
        (shape('', [[0, 0], [9, 0], [9, 9]]), "'label' of a shape must be a text"),
        (shape(None, [[0, 0], [9, 0], [9, 9]]), "'label' of a shape"),
        ('text', 'must be an object'),
    ],
)
def test_shape_that_is_no_segment_is_named_and_all_others_are_kept(
    source, wrong, message
):
    source.shapes.append(wrong)
    source.write()
    report = source.convert()
    assert message in report.problems.summary()
    assert 'photos/drive/a' in report.problems.summary()
    source.scene.check(source.out)


def test_part_of_a_group_that_is_no_segment_is_named_and_the_others_are_kept(source):
    for entry, group in zip(source.shapes, (1, 2, 2, 3, 4), strict=True):
        entry['group_id'] = group
    source.shapes.insert(4, shape('person', [[0, 0], [9, 9]], group_id=3))
    path = source.write()
    ((kind, names),) = source.convert().problems.names.items()
    assert (kind.startswith('shape left out: '), names) == (
        True,
        [f'{path}: shapes[4]'],
    )
    source.scene.check(source.out)


def test_mask_of_more_pixels_than_pillow_allows_is_read(source, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 40)
    source.shapes = [shape('person', [[3, 1], [12, 10]], 'mask', mask=WHOLE)]
    source.write()
    assert source.convert().segments['person'] == 1


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ({'imageWidth': 21}, 'differ in size'),
        ({'shapes': None}, "'shapes' of a json of LabelMe must be a list"),
        ({'imageHeight': 'x'}, "'imageHeight'"),
    ],
)
def test_image_that_cannot_be_used_is_named(source, keys, message):
    source.write('bad', **keys)
    source.write('good')
    report = source.convert()
    assert message in report.problems.summary()
    source.scene.check(source.out)
    assert report.num_images == 1


@pytest.mark.parametrize('text', ['', '{', '[]', 'null'])
def test_json_that_is_none_is_named(source, text):
    source.write('bad').write_text(text)
    source.write('good')
    assert 'bad.json' in source.convert().problems.summary()
    source.scene.check(source.out)


@pytest.mark.parametrize('copied', ['a copy', 'b'])
def test_copy_of_a_json_is_named(source, copied):
    path = source.write()
    copy = path.with_stem(copied)
    copy.write_text(json.dumps({'shapes': [], 'imagePath': 'a.jpg'}))
    source.write('good')
    ((kind, names),) = source.convert().problems.names.items()
    assert ('another json has, too' in kind, names) == (True, [str(copy)])
    assert len(source.scene.check(source.out)['images']) == 2


def test_json_that_cannot_be_read_is_named(source):
    source.write('gone').unlink()
    source.write('good')
    # One with an image of its name, and one without.
    paths = [source.root / name for name in ('gone.json', 'lost.json')]
    for path in paths:
        path.symlink_to('nowhere.json')
    named = source.convert().problems.names.values()
    assert sorted(name for names in named for name in names) == [*map(str, paths)]
    source.scene.check(source.out)


def test_old_and_careless_jsons_are_read(source):
    for entry in source.shapes:
        del entry['shape_type'], entry['group_id']
        entry['points'] = [[str(x), float(y)] for x, y in entry['points']]
    path = source.write(imageWidth=None, imageHeight=None)
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert not source.convert().problems
    source.scene.check(source.out)


def test_label_that_is_listed_nowhere_is_named(source):
    source.write()
    report = source.convert(stuff=['road'])
    assert "labels that are not listed: ['sky']" in report.problems.summary()


@pytest.mark.parametrize(
    'path', ['photo.jpg', '..\\drive\\photo.jpg', 'C:\\x\\photo.jpg']
)
def test_image_of_another_name_is_found_by_the_json(source, path):
    source.write(imagePath=path)
    (source.root / 'drive/a.jpg').rename(source.root / 'drive/photo.jpg')
    assert not source.convert().problems
    content = source.scene.check(source.out)
    assert content['images'][0]['file_name'] == 'drive/photo.jpg'


def test_images_may_lie_in_another_tree_and_be_unlabelled(source):
    source.write()
    (source.root.parent / 'images').mkdir()
    (source.root / 'drive').rename(source.root.parent / 'images/drive')
    (source.root / 'drive').mkdir()
    images = source.root.parent / 'images'
    (images / 'drive/a.json').rename(source.root / 'drive/a.json')
    source.scene.write_image(images / 'b.png')
    report = source.convert(image_dir=images)
    assert not report.problems
    assert 'not labelled: 1 images' in report.summary()
    source.scene.check(source.out)


def test_missing_image_is_named(source):
    source.write('bad')
    source.write('good')
    (source.root / 'bad.jpg').unlink()
    assert 'image is missing' in source.convert().problems.summary()
    source.scene.check(source.out)


def test_nothing_that_is_there_is_lost(source, kept):
    source.write()
    before = kept(source.root.parent)
    for out in (source.root / 'drive/a.json', source.root / 'drive.json'):
        with pytest.raises((ValueError, OSError)):
            prepare_labelme(source.root, out, **CLASSES)
    empty = source.root.parent / 'empty'
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match='no jsons'):
        prepare_labelme(empty, source.out, **CLASSES)
    assert kept(source.root.parent) == before


def test_the_command_converts(source, prepare):
    source.write()
    prepare(
        'labelme', source.root, '--out', source.out, '--nproc', '1',
        '--things', 'person', '--stuff', 'road', 'sky',
    )  # fmt: skip
    source.scene.check(source.out)


def test_what_labelme_saves_is_read(source):
    pytest.importorskip('labelme', reason='needs labelme: pip install labelme')
    from labelme import _label_file

    source.write()
    path = source.root / 'drive/a.json'
    loaded = _label_file.LabelFile(str(path))
    path.unlink()
    loaded.save(
        filename=str(path),
        shapes=[s | {'mask': None} for s in source.shapes],
        image_path='a.jpg',
        image_data=(source.root / 'drive/a.jpg').read_bytes(),
        image_height=12,
        image_width=20,
    )
    assert not source.convert().problems
    source.scene.check(source.out)
