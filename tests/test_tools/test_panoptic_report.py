# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib.util
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


def test_an_image_of_another_size_is_named(files, report):
    path = files / 'images' / 'some city' / 'a_000000_000019_leftImg8bit.png'
    Image.fromarray(np.zeros((40, 61, 3), np.uint8)).save(path)
    with pytest.raises(SystemExit) as error:
        report()
    assert f'{path}: (40, 61), (40, 60)' in str(error.value)


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
