# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from PIL import Image

from mmdet_efficientps.datasets import CityscapesPanopticDataset

THINGS = [x.id for x in cityscapes_labels if x.hasInstances and not x.ignoreInEval]
SMALL = ['--num-train', '2', '--num-val', '2', '--size', '64', '128', '--nproc', '1']


@pytest.fixture(scope='module')
def prepared(tmp_path_factory, prepare):
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


def test_second_run_makes_no_png_again(city, prepare, capsys):
    before = times(city)
    prepare('toy-city', '--out', city, *SMALL)
    after = times(city)
    assert {p for p in before if after[p] != before[p]} == {
        f'gtFine/{name}'
        for split in ('train', 'val')
        for name in (
            f'cityscapes_panoptic_{split}.json',
            f'.cityscapes_panoptic_{split}.journal',
        )
    }
    assert capsys.readouterr().out.count('is up to date') == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--seed', '1'], 'other parameters'), (['--size', '16', '16'], 'at least 32')],
)
def test_toy_city_that_cannot_be_made_exits_with_the_reason(
    city, prepare, arguments, message
):
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        prepare('toy-city', '--out', city, *SMALL, *arguments)


def test_overwriting_toy_city_keeps_photographs_that_are_not_its_own(city, prepare):
    photo = city / 'leftImg8bit/train/spielburg/holiday.png'
    photo.write_bytes(b'a photograph')
    before = times(city)
    with pytest.raises(SystemExit, match=r'^error: .*holiday\.png is no file of a toy'):
        prepare('toy-city', '--out', city, *SMALL, '--overwrite')
    assert times(city) == before


@pytest.mark.parametrize('marker', [None, '[]', '{}', '{"seed": 0}'])
def test_toy_city_over_a_folder_of_photographs_is_refused(tmp_path, prepare, marker):
    photo = tmp_path / 'leftImg8bit/train/spielburg/spielburg_000000_000019_a.png'
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b'a photograph')
    if marker is not None:
        (tmp_path / 'toy_city.json').write_text(marker)
    before = times(tmp_path)
    with pytest.raises(SystemExit, match='^error: .*it is not a toy_city'):
        prepare('toy-city', '--out', tmp_path, *SMALL, '--overwrite')
    assert times(tmp_path) == before


def test_problem_with_a_name_that_is_no_text_is_printed(city, prepare, capsys):
    (label,) = instance_labels(city, 'val')[:1]
    name = label.name.replace('modellhausen', 'Caf\udce9').replace('legofurt', 'Caf')
    label.rename(label.with_name(name))
    with pytest.raises(SystemExit):
        prepare('cityscapes', city, '--nproc', '1')
    assert 'image is missing, its label is there' in capsys.readouterr().out


def test_newer_label_has_its_image_made_again(city, prepare):
    label = instance_labels(city, 'val')[0]
    Image.fromarray(np.full((64, 128), 7, np.uint16)).save(label)
    before = times(city)
    prepare('cityscapes', city, '--nproc', '1')

    content = json.loads((city / 'gtFine/cityscapes_panoptic_val.json').read_text())
    name = label.name.replace('_instanceIds', '_panoptic')
    (changed,) = [a for a in content['annotations'] if a['file_name'] == name]
    assert [s['category_id'] for s in changed['segments_info']] == [7]
    after = times(city)
    pngs = [path for path in after if path.endswith('_panoptic.png')]
    assert [p for p in pngs if after[p] != before[p]] == [
        f'gtFine/cityscapes_panoptic_val/{name}'
    ]


def test_lost_pngs_are_made_again(city, prepared, prepare):
    shutil.rmtree(city / 'gtFine/cityscapes_panoptic_val')
    prepare('cityscapes', city, '--nproc', '1')
    assert times(city).keys() == times(prepared).keys()


@pytest.mark.parametrize(
    ('lost', 'archive'),
    [
        ('gtFine', 'gtFine_trainvaltest.zip'),
        ('leftImg8bit', 'leftImg8bit_trainvaltest.zip'),
        ('gtFine/val', 'gtFine_trainvaltest.zip'),
    ],
)
def test_missing_folder_names_path_and_archive(city, prepare, lost, archive):
    shutil.rmtree(city / lost)
    with pytest.raises(SystemExit, match='^error: ') as error:
        prepare('cityscapes', city, '--splits', 'val')
    assert str(city / lost) in str(error.value)
    assert archive in str(error.value)


def test_split_without_labels_names_path_and_archive(city, prepare):
    for label in instance_labels(city, 'val'):
        label.unlink()
    with pytest.raises(SystemExit, match='^error: ') as error:
        prepare('cityscapes', city)
    assert str(city / 'gtFine/val') in str(error.value)
    assert 'gtFine_trainvaltest.zip' in str(error.value)


def run_cityscapesscripts(root, out, split):
    """Convert a split as cityscapesscripts does."""
    out.mkdir()
    convert2panoptic(str(root / 'gtFine'), str(out), setNames=[split])


def assert_equal_output(root, official, split):
    """Compare PNGs pixel for pixel and jsons field for field, but for image names."""
    name = f'cityscapes_panoptic_{split}'
    ours = json.loads((root / 'gtFine' / f'{name}.json').read_text())
    theirs = json.loads((official / f'{name}.json').read_text())
    for image in ours['images']:
        city_folder = image['id'].rpartition('_')[0].rpartition('_')[0]
        expected = f'{city_folder}/{image["id"]}_leftImg8bit.png'
        assert image.pop('file_name') == expected
    for image in theirs['images']:
        del image['file_name']
    assert ours == theirs
    for annotation in theirs['annotations']:
        png = Path(name) / annotation['file_name']
        np.testing.assert_array_equal(
            Image.open(root / 'gtFine' / png), Image.open(official / png)
        )


@pytest.mark.parametrize('split', ['train', 'val'])
def test_output_is_that_of_cityscapesscripts(prepared, tmp_path, split):
    run_cityscapesscripts(prepared, tmp_path / 'official', split)
    assert_equal_output(prepared, tmp_path / 'official', split)


def test_special_labels_are_treated_as_by_cityscapesscripts(tmp_path, prepare):
    # stuff, void, groups, things, ignored things, polegroup, a stuff class with an
    # instance number, an instance number of three digits, the largest value
    values = [7, 0, 1, 24, 26, 26000, 29000, 29, 30001, 18, 17003, 33999, 24001]
    rng = np.random.default_rng(0)
    root = tmp_path / 'city'
    for kind, folder in (('instanceIds', 'gtFine'), ('leftImg8bit', 'leftImg8bit')):
        path = root / folder / 'train' / 'mill_town'
        path.mkdir(parents=True)
        pixels = rng.choice(values, (9, 30)).astype(np.uint16)
        if kind == 'leftImg8bit':
            pixels = pixels.astype(np.uint8)
        suffix = f'{kind}.png' if kind == 'leftImg8bit' else f'gtFine_{kind}.png'
        Image.fromarray(pixels).save(path / f'mill_town_000003_000019_{suffix}')
    prepare('cityscapes', root, '--splits', 'train', '--nproc', '1')
    run_cityscapesscripts(root, tmp_path / 'official', 'train')
    assert_equal_output(root, tmp_path / 'official', 'train')
    content = json.loads((root / 'gtFine/cityscapes_panoptic_train.json').read_text())
    (annotation,) = content['annotations']
    assert {s['id'] for s in annotation['segments_info']} == {
        7, 17003, 24, 24001, 26, 26000, 33999
    }  # fmt: skip


def test_table_says_what_is_in_the_data_set(prepared, city, prepare, capsys):
    prepare('cityscapes', city, '--splits', 'val', '--nproc', '1')
    printed = capsys.readouterr().out
    content = json.loads((city / 'gtFine/cityscapes_panoptic_val.json').read_text())
    segments = [s for a in content['annotations'] for s in a['segments_info']]
    (person,) = [c['id'] for c in content['categories'] if c['name'] == 'person']
    of_class = [s for s in segments if s['category_id'] == person]
    row = next(line for line in printed.splitlines() if line.startswith('| person '))
    cells = [cell.strip() for cell in row.split('|')[2:5]]
    share = 100 * sum(s['area'] for s in of_class) / (2 * 64 * 128)
    assert cells == [
        str(len(of_class)),
        str(sum(s['iscrowd'] for s in of_class)),
        f'{share:.2f}',
    ]
    void = 100 * (1 - sum(s['area'] for s in segments) / (2 * 64 * 128))
    assert f'2 images, {void:.1f} % void' in printed
    assert 'sizes: 128x64 (2)' in printed
