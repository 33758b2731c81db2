# Licensed under the Apache License, Version 2.0. See LICENSE.
import base64
import importlib.util
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.structures.panoptic import id2rgb

TOOLS = Path(__file__).parents[2] / 'tools'
SPEC = importlib.util.spec_from_file_location(
    'panoptic_report', TOOLS / 'analysis_tools' / 'panoptic_report.py'
)
panoptic_report = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(panoptic_report)

CATEGORIES = [
    {'id': 7, 'name': 'road', 'isthing': 0},
    {'id': 26, 'name': 'car', 'isthing': 1, 'color': [0, 0, 142]},
]


@pytest.fixture
def files(tmp_path):
    """Truth, predictions and images of two frames, named as Cityscapes does."""
    ids = np.full((40, 60), 7)
    ids[10:30, 20:40] = 26001
    for folder in ('gt', 'predictions', 'images/some city'):
        (tmp_path / folder).mkdir(parents=True)
    annotations = {'gt': [], 'predictions': []}
    for name in ('a_000000_000019', 'a_000001_000019'):
        photo = np.full((40, 60, 3), 90, np.uint8)
        Image.fromarray(photo).save(
            tmp_path / 'images' / 'some city' / f'{name}_leftImg8bit.png'
        )
        for kind, suffix in (('gt', '_gtFine_panoptic'), ('predictions', '')):
            file_name = f'{name}{suffix}.png'
            Image.fromarray(id2rgb(ids)).save(tmp_path / kind / file_name)
            annotations[kind].append(
                {
                    'image_id': name,
                    'file_name': file_name,
                    'segments_info': [
                        {'id': 7, 'category_id': 7, 'iscrowd': 0},
                        {'id': 26001, 'category_id': 26, 'iscrowd': 0},
                    ],
                }
            )
    for kind, entries in annotations.items():
        content = {'annotations': entries, 'categories': CATEGORIES}
        (tmp_path / f'{kind}.json').write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def report(files, monkeypatch):
    """Run the command on the files."""

    def call(*arguments):
        paths = [files / 'gt.json', files / 'predictions.json', '--nproc', '1']
        paths += ['--images', files / 'images', '--out', files / 'report.html']
        command = ['panoptic_report.py', *paths, *arguments]
        monkeypatch.setattr(sys, 'argv', list(map(str, command)))
        panoptic_report.main()

    return call


def read_page(path):
    """Data of the page and its pictures by number and view."""
    text = path.read_text(encoding='utf-8')
    pictures = re.findall(r'id="picture-(\d+-\w+)">([^<]*)<', text)
    return (
        json.loads(re.search(r'id="page-data">(.*?)</script>', text)[1]),
        {name: base64.b64decode(content) for name, content in pictures},
    )


def test_report_of_files_of_any_framework(files, report):
    (files / 'metrics.json').write_text('{"semantic/car_IoU": 12.5}')
    report('--metrics', files / 'metrics.json', '--title', 'My run')
    text = (files / 'report.html').read_text(encoding='utf-8')
    data = json.loads(re.search(r'id="page-data">(.*?)</script>', text)[1])
    assert data['title'] == 'My run'
    assert data['groups'][0]['pq'] == 1
    assert [row['name'] for row in data['classes']] == ['road', 'car']
    assert data['classes'][1]['semantic IoU'] == 12.5
    assert len(re.findall('id="picture-', text)) == 2 * 4


def test_all_problems_are_listed_and_no_page_is_written(files, report):
    path = files / 'images' / 'some city' / 'a_000000_000019_leftImg8bit.png'
    path.write_bytes(path.read_bytes()[:40])
    damaged = files / 'predictions' / 'a_000001_000019.png'
    damaged.write_bytes(b'')
    with pytest.raises(SystemExit) as error:
        report()
    assert f'image cannot be decoded\n    {path}' in str(error.value)
    assert f'PNG is damaged or not 8-bit RGB\n    {damaged}' in str(error.value)
    assert not (files / 'report.html').exists()


def test_an_image_of_another_size_is_shown_at_that_of_the_truth(files, report):
    folder = files / 'images' / 'some city'
    photo = np.zeros((80, 90, 3), np.uint8)
    photo[:, 45:] = 200
    Image.fromarray(photo).save(folder / 'a_000000_000019_leftImg8bit.png')
    report()
    data, pictures = read_page(files / 'report.html')
    assert data['records'][0]['size'] == [60, 40]
    shown = np.asarray(Image.open(io.BytesIO(pictures['0-image'])))
    assert shown.shape == (40, 60, 3)
    assert shown[:, :25].max() < 20
    assert shown[:, 35:].min() > 180


def test_an_image_is_turned_as_its_exif_data_say(files, report):
    path = files / 'images' / 'some city' / 'a_000000_000019_leftImg8bit.png'
    photo = np.zeros((60, 40, 3), np.uint8)
    photo[30:] = 200
    exif = Image.Exif()
    # Turned by a quarter to the left: the lower half is the left one.
    exif[0x0112] = 6
    path.unlink()
    Image.fromarray(photo).save(path.with_suffix('.jpg'), exif=exif, quality=95)
    report()
    _, pictures = read_page(files / 'report.html')
    shown = np.asarray(Image.open(io.BytesIO(pictures['0-image'])))
    assert shown[:, :25].min() > 180
    assert shown[:, 35:].max() < 20


def test_measures_of_a_class_stand_in_its_row(files, report):
    for kind in ('gt', 'predictions'):
        path = files / f'{kind}.json'
        path.write_text(path.read_text().replace('"car"', '"road_marking"'))
    metrics = {'semantic/road_marking_IoU': 41.5, 'instance/road_marking_AP': 33.0}
    (files / 'metrics.json').write_text(json.dumps(metrics))
    report('--metrics', files / 'metrics.json')
    data, _ = read_page(files / 'report.html')
    road, marking = data['classes']
    assert (marking['semantic IoU'], marking['instance AP']) == (41.5, 33.0)
    assert not {'semantic IoU', 'instance AP'} & road.keys()


@pytest.mark.parametrize(
    'out',
    [
        'gt.json',
        'predictions.json',
        'metrics.json',
        'images',
        'gt/a_000000_000019_gtFine_panoptic.png',
        'images/some city/a_000000_000019_leftImg8bit.png',
        'link.html',
    ],
)
def test_no_page_is_written_over_an_input(files, report, out):
    (files / 'metrics.json').write_text('{}')
    (files / 'link.html').symlink_to(files / 'gt.json')
    before = {p: p.read_bytes() for p in files.rglob('*') if p.is_file()}
    with pytest.raises(SystemExit, match='--out .*input'):
        report('--metrics', files / 'metrics.json', '--out', files / out)
    assert {p: p.read_bytes() for p in files.rglob('*') if p.is_file()} == before


def test_metrics_that_are_none_are_refused(files, report):
    (files / 'scalars.json').write_text('[1, 2]')
    with pytest.raises(SystemExit, match='scalars.json .--metrics. is no object'):
        report('--metrics', files / 'scalars.json')


def test_two_images_of_one_name_are_told_by_folder_and_ending(files, report):
    content = json.loads((files / 'gt.json').read_text())
    names = ['north/0.png', 'south/0.png', 'south/0.jpg']
    images, annotations = [], []
    for number, name in enumerate(names):
        path = files / 'images' / 'deep' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = np.full((40, 60, 3), 60 * (number + 1), np.uint8)
        Image.fromarray(photo).save(path)
        images.append({'id': number, 'file_name': name, 'width': 60, 'height': 40})
        annotations.append(content['annotations'][0] | {'image_id': number})
    content |= {'images': images, 'annotations': annotations}
    for name in ('gt.json', 'predictions.json'):
        (files / name).write_text(json.dumps(content))
    report('--pred-folder', files / 'gt')
    _, pictures = read_page(files / 'report.html')
    for number in range(3):
        shown = np.asarray(Image.open(io.BytesIO(pictures[f'{number}-image'])))
        assert abs(shown.mean() - 60 * (number + 1)) < 3


def test_missing_and_ambiguous_images_are_named(files, report):
    folder = files / 'images' / 'some city'
    (folder / 'a_000000_000019_leftImg8bit.png').unlink()
    (files / 'images' / 'a_000001_000019.jpg').write_bytes(b'')
    with pytest.raises(SystemExit) as error:
        report()
    text = str(error.value)
    assert 'image not found' in text
    assert 'a_000000_000019_gtFine_panoptic.png' in text
    assert 'several images of one name' in text


def test_an_image_without_prediction_is_named(files, report):
    path = files / 'predictions.json'
    content = json.loads(path.read_text())
    content['annotations'].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match='images without a prediction\n *a_000001'):
        report()
