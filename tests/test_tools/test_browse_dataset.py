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
    'browse_dataset', TOOLS / 'analysis_tools' / 'browse_dataset.py'
)
browse_dataset = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(browse_dataset)

CONFIG = """
custom_imports = dict(imports=['mmdet_efficientps'])
default_scope = 'mmdet'
load = [dict(type='LoadCheckedImage'), dict(type='LoadPanopticMap')]
pack = [
    dict(type='PackPanopticTargets', min_area=5, meta_keys=('img_path', 'scale_factor'))
]
dataset = dict(
    type='PanopticDataset',
    data_root={root!r},
    ann_file='labels.json',
    data_prefix=dict(img='images/', seg='labels/'),
)
train_dataloader = dict(dataset=dict(**dataset, pipeline=load + pack))
val_dataloader = dict(dataset=dict(**dataset, pipeline=[], test_mode=True))
"""


@pytest.fixture
def config(tmp_path):
    """Five images of a road, one large and one tiny car and a crowd of cars."""
    ids = np.full((30, 40), 1)
    ids[:3] = 0
    ids[5:15, 5:20], ids[20:22, 2:4], ids[20:28, 30:38] = 2, 3, 4
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    labels = {
        'images': [],
        'annotations': [],
        'categories': [
            {'id': 1, 'name': 'road', 'isthing': 0},
            {'id': 2, 'name': 'car', 'isthing': 1},
        ],
    }
    for number in range(5):
        name = f'{number}.png'
        photo = np.full((30, 40, 3), 50 * number, np.uint8)
        Image.fromarray(photo).save(tmp_path / 'images' / name)
        Image.fromarray(id2rgb(ids)).save(tmp_path / 'labels' / name)
        labels['images'].append(
            {'id': number, 'file_name': name, 'width': 40, 'height': 30}
        )
        labels['annotations'].append(
            {
                'image_id': number,
                'file_name': name,
                'segments_info': [
                    {'id': k, 'category_id': 1 + (k > 1), 'iscrowd': int(k == 4)}
                    for k in (1, 2, 3, 4)
                ],
            }
        )
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(root=f'{tmp_path}/'))
    return path


def browse(monkeypatch, config, *arguments):
    out = config.parent / 'out'
    command = ['browse_dataset.py', str(config), '--out', str(out), *arguments]
    monkeypatch.setattr(sys, 'argv', command)
    browse_dataset.main()
    text = (out / 'index.html').read_text(encoding='utf-8')
    return out, json.loads(re.search(r'id="page-data">(.*?)</script>', text)[1])


@pytest.mark.parametrize('split', ['train', 'val'])
def test_page_and_pictures_show_the_training_pipeline(monkeypatch, config, split):
    out, data = browse(
        monkeypatch, config, '--num', '3', '--per-page', '2', '--split', split
    )
    assert [r['name'] for r in data['records']] == ['0.png', '2.png', '4.png']
    for record in data['records']:
        assert record['values'] == {
            'instances': 1,
            'dropped': 1,
            'ignored': 1,
            'void': 0.1,
        }
        # Things first: the car, then the road.
        assert record['classes']['0']['instances'] == 1
        assert record['classes']['1']['area'] > 0.5
    assert sorted(p.name for p in out.iterdir()) == [
        'index.html',
        'page_001.png',
        'page_002.png',
    ]
    first, second = (Image.open(out / f'page_00{k}.png').size for k in (1, 2))
    assert first == (120, 2 * second[1])


def test_an_image_looks_the_same_whatever_their_number(monkeypatch, config):
    text = config.read_text().replace(
        "LoadPanopticMap')", "LoadPanopticMap'), dict(type='RandomFlip', prob=0.5)"
    )
    config.write_text(text.replace("'scale_factor'", "'flip', 'flip_direction'"))
    _, few = browse(monkeypatch, config, '--num', '2', '--seed', '3')
    _, all_ = browse(monkeypatch, config, '--seed', '3')
    notes = {r['name']: r['notes'] for r in all_['records']}
    assert {r['name']: r['notes'] for r in few['records']} == {
        name: notes[name] for name in ('0.png', '4.png')
    }
    assert len(set(map(tuple, notes.values()))) == 2


def test_wrapped_data_sets_are_looked_into(monkeypatch, config):
    config.write_text(
        config.read_text() + 'train_dataloader = dict(dataset=dict(\n'
        "    type='MultiImageMixDataset', pipeline=pack,\n"
        '    dataset=dict(**dataset, pipeline=load)))\n'
    )
    _, data = browse(monkeypatch, config)
    assert [r['values']['dropped'] for r in data['records']] == [1] * 5
    with pytest.raises(SystemExit, match='--split train'):
        browse(monkeypatch, config, '--split', 'val')


def test_images_of_one_name_are_named_with_their_folders(monkeypatch, config):
    path = config.parent / 'labels.json'
    labels = json.loads(path.read_text())
    for number, image in enumerate(labels['images'][:2]):
        source = config.parent / 'images' / image['file_name']
        image['file_name'] = f'drive{number}/x.png'
        target = config.parent / 'images' / image['file_name']
        target.parent.mkdir()
        source.rename(target)
    path.write_text(json.dumps(labels))
    _, data = browse(monkeypatch, config)
    names = [record['name'] for record in data['records']]
    assert names == ['drive0/x.png', 'drive1/x.png', '2.png', '3.png', '4.png']


@pytest.mark.parametrize('out', ['images', 'labels', '.', 'link'])
def test_folders_of_the_data_set_are_refused(monkeypatch, config, out):
    (config.parent / 'link').symlink_to(config.parent / 'images')
    (config.parent / 'images' / '0.png').rename(config.parent / 'images/page_001.png')
    path = config.parent / 'labels.json'
    path.write_text(path.read_text().replace('"0.png", "w', '"page_001.png", "w'))
    before = {p: p.read_bytes() for p in config.parent.rglob('*.*') if p.is_file()}
    with pytest.raises(SystemExit, match='--out .* holds inputs'):
        browse(monkeypatch, config, '--out', str(config.parent / out))
    after = {p: p.read_bytes() for p in config.parent.rglob('*.*') if p.is_file()}
    assert after == before


def test_labels_are_shown_without_a_config(monkeypatch, config):
    out = config.parent / 'out'
    arguments = ['--json', str(config.parent / 'labels.json')]
    command = ['browse_dataset.py', *arguments, str(config.parent / 'images')]
    monkeypatch.setattr(sys, 'argv', [*command, '--out', str(out)])
    browse_dataset.main()
    text = (out / 'index.html').read_text(encoding='utf-8')
    data = json.loads(re.search(r'id="page-data">(.*?)</script>', text)[1])
    assert [r['name'] for r in data['records']] == [f'{k}.png' for k in range(5)]
    # The tiny car is there, too.
    assert all(r['values']['instances'] == 2 for r in data['records'])
    monkeypatch.setattr(sys, 'argv', [*command[:-1], 'nowhere', '--out', str(out)])
    with pytest.raises(SystemExit, match='error: nowhere does not exist'):
        browse_dataset.main()


@pytest.mark.parametrize('arguments', [[], ['config.py', '--json', 'a.json', 'b']])
def test_a_config_or_a_json_is_needed(monkeypatch, arguments, capsys):
    monkeypatch.setattr(sys, 'argv', ['browse_dataset.py', *arguments])
    with pytest.raises(SystemExit):
        browse_dataset.main()
    assert 'give a config, or --json' in capsys.readouterr().err
