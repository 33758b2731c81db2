# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from PIL import Image

from mmdet_efficientps.datasets import CityscapesPanopticDataset

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools'))
import prepare_dataset

THINGS = [x.id for x in cityscapes_labels if x.hasInstances and not x.ignoreInEval]
SMALL = ['--num-train', '2', '--num-val', '2', '--size', '64', '128', '--nproc', '1']


def prepare(*arguments):
    """Run the command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['prepare_dataset.py', *map(str, arguments)])
        prepare_dataset.main()


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """A toy_city made by the command, which no test changes."""
    root = tmp_path_factory.mktemp('toy') / 'city'
    prepare('toy-city', '--out', root, *SMALL)
    return root


@pytest.fixture
def city(prepared, tmp_path):
    """A copy of it that a test may change; the files keep their times."""
    return shutil.copytree(prepared, tmp_path / 'city')


def times(root):
    """Modification times of all files by relative path."""
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.rglob('*')
        if path.is_file()
    }


def panoptic_files(root, split):
    """Modification times of the panoptic ground truth of a split."""
    prefix = f'gtFine/cityscapes_panoptic_{split}'
    return {path: t for path, t in times(root).items() if path.startswith(prefix)}


def instance_labels(root, split):
    """Paths of the instanceIds files of a split."""
    return sorted(root.glob(f'gtFine/{split}/*/*_instanceIds.png'))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_every_instance_becomes_one_thing_segment(prepared, split):
    expected = 0
    for path in instance_labels(prepared, split):
        ids = np.unique(np.array(Image.open(path)))
        expected += sum(int(i) // 1000 in THINGS for i in ids if i >= 1000)
    path = prepared / f'gtFine/cityscapes_panoptic_{split}.json'
    content = json.loads(path.read_text())
    isthing = {c['id']: c['isthing'] for c in content['categories']}
    segments = [s for a in content['annotations'] for s in a['segments_info']]
    found = [s for s in segments if isthing[s['category_id']] and not s['iscrowd']]
    assert len(content['annotations']) == 2
    assert len(found) == expected > 0


def test_data_set_class_reads_the_result(prepared):
    dataset = CityscapesPanopticDataset(
        data_root=str(prepared),
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix={
            'img': 'leftImg8bit/val/',
            'seg': 'gtFine/cityscapes_panoptic_val/',
        },
    )
    assert len(dataset) == 2
    for number in range(2):
        item = dataset.get_data_info(number)
        for key in ('img_path', 'seg_map_path'):
            assert Image.open(item[key]).size == (128, 64)


def test_second_run_leaves_the_files_as_they_are(city, capsys):
    before = times(city)
    prepare('toy-city', '--out', city, *SMALL)
    assert times(city) == before
    assert capsys.readouterr().out.count('is up to date') == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--seed', '1'], 'other parameters'), (['--size', '16', '16'], 'at least 32')],
)
def test_toy_city_that_cannot_be_made_exits_with_the_reason(city, arguments, message):
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        prepare('toy-city', '--out', city, *SMALL, *arguments)


def test_newer_label_has_its_split_made_again(city):
    label = instance_labels(city, 'val')[0]
    Image.fromarray(np.full((64, 128), 7, np.uint16)).save(label)
    newest = max(times(city).values()) + 10**9
    os.utime(label, ns=(newest, newest))
    before = times(city)
    prepare('cityscapes', city)

    content = json.loads((city / 'gtFine/cityscapes_panoptic_val.json').read_text())
    name = label.name.replace('_instanceIds', '_panoptic')
    (changed,) = [a for a in content['annotations'] if a['file_name'] == name]
    assert [s['category_id'] for s in changed['segments_info']] == [7]
    after = times(city)
    assert panoptic_files(city, 'train').items() <= before.items()
    assert all(after[path] != before[path] for path in panoptic_files(city, 'val'))


def test_lost_folder_of_pngs_is_made_again(city, prepared):
    shutil.rmtree(city / 'gtFine/cityscapes_panoptic_val')
    prepare('cityscapes', city)
    assert times(city).keys() == times(prepared).keys()


def test_stopped_run_is_made_good_by_the_next(city, prepared):
    os.rename(
        city / 'gtFine/cityscapes_panoptic_val',
        city / 'gtFine/cityscapes_panoptic_val.unfinished',
    )
    (city / 'gtFine/cityscapes_panoptic_val.json').unlink()
    prepare('cityscapes', city)
    assert times(city).keys() == times(prepared).keys()


@pytest.mark.parametrize(
    ('lost', 'archive'),
    [
        ('gtFine', 'gtFine_trainvaltest.zip'),
        ('leftImg8bit', 'leftImg8bit_trainvaltest.zip'),
        ('gtFine/val', 'gtFine_trainvaltest.zip'),
    ],
)
def test_missing_folder_names_path_and_archive(city, lost, archive):
    shutil.rmtree(city / lost)
    with pytest.raises(SystemExit, match='^error: ') as error:
        prepare('cityscapes', city, '--splits', 'val')
    assert str(city / lost) in str(error.value)
    assert archive in str(error.value)


def test_missing_image_names_path_and_archive(city):
    image = next(city.glob('leftImg8bit/val/legofurt/*.png'))
    image.unlink()
    before = times(city)
    with pytest.raises(SystemExit, match='^error: 1 of 2 images') as error:
        prepare('cityscapes', city)
    assert str(image) in str(error.value)
    assert 'leftImg8bit_trainvaltest.zip' in str(error.value)
    assert times(city) == before


def test_split_without_labels_names_path_and_archive(city):
    for label in instance_labels(city, 'val'):
        label.unlink()
    with pytest.raises(SystemExit, match='^error: ') as error:
        prepare('cityscapes', city)
    assert str(city / 'gtFine/val') in str(error.value)
    assert 'gtFine_trainvaltest.zip' in str(error.value)


def test_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(SystemExit, match='^error: ') as error:
        prepare('cityscapes', tmp_path / 'typo')
    assert str(tmp_path / 'typo') in str(error.value)
