# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What is exported comes back by the converters as the same segments."""

import json
import re
import sys
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy.ndimage import gaussian_filter

from mmdet_efficientps.datasets.export import (
    LabelledImage,
    write_coco_masks,
    write_coco_polygons,
    write_cvat_masks,
    write_label_studio,
)
from mmdet_efficientps.datasets.prepare import (
    prepare_coco_polygons,
    prepare_cvat_masks,
    prepare_label_studio,
)
from mmdet_efficientps.structures.panoptic import (
    PanopticClasses,
    read_panoptic_png,
    write_json,
    write_panoptic_png,
)

NAMES = ('drive/a b.jpg', 'c.jpg')
SHAPE = 60, 90
CATEGORIES = [
    {'id': 4, 'name': 'person', 'isthing': 1, 'color': [220, 20, 60]},
    {'id': 0, 'name': 'road', 'isthing': 0, 'color': [128, 64, 128]},
    {'id': 9, 'name': 'traffic & light', 'isthing': 0, 'color': [1, 2, 3]},
]
LISTS = {'things': ['person'], 'stuff': ['road', 'traffic & light']}


def make_ids(seed):
    """Two stuff regions with void in between, and persons of any form on them."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.normal(size=SHAPE), 5) for _ in range(6)]
    ids = np.zeros(SHAPE, dtype=np.int32)
    ids[fields[0] > 0.01], ids[fields[0] < -0.01] = 70000, 10
    for number, field in enumerate(fields[1:], start=1):
        ids[field > 0.07] = 1000 + number
    return ids


def segments_of(ids):
    category = {70000: 0, 10: 9}
    return [
        {'id': k, 'category_id': category.get(k, 4), 'iscrowd': 0, 'score': 0.5}
        for k in np.unique(ids[ids > 0]).tolist()
    ]


@pytest.fixture
def predictions(tmp_path):
    """A folder of predictions, and photographs of their sizes."""
    folder = tmp_path / 'results'
    images, annotations = [], []
    for seed, name in enumerate(NAMES):
        ids = make_ids(seed)
        write_panoptic_png(folder / f'panoptic/{name}.png', ids)
        size = {'width': SHAPE[1], 'height': SHAPE[0]}
        images.append({'id': name, 'file_name': name, **size})
        annotations.append(
            {
                'image_id': name,
                'file_name': f'{name}.png',
                'segments_info': segments_of(ids),
            }
        )
        photo = tmp_path / 'photos' / name
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', SHAPE[::-1]).save(photo)
    write_json(
        folder / 'panoptic.json',
        {'images': images, 'annotations': annotations, 'categories': CATEGORIES},
    )
    return folder


@pytest.fixture
def export(predictions, load_tool, monkeypatch):
    """Run tools/export_labels.py."""
    tool = load_tool('export_labels.py')

    def run(form, name, *options):
        out = predictions.parent / name
        command = ['export_labels.py', predictions, '--format', form, '--out', out]
        monkeypatch.setattr(sys, 'argv', [*map(str, command), *options])
        tool.main()
        return out

    return run


def overlaps(out):
    """Smallest IoU of the segments of a json with those that were exported."""
    content = json.loads(out.read_text())
    name_of = {c['id']: c['name'] for c in content['categories']}
    truth_of = {c['id']: c['name'] for c in CATEGORIES}
    ious = []
    assert len(content['images']) == len(NAMES)
    for image, annotation in zip(
        content['images'], content['annotations'], strict=True
    ):
        ids = read_panoptic_png(str(out.with_suffix('') / annotation['file_name']))
        true_ids = make_ids(NAMES.index(image['file_name']))
        truth = segments_of(true_ids)
        assert len(annotation['segments_info']) == len(truth)
        for segment in truth:
            mask = true_ids == segment['id']
            ious.append(
                max(
                    (mask & (ids == s['id'])).sum() / (mask | (ids == s['id'])).sum()
                    for s in annotation['segments_info']
                    if name_of[s['category_id']] == truth_of[segment['category_id']]
                )
            )
    return min(ious)


@pytest.mark.parametrize(
    ('form', 'options', 'least'),
    [
        ('coco-masks', (), 1),
        ('coco-polygons', ('--tolerance', '0'), 1),
        ('coco-polygons', (), 0.9),
    ],
)
def test_coco_comes_back(predictions, export, form, options, least):
    source = export(form, 'labels.json', *options)
    out = predictions.parent / 'again.json'
    (report,) = prepare_coco_polygons(
        source, predictions.parent / 'photos', out, **LISTS
    )
    assert not report.problems
    assert least <= overlaps(out)
    categories = json.loads(out.read_text())['categories']
    # With the id 0 datumaro, and so CVAT, sees no class.
    assert [c['id'] for c in categories] == [1, 2, 3]


def test_ids_of_classes_stay_if_other_tools_take_them(tmp_path):
    classes = PanopticClasses.from_categories(CATEGORIES[::2])
    image = LabelledImage('a.jpg', np.ones((3, 4), int), [{'id': 1, 'category_id': 9}])
    out = tmp_path / 'labels.json'
    write_coco_polygons(out, classes, [image])
    content = json.loads(out.read_text())
    assert [c['id'] for c in content['categories']] == [4, 9]
    assert content['annotations'][0]['category_id'] == 9


def test_pycocotools_reads_what_fiftyone_and_others_read(export):
    coco = COCO(export('coco-masks', 'labels.json'))
    for image_id, name in coco.imgToAnns.items():
        ids = make_ids(NAMES.index(coco.imgs[image_id]['file_name']))
        assert len(name) == len(segments_of(ids))
        for annotation, segment in zip(name, segments_of(ids), strict=True):
            mask = coco.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(mask, ids == segment['id'])
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation['bbox']
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            assert annotation['area'] == mask.sum()
            assert annotation['score'] == 0.5


def test_fiftyone_reads_its_labels(predictions, export):
    """Its importer does not need its data base."""
    coco = pytest.importorskip(
        'fiftyone.utils.coco', reason='needs FiftyOne: pip install fiftyone'
    )
    source = export('coco-masks', 'labels.json')
    importer = coco.COCODetectionDatasetImporter(
        data_path=str(predictions.parent / 'photos'),
        labels_path=str(source),
        label_types=['segmentations'],
        include_id=False,
    )
    importer.setup()
    assert len(importer) == len(NAMES)
    names = {c['id']: c['name'] for c in CATEGORIES}
    for path, _, found in importer:
        (number,) = (i for i, name in enumerate(NAMES) if path.endswith(name))
        ids = make_ids(number)
        segments = segments_of(ids)
        assert len(found.detections) == len(segments)
        for detection, segment in zip(found.detections, segments, strict=True):
            assert detection.label == names[segment['category_id']]
            rows, columns = np.nonzero(ids == segment['id'])
            assert detection.bounding_box[0] * ids.shape[1] == columns.min()
            assert detection.bounding_box[1] * ids.shape[0] == rows.min()
            assert detection.mask.sum() == len(rows)


def unpack(archive):
    folder = archive.with_suffix('')
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return folder


def test_masks_of_cvat_come_back(predictions, export):
    task = unpack(export('cvat-masks', 'labels.zip'))
    out = predictions.parent / 'again.json'
    photos = predictions.parent / 'photos'
    (report,) = prepare_cvat_masks(task, out, photos, **LISTS)
    assert not report.problems
    assert overlaps(out) == 1


def test_tasks_of_label_studio_come_back(predictions, export):
    source = export('label-studio', 'tasks.json')
    tasks = json.loads(source.read_text())
    assert tasks[0]['data']['image'] == '/data/local-files/?d=drive/a%20b.jpg'
    for task in tasks:
        # What a person has accepted.
        task['annotations'] = task.pop('predictions')
    source.write_text(json.dumps(tasks))
    out = predictions.parent / 'again.json'
    (report,) = prepare_label_studio(
        source, predictions.parent / 'photos', out, **LISTS
    )
    assert not report.problems
    assert overlaps(out) == 1
    interface = source.with_suffix('.xml').read_text()
    assert 'value="traffic &amp; light" background="#010203"' in interface


def test_datumaro_reads_what_cvat_is_given(predictions, export):
    """CVAT imports with it."""
    pytest.importorskip('datumaro', reason='needs datumaro: pip install datumaro')
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    name_of = {c['id']: c['name'] for c in CATEGORIES}
    # It reads no labels without such a folder.
    (predictions.parent / 'coco/images').mkdir(parents=True)
    for form, source in (
        ('voc_segmentation', unpack(export('cvat-masks', 'labels.zip'))),
        (
            'coco_instances',
            export('coco-masks', 'coco/annotations/instances_default.json').parents[1],
        ),
    ):
        data = Dataset.import_from(str(source), form)
        items = {item.id: item for item in data}
        assert sorted(items) == ['c', 'drive/a b']
        for name in NAMES:
            ids = make_ids(NAMES.index(name))
            found = items[name.removesuffix('.jpg')].annotations
            names = [c.name for c in data.categories()[AnnotationType.label]]
            assert sorted(
                (names[m.label], int(np.asarray(m.image, bool).sum()))
                for m in found
                if m.type == AnnotationType.mask
            ) == sorted(
                (name_of[s['category_id']], int((ids == s['id']).sum()))
                for s in segments_of(ids)
            )


@pytest.mark.parametrize(
    ('form', 'name', 'message'),
    [
        ('coco-masks', 'labels.zip', 'must end with .json'),
        ('cvat-masks', 'labels.json', 'must end with .zip'),
        ('label-studio', 'results/panoptic.json', 'is an input'),
        ('coco-masks', 'mine.json', 'mine.json exists'),
        ('label-studio', 'other.json', 'other.xml exists'),
    ],
)
def test_nothing_that_is_there_is_lost(predictions, export, form, name, message):
    for mine in ('mine.json', 'other.xml'):
        (predictions.parent / mine).write_text('mine')
    before = {p: p.read_bytes() for p in predictions.parent.rglob('*.*') if p.is_file()}
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        export(form, name)
    after = {p: p.read_bytes() for p in predictions.parent.rglob('*.*') if p.is_file()}
    assert after == before


def test_images_that_cannot_be_exported_are_named(predictions, export, capsys):
    path = predictions / 'panoptic.json'
    content = json.loads(path.read_text())
    content['images'].append(content['images'][0] | {'id': 'x', 'file_name': 'x.jpg'})
    content['annotations'][1]['segments_info'].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        export('coco-masks', 'labels.json')
    text = capsys.readouterr().out
    assert 'image without an annotation' in text
    assert 'segment ids without an entry' in text
    written = json.loads((predictions.parent / 'labels.json').read_text())
    assert [image['file_name'] for image in written['images']] == [NAMES[0]]


def test_options_of_other_formats_are_refused(export, capsys):
    for option in (('--tolerance', '1'), ('--image-prefix', 'x')):
        with pytest.raises(SystemExit):
            export('cvat-masks', 'labels.zip', *option)
        assert f'{option[0]} is for --format' in capsys.readouterr().err


ODD_NAMES = ['"quoted"', "it's", '<b>&amp;', 'a#b, c', 'ö 🚗', '[1]']


def test_names_of_classes_come_back_whatever_is_in_them(tmp_path):
    classes = PanopticClasses.from_categories(
        {'id': k, 'name': name, 'isthing': 0}
        for k, name in enumerate(ODD_NAMES, start=1)
    )
    ids = np.arange(24).reshape(4, 6) // 4 + 1
    segments = [{'id': k, 'category_id': k} for k in range(1, 7)]
    image = LabelledImage('a.jpg', ids, segments)
    photos = tmp_path / 'photos'
    photos.mkdir()
    Image.new('RGB', (6, 4)).save(photos / 'a.jpg')
    write_coco_masks(tmp_path / 'coco.json', classes, [image])
    write_cvat_masks(tmp_path / 'cvat.zip', classes, [image])
    write_label_studio(tmp_path / 'tasks.json', classes, [image])
    interface = ElementTree.parse(tmp_path / 'tasks.xml')
    assert [label.get('value') for label in interface.iter('Label')] == ODD_NAMES
    tasks = json.loads((tmp_path / 'tasks.json').read_text())
    tasks[0]['annotations'] = tasks[0].pop('predictions')
    (tmp_path / 'tasks.json').write_text(json.dumps(tasks))
    for convert, source in (
        (prepare_coco_polygons, tmp_path / 'coco.json'),
        (prepare_label_studio, tmp_path / 'tasks.json'),
        (prepare_cvat_masks, unpack(tmp_path / 'cvat.zip')),
    ):
        out = tmp_path / f'out/{source.stem}.json'
        (report,) = convert(source, image_dir=photos, out=out, stuff=ODD_NAMES)
        assert not report.problems
        assert report.segments == dict.fromkeys(ODD_NAMES, 1)


def test_what_formats_cannot_have_is_said(tmp_path):
    classes = PanopticClasses.from_categories(CATEGORIES)
    ids = np.arange(300, dtype=np.int32).reshape(15, 20)
    segments = [{'id': k, 'category_id': 4} for k in range(1, 300)]
    image = LabelledImage('a.jpg', ids, segments)
    with pytest.raises(ValueError, match=r'a\.jpg: image with more segments than CVAT'):
        write_cvat_masks(tmp_path / 'a.zip', classes, [image])
    one = LabelledImage('a.jpg', ids * 0 + 1, [{'id': 1, 'category_id': 4}])
    twin = LabelledImage('a.png', one.ids, one.segments)
    with pytest.raises(ValueError, match=r'a\.png: image whose name'):
        write_cvat_masks(tmp_path / 'a.zip', classes, [one, twin])
    for name in ('a:b', '#1 road', ' car', 'car ', 'a\rb', 'background'):
        wrong = PanopticClasses.from_categories([CATEGORIES[0] | {'name': name}])
        with pytest.raises(ValueError, match=re.escape(f'class {name!r}')):
            write_cvat_masks(tmp_path / 'a.zip', wrong, [one])
    for name in ('#a.jpg', ' a.jpg', 'a\rb.jpg', 'a\udcffb.jpg'):
        wrong = LabelledImage(name, one.ids, one.segments)
        with pytest.raises(ValueError, match='name that an archive for CVAT cannot'):
            write_cvat_masks(tmp_path / 'a.zip', classes, [wrong])
    wrong = PanopticClasses.from_categories([CATEGORIES[0] | {'name': 'a\x1fb'}])
    with pytest.raises(ValueError, match='control character'):
        write_label_studio(tmp_path / 'a.json', wrong, [one])
    wrong = LabelledImage('a\udcffb.jpg', one.ids, one.segments)
    with pytest.raises(ValueError, match='dcffb.jpg. is no text'):
        write_label_studio(tmp_path / 'a.json', classes, [wrong])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match='must be 0 or more'):
        write_coco_polygons(tmp_path / 'a.json', classes, [one], tolerance=-1)
