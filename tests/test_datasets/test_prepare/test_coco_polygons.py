# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from mmdet_efficientps.datasets import PanopticDataset
from mmdet_efficientps.datasets.prepare import prepare_coco_polygons
from mmdet_efficientps.datasets.prepare.coco_polygons import draw_panoptic
from mmdet_efficientps.structures.panoptic import rgb2id

HEIGHT, WIDTH = 10, 20
CATEGORIES = [
    {'id': 0, 'name': 'road'},
    {'id': 5, 'name': 'person', 'supercategory': 'human', 'color': [1, 2, 3]},
    {'id': 7, 'name': 'sky'},
    {'id': 9, 'name': 'unused'},
]
CLASSES = {'things': ['person'], 'stuff': ['road', 'sky']}


def rectangle(x1, y1, x2, y2):
    """Polygon that covers columns x1..x2-1 and rows y1..y2-1."""
    return [x1, y1, x2, y1, x2, y2, x1, y2]


class Source:
    """A folder with photographs and COCO labels for them."""

    def __init__(self, folder, prepare):
        self.prepare = prepare
        self.json = folder / 'source.json'
        self.images = folder / 'photos'
        self.out = folder / 'out' / 'panoptic_train.json'
        self.png_dir = folder / 'out' / 'panoptic_train'
        self.content = {'images': [], 'annotations': [], 'categories': CATEGORIES}

    def add_image(self, name, size=(WIDTH, HEIGHT)):
        """Add a photograph; gives its id."""
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size).save(path)
        images = self.content['images']
        images.append(
            {'id': len(images), 'file_name': name, 'width': WIDTH, 'height': HEIGHT}
        )
        return images[-1]['id']

    def add(self, image_id, category_id, segmentation, **keys):
        """Add an annotation; a box of four numbers becomes a polygon."""
        if isinstance(segmentation, tuple):
            segmentation = [rectangle(*segmentation)]
        self.content['annotations'].append(
            {
                'id': len(self.content['annotations']) + 1,
                'image_id': image_id,
                'category_id': category_id,
                'segmentation': segmentation,
            }
            | keys
        )

    def convert(self, nproc=1, **kwargs):
        """Write the labels and convert them."""
        self.json.write_text(json.dumps(self.content))
        (report,) = prepare_coco_polygons(
            self.json, self.images, self.out, **CLASSES | kwargs, nproc=nproc
        )
        return report

    def run(self, *arguments):
        """Write the labels and run the command."""
        self.json.write_text(json.dumps(self.content))
        paths = [self.json, self.images, '--out', self.out]
        self.prepare('coco-polygons', *paths, '--nproc', '1', *arguments)

    def read(self, number=0):
        """Give the class-name map and segments of an image, read from disk."""
        panoptic = json.loads(self.out.read_text())
        annotation = panoptic['annotations'][number]
        ids = rgb2id(np.array(Image.open(self.png_dir / annotation['file_name'])))
        return ids, {s['id']: s for s in annotation['segments_info']}


@pytest.fixture
def source(tmp_path, prepare):
    """A source of one photograph with sky, road and two persons."""
    source = Source(tmp_path, prepare)
    source.add_image('a.b.jpg')
    source.add(0, 7, (0, 0, 20, 3))
    source.add(0, 0, (0, 5, 8, 10))
    source.add(0, 0, (12, 5, 20, 10))
    source.add(0, 5, (2, 6, 4, 8))
    source.add(0, 5, (1, 4, 7, 9))
    return source


def test_segments_are_where_the_polygons_are(source):
    report = source.convert()
    ids, segments = source.read()
    expected = np.full((HEIGHT, WIDTH), -1)
    expected[0:3] = 7
    expected[5:10, 0:8] = expected[5:10, 12:20] = 0
    expected[4:9, 1:7] = 5
    category = {0: -1} | {i: s['category_id'] for i, s in segments.items()}
    np.testing.assert_array_equal(np.vectorize(category.get)(ids), expected)
    assert report.void_share == pytest.approx((expected == -1).mean())


def test_stuff_of_a_class_is_one_segment_and_every_thing_its_own(source):
    report = source.convert()
    assert report.segments == {'person': 2, 'road': 1, 'sky': 1}
    ids, segments = source.read()
    assert ids[9, 0] == ids[9, 19]
    road = segments[ids[9, 0]]
    assert road['bbox'] == [0, 5, 20, 5]
    assert road['area'] == (ids == road['id']).sum() == 40 + 40 - 24
    assert len(segments) == 4
    assert not any(s['iscrowd'] for s in segments.values())


def test_smaller_thing_is_in_front(source):
    source.convert()
    ids, segments = source.read()
    assert segments[ids[6, 2]]['bbox'] == [2, 6, 2, 2]
    assert segments[ids[6, 2]]['area'] == 4
    assert segments[ids[4, 1]]['area'] == 6 * 5 - 4


def test_crowds_of_a_class_are_one_segment_behind_things(source):
    crowd = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order='F')
    crowd[3:5] = 1
    rle = mask_utils.encode(crowd)
    rle['counts'] = rle['counts'].decode()
    source.add(0, 5, rle, iscrowd=1)
    # A person that is larger than the second crowd, and in front of it all the same.
    source.add(0, 5, (14, 4, 20, 10))
    run_lengths = {'size': [HEIGHT, WIDTH], 'counts': [9 * 19, 5 + 5 + 9, 10]}
    mask = mask_utils.decode(mask_utils.frPyObjects(run_lengths, HEIGHT, WIDTH))
    assert mask.sum() == 19
    source.add(0, 5, run_lengths, iscrowd=1)
    source.convert()
    ids, segments = source.read()
    crowds = [s for s in segments.values() if s['iscrowd']]
    assert len(crowds) == 1
    expected = (crowd | mask).astype(bool)
    expected[4:9, 1:7] = expected[4:10, 14:20] = False
    np.testing.assert_array_equal(ids == crowds[0]['id'], expected)


def test_json_has_things_first_with_the_ids_of_the_source(source):
    source.convert()
    panoptic = json.loads(source.out.read_text())
    assert panoptic['images'] == source.content['images']
    assert panoptic['annotations'][0]['image_id'] == 0
    assert panoptic['annotations'][0]['file_name'] == 'a.b.png'
    categories = panoptic['categories']
    assert [(c['id'], c['name'], c['isthing']) for c in categories] == [
        (5, 'person', 1),
        (0, 'road', 0),
        (7, 'sky', 0),
    ]
    assert categories[0]['color'] == [1, 2, 3]
    assert categories[0]['supercategory'] == 'human'
    assert categories[1]['color'] != categories[2]['color']


def test_result_is_a_panoptic_dataset(source):
    source.convert()
    dataset = PanopticDataset(
        ann_file=str(source.out),
        data_prefix={'img': str(source.images), 'seg': str(source.png_dir)},
        pipeline=[
            {'type': 'LoadImageFromFile'},
            {'type': 'mmdet.LoadPanopticMap'},
            {'type': 'mmdet.PackPanopticTargets'},
        ],
    )
    sample = dataset[0]['data_samples']
    boxes = sample.gt_instances.bboxes.tensor.tolist()
    assert dataset.metainfo['classes'] == ('person', 'road', 'sky')
    assert sorted(boxes) == [[1, 4, 7, 9], [2, 6, 4, 8]]
    assert sample.gt_sem_seg.sem_seg[0, 0, 0] == 2


def test_image_without_annotations_is_left_out_and_counted(source):
    source.add_image('not_yet.png')
    # Labelled, if with nothing that can be drawn.
    source.add(source.add_image('other/ignored.png'), 7, (0, 0, 2, 2))
    source.add(source.add_image('other/wrong.png'), 'none', (0, 0, 2, 2))
    report = source.convert(stuff=['road'], ignore=['sky'])
    assert 'not labelled: 1 images' in report.summary()
    content = json.loads(source.out.read_text())
    names = ['a.b.jpg', 'other/ignored.png', 'other/wrong.png']
    assert [image['file_name'] for image in content['images']] == names
    for number in (1, 2):
        ids, segments = source.read(number)
        assert not ids.any()
        assert not segments
    assert len(report.problems) == 1


def test_labels_of_no_image_are_refused(source):
    source.content['annotations'] = []
    with pytest.raises(ValueError, match='has annotations of none of its images'):
        source.convert()
    assert not source.out.exists()


def test_annotation_without_visible_pixel_is_dropped_and_counted(source):
    source.add(0, 5, (2, 6, 4, 8))
    source.add(0, 5, [[3, 3, 3, 3, 3, 3]])
    report = source.convert()
    assert report.num_dropped == 2
    assert report.segments['person'] == 2


def test_ignored_category_is_not_drawn(source):
    report = source.convert(stuff=['road'], ignore=['sky'])
    ids, _ = source.read()
    assert not ids[0:3].any()
    assert report.segments == {'person': 2, 'road': 1}


def test_unlisted_category_without_annotations_is_only_a_notice(source):
    report = source.convert()
    assert report.notes == ['not listed, without annotations: unused']
    assert not report.problems


@pytest.mark.parametrize(
    ('lists', 'message'),
    [
        ({'stuff': ['road']}, r"not listed: \{'sky': 1\}"),
        ({'stuff': ['road', 'sky', 'lake']}, r"no such category: \['lake'\]"),
        ({'things': ['person', 'sky']}, r"twice.*\['sky'\]"),
        ({'things': [], 'stuff': []}, 'name the classes'),
    ],
)
def test_classes_that_do_not_fit_are_refused(source, lists, message):
    with pytest.raises(ValueError, match=message):
        source.convert(**lists)


def test_images_of_one_stem_are_refused(source):
    source.add(source.add_image('a.b.png'), 5, (0, 0, 5, 5))
    with pytest.raises(ValueError, match=r"\['a\.b\.png'\]"):
        source.convert()


@pytest.fixture
def spoilt(source):
    """The source with more photographs that have a problem each, and a stray label."""
    for name in ('gone', 'broken', 'short', 'size', 'twice'):
        size = (WIDTH, 9) if name == 'size' else (WIDTH, 10)
        source.add(source.add_image(f'{name}.jpg', size), 5, (0, 0, 5, 5))
    (source.images / 'gone.jpg').unlink()
    (source.images / 'broken.jpg').write_bytes(b'')
    whole = (source.images / 'short.jpg').read_bytes()
    (source.images / 'short.jpg').write_bytes(whole[: len(whole) - 30])
    source.add(5, 5, (0, 0, 5, 5), id=30)
    source.add(5, 5, (6, 0, 9, 5), id=30)
    source.add(99, 5, (0, 0, 5, 5), id=40)
    return source


def test_problems_are_collected_and_good_images_kept(spoilt):
    report = spoilt.convert()
    panoptic = json.loads(spoilt.out.read_text())
    assert [image['file_name'] for image in panoptic['images']] == ['a.b.jpg']
    assert [annotation['image_id'] for annotation in panoptic['annotations']] == [0]
    assert [path.name for path in spoilt.png_dir.iterdir()] == ['a.b.png']
    found = {
        name.rpartition('/')[2]: kind
        for kind, names in report.problems.names.items()
        for name in names
    }
    empty, truncated = (
        kind for kind in report.problems.names if 'cannot be read' in kind
    )
    assert found == {
        'gone.jpg': 'image is missing',
        'broken.jpg': empty,
        'short.jpg': truncated,
        'size.jpg: (20, 9) and (20, 10)': 'image and label differ in size (width, '
        'height)',
        "twice.jpg: ['30']": 'annotation ids that an image has twice',
        'annotation 40 of image 99': f'{spoilt.json}: annotation of an image that is '
        'not in images',
    }


@pytest.mark.parametrize(
    ('segmentation', 'message'),
    [
        ([[0, 0, math.nan, 0, 5, 5]], 'coordinates far outside the image'),
        ([[0, 0, 1e12, 0, 5, 5]], 'coordinates far outside the image'),
        ([[0, 0, None, 0, 5, 5]], 'coordinates that are no numbers'),
        ([[1, 1, 4, 4]], 'less than 3 points'),
        (rectangle(0, 0, 5, 5), 'list of polygons'),
        ({'size': [HEIGHT, WIDTH], 'counts': [100, 20]}, 'not the pixels of the image'),
        ({'size': [HEIGHT, WIDTH], 'counts': 'T'}, 'cut short'),
        ({'size': [WIDTH, HEIGHT], 'counts': [200]}, 'differ in size'),
        (None, 'without segmentation'),
    ],
)
def test_annotation_that_cannot_be_drawn_is_left_out_and_named(
    source, segmentation, message
):
    source.convert()
    before = source.read()
    source.add(0, 5, segmentation)
    report = source.convert()
    ((kind, names),) = report.problems.names.items()
    assert kind.startswith('annotation left out: ')
    assert message in kind
    assert names[0].startswith(f'{source.images / "a.b.jpg"}: annotation 6')
    ids, segments = source.read()
    np.testing.assert_array_equal(ids, before[0])
    assert segments == before[1]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'category_id': 99}, 'category_id that is not in categories'),
        ({'category_id': None}, "'category_id' of an entry of annotations"),
        ({'image_id': None}, "'image_id' of an entry of annotations"),
        ({'iscrowd': 'perhaps'}, "'iscrowd' of an entry of annotations"),
    ],
)
def test_annotation_without_its_fields_is_left_out_and_named(source, change, message):
    source.content['annotations'][4] |= change
    report = source.convert()
    ((kind, names),) = report.problems.names.items()
    assert message in kind
    assert '5' in names[0]
    assert report.segments == {'person': 1, 'road': 1, 'sky': 1}


@pytest.mark.parametrize(
    'change',
    [
        {'file_name': None},
        {'file_name': ''},
        {'file_name': '..'},
        {'file_name': 'C:\\'},
        {'file_name': 'a\0.jpg'},
        {'file_name': '\ud800.jpg'},
        {'file_name': 'data:image/jpeg;' + 'a' * 300},
        {'id': None},
        {'id': {}},
        {'width': 'wide'},
        {'width': 0},
        {'height': -10},
        {'height': 10**30},
        {'width': math.inf},
    ],
)
def test_image_that_cannot_be_is_left_out_and_named_once(source, change):
    number = source.add_image('b.jpg')
    source.add(number, 5, (0, 0, 5, 5))
    source.content['images'][number] |= change
    if change.keys() == {'id'}:
        del source.content['annotations'][-1]
    report = source.convert()
    assert len(report.problems) == 1
    assert report.num_images == 1


@pytest.mark.parametrize('image_id', ['0', 0.0])
def test_numbers_of_other_types_and_null_are_read(source, image_id):
    source.convert()
    before = source.read()
    image = source.content['images'][0]
    image |= {'width': '20', 'height': None, 'license': None}
    for annotation in source.content['annotations']:
        annotation |= {
            'image_id': image_id,
            'category_id': str(annotation['category_id']),
            'iscrowd': None,
            'bbox': None,
            'area': None,
        }
    for category in source.content['categories']:
        category |= {'supercategory': None, 'color': '#ff0000'}
    report = source.convert()
    assert not report.problems
    ids, segments = source.read()
    np.testing.assert_array_equal(ids, before[0])
    assert segments == before[1]
    (image,) = json.loads(source.out.read_text())['images']
    assert (image['width'], image['height'], image['license']) == (20, 10, None)


def test_crowd_may_be_true(source):
    source.content['annotations'][4]['iscrowd'] = True
    source.convert()
    _, segments = source.read()
    assert sorted(s['iscrowd'] for s in segments.values()) == [0, 0, 0, 1]


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_byte_order_mark_is_no_matter(source, encoding):
    text = json.dumps(source.content)
    source.json.write_bytes(text.encode(encoding))
    (report,) = prepare_coco_polygons(source.json, source.images, source.out, **CLASSES)
    assert report.num_images == 1


@pytest.mark.parametrize(
    ('name', 'png'),
    [
        ('{folder}/photos/a.b.jpg', '{folder}/a.b.png'),
        ('../photos/a.b.jpg', 'photos/a.b.png'),
        ('./a.b.jpg', 'a.b.png'),
        ('x/../a.b.jpg', 'x/a.b.png'),
    ],
)
def test_png_of_any_file_name_is_in_its_folder(source, tmp_path, name, png):
    (source.images / 'x').mkdir()
    photo = source.images / 'a.b.jpg'
    before = photo.read_bytes()
    source.content['images'][0]['file_name'] = name.format(folder=tmp_path)
    report = source.convert()
    assert not report.problems
    assert report.num_images == 1
    (annotation,) = json.loads(source.out.read_text())['annotations']
    written = source.png_dir / annotation['file_name']
    assert written.is_file()
    assert source.png_dir in written.resolve().parents
    assert written.name == png.rpartition('/')[2]
    assert photo.read_bytes() == before


def test_image_of_windows_is_missing_and_not_written_over(source):
    source.content['images'][0]['file_name'] = 'C:\\photos\\a.b.jpg'
    report = source.convert()
    assert list(report.problems.names) == ['image is missing']


@pytest.mark.parametrize(
    'names',
    [
        ('x/a.JPG', 'y/a.JPG'),
        ('eins zwei.PNG', 'größer 街.jpg'),
        ('a.jpg', 'A.jpg'),
    ],
)
def test_own_names_of_images_are_kept(source, names):
    for name in names:
        source.add(source.add_image(name), 5, (0, 0, 5, 5))
    assert not source.convert().problems
    content = json.loads(source.out.read_text())
    assert [i['file_name'] for i in content['images']] == ['a.b.jpg', *names]
    for annotation, name in zip(content['annotations'][1:], names, strict=True):
        assert annotation['file_name'] == str(Path(name).with_suffix('.png'))
        assert (source.png_dir / annotation['file_name']).is_file()


def test_output_in_the_place_of_the_images_is_refused(source):
    photo = source.images / 'a.b.jpg'
    before = photo.read_bytes()
    source.out = source.images.with_suffix('.json')
    with pytest.raises(ValueError, match=f'{source.images} is an input'):
        source.convert()
    assert [p.name for p in source.images.iterdir()] == ['a.b.jpg']
    assert photo.read_bytes() == before
    assert not source.out.exists()


def test_output_in_the_place_of_the_labels_is_refused(source):
    source.out = source.json
    with pytest.raises(ValueError, match='is an input'):
        source.convert()
    assert json.loads(source.json.read_text()) == source.content
    source.out = source.json.with_suffix('.txt')
    with pytest.raises(ValueError, match=r'must be a \.json file'):
        source.convert()


def test_many_polygons_need_little_memory(source):
    width, height, count = 2000, 1500, 300
    annotations = [
        {
            'id': k,
            'category_id': 5,
            'segmentation': [rectangle(3 * k, 3 * k, 3 * k + 2, 3 * k + 2)],
        }
        for k in range(count)
    ]
    tracemalloc.start()
    panoptic = draw_panoptic(annotations, height, width, {5: True})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [s['area'] for s in panoptic.segments_info] == [4] * count
    # A stack of masks of all polygons would be 300 bytes a pixel.
    assert peak < 20 * width * height


def test_command_fails_after_problems_and_names_them(spoilt, capsys):
    with pytest.raises(SystemExit) as error:
        spoilt.run('--things', 'person', '--stuff', 'road', 'sky')
    assert error.value.code == 1
    printed = capsys.readouterr().out
    assert '6 problems:' in printed
    assert 'gone.jpg' in printed


def test_command_prints_a_summary(source, capsys):
    source.run('--things', 'person', '--stuff', 'road', 'sky')
    printed = capsys.readouterr().out
    assert '| person | 2 ' in printed
    assert '1 images, 27.0 % void' in printed
    assert 'without annotations: unused' in printed


def test_command_reads_the_classes_from_a_file(source, tmp_path):
    path = tmp_path / 'classes.yml'
    path.write_text('things: [person]\nstuff:\n- road\nignore: [sky]\n')
    source.run('--classes', str(path))
    assert len(json.loads(source.out.read_text())['categories']) == 2


def test_command_refuses_keys_it_does_not_know(source, tmp_path):
    path = tmp_path / 'classes.yml'
    path.write_text('thing: [person]\nstuff: [road, sky]\n')
    with pytest.raises(SystemExit, match=r"unknown keys \['thing'\]"):
        source.run('--classes', str(path))


def test_command_says_what_is_wrong_with_the_classes(source):
    with pytest.raises(SystemExit, match='error: categories with annotations'):
        source.run('--things', 'person')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('things: [person', 'is no YAML'),
        ('- person', 'has no keys'),
        ('things: person', 'things must be a list of names'),
    ],
)
def test_command_says_what_is_wrong_with_the_file_of_classes(
    source, tmp_path, text, message
):
    path = tmp_path / 'classes.yml'
    path.write_text(text)
    with pytest.raises(SystemExit, match=rf'classes\.yml.* {message}'):
        source.run('--classes', str(path))


def test_of_two_categories_of_one_name_that_with_annotations_counts(source):
    source.content['categories'] = [*CATEGORIES, {'id': 11, 'name': 'person'}]
    source.convert()
    assert json.loads(source.out.read_text())['categories'][0]['id'] == 5
    source.add(0, 11, (0, 0, 5, 5))
    with pytest.raises(ValueError, match=r"of one name: \['person'\]"):
        source.convert()


@pytest.mark.parametrize('kind', ['images', 'categories'])
def test_ids_that_occur_twice_are_refused(source, kind):
    entries = source.content[kind]
    source.content[kind] = [*entries, {**entries[0], 'name': 'x', 'file_name': 'x.jpg'}]
    with pytest.raises(ValueError, match=f'ids of {kind} that occur twice'):
        source.convert()


def test_only_what_changed_is_drawn_again(source):
    source.add(source.add_image('b.jpg'), 7, (0, 0, 20, 3))
    source.convert()
    old = {path.name: path.stat().st_mtime_ns for path in source.png_dir.iterdir()}
    first = source.out.read_text()
    report = source.convert()
    assert source.out.read_text() == first
    assert report.segments == {'person': 2, 'road': 1, 'sky': 2}
    new = {path.name: path.stat().st_mtime_ns for path in source.png_dir.iterdir()}
    assert new == old

    source.add(1, 0, (0, 5, 20, 10))
    assert source.convert().segments['road'] == 2
    new = {path.name: path.stat().st_mtime_ns for path in source.png_dir.iterdir()}
    assert new['a.b.png'] == old['a.b.png']
    assert new['b.png'] != old['b.png']


def test_damaged_png_in_the_output_is_drawn_again(source):
    source.convert()
    (png,) = source.png_dir.iterdir()
    expected = png.read_bytes()
    png.write_bytes(b'no picture')
    assert not source.convert().problems
    assert png.read_bytes() == expected


def test_image_that_changed_is_checked_again(source):
    source.convert()
    Image.new('RGB', (WIDTH, 9)).save(source.images / 'a.b.jpg')
    (problem,) = source.convert().problems.names
    assert problem.startswith('image and label differ in size')


def test_number_of_processes_does_not_change_the_result(source, tmp_path):
    for number in range(5):
        source.add(source.add_image(f'{number}.png'), 5, (number, 0, 9, 9))
    source.convert(nproc=1)
    files = [source.out, *sorted(source.png_dir.iterdir())]
    expected = [path.read_bytes() for path in files]
    source.out = tmp_path / 'again' / 'panoptic_train.json'
    source.png_dir = source.out.with_suffix('')
    source.convert(nproc=2)
    files = [source.out, *sorted(source.png_dir.iterdir())]
    assert [path.read_bytes() for path in files] == expected
