# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import shutil

import pytest

from mmdet_efficientps.datasets import MapillaryVistasV2PanopticDataset
from mmdet_efficientps.structures.panoptic import read_panoptic_png

SPLITS = ('training', 'validation')


def prepared(tree, prepare, version='v1.2', name='good'):
    """Prepare; gives the PNG, its ids, and category name and segment by id."""
    prepare('vistas', tree.root, '--nproc', '1')
    path = tree.root / f'mapillary_vistas_{version}_training.json'
    content = json.loads(path.read_text())
    names = {c['id']: c['name'] for c in content['categories']}
    (annotation,) = [a for a in content['annotations'] if a['image_id'] == name]
    png = path.with_suffix('') / annotation['file_name']
    found = {s['id']: names[s['category_id']] for s in annotation['segments_info']}
    return png, read_panoptic_png(str(png)), found


def test_upper_byte_is_the_label_and_lower_the_instance(write_tree, prepare):
    # 200 and 0 as instance numbers: a division by 255 would give other labels.
    _, ids, names = prepared(write_tree('vistas-instances'), prepare)
    assert [names.get(i) for i in (ids[0, 15], ids[5, 0], ids[7, 0])] == [
        'Car',
        'Road',
        None,
    ]


def test_first_instance_of_the_first_label_is_not_void(write_tree, prepare):
    _, ids, names = prepared(write_tree('vistas-instances'), prepare)
    assert names[ids[0, 0]] == 'Bird'
    assert not ids[6:].any()


def test_png_without_unevaluated_labels_is_linked(write_tree, prepare):
    tree = write_tree('vistas')
    png, ids, names = prepared(tree, prepare)
    assert png.is_symlink()
    assert png.resolve() == (tree.root / 'training/panoptic/good.png').resolve()
    assert names == {70000: 'Road', 300: 'Car', 5: 'Bird'}
    assert ids[0, 0] == 300


def test_data_set_can_be_moved_with_its_links(write_tree, prepare):
    tree = write_tree('vistas')
    png, *_ = prepared(tree, prepare)
    moved = tree.root.rename(tree.root.with_name('moved'))
    assert (moved / png.relative_to(tree.root)).is_file()


def test_groups_of_v2_become_void_and_ids_come_from_the_json(write_tree, prepare):
    tree = write_tree('vistas', versions=('v2.0',), alone=False)
    png, ids, names = prepared(tree, prepare, 'v2.0')
    assert not png.is_symlink()
    assert names == {70000: 'Road', 300: 'Car'}
    assert not ids[:4, 12:].any()
    assert (ids == 300).sum() == 16
    assert min(c['id'] for c in tree.read()['categories']) == 501


def test_both_versions_of_one_download_are_prepared(write_tree, prepare):
    tree = write_tree('vistas', versions=('v1.2', 'v2.0'), alone=False)
    prepare('vistas', tree.root, '--nproc', '1')
    for version, classes in (('v1.2', 65), ('v2.0', 116)):
        for split in SPLITS:
            path = tree.root / f'mapillary_vistas_{version}_{split}.json'
            assert len(json.loads(path.read_text())['categories']) == classes
    dataset = MapillaryVistasV2PanopticDataset(
        data_root=str(tree.root),
        ann_file='mapillary_vistas_v2.0_training.json',
        data_prefix={'img': 'training/images'},
        test_mode=True,
    )
    assert len(dataset.metainfo['thing_classes']) == 70


def test_one_version_can_be_chosen(write_tree, prepare):
    tree = write_tree('vistas', versions=('v1.2', 'v2.0'), alone=False)
    prepare('vistas', tree.root, '--versions', 'v2.0', '--nproc', '1')
    assert len(list(tree.root.glob('mapillary_vistas_v2.0_*.json'))) == 2
    assert not list(tree.root.glob('mapillary_vistas_v1.2_*'))


def test_version_that_is_not_there_is_named(write_tree, prepare):
    tree = write_tree('vistas')
    with pytest.raises(SystemExit, match='no labels v2.0 of training'):
        prepare('vistas', tree.root, '--versions', 'v2.0', '--nproc', '1')


def test_labels_that_are_not_there_are_named(write_tree, prepare):
    tree = write_tree('vistas')
    for split in SPLITS:
        shutil.rmtree(tree.root / split / 'panoptic')
    with pytest.raises(SystemExit, match='^error: no labels .*instances'):
        prepare('vistas', tree.root, '--nproc', '1')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.append({'id': 9, 'category_id': 1}), 'not in the PNG'),
        (lambda s: s.pop(), 'not in the json'),
        (lambda s: s[1].update(category_id=66), 'unknown category ids'),
    ],
)
def test_json_and_png_that_disagree_are_left_out(
    write_tree, prepare, capsys, change, message
):
    tree = write_tree('vistas')
    tree.edit(change)
    with pytest.raises(SystemExit):
        prepare('vistas', tree.root, '--nproc', '1')
    printed = capsys.readouterr().out.partition('1 problem:')[2]
    assert message in printed
    assert 'bad.png' in printed
    assert [image['id'] for image in tree.read()['images']] == ['good']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.append(s[0]), 'id that occurs twice'),
        (lambda s: s[1].pop('category_id'), "'category_id' of a segment"),
        (lambda s: s[1].update(id=2**24), "'id' of a segment"),
        (lambda s: s[1].update(iscrowd=7), "'iscrowd' of a segment"),
    ],
)
def test_segments_that_cannot_be_are_named_and_their_image_left_out(
    write_tree, prepare, capsys, change, message
):
    tree = write_tree('vistas')
    tree.edit(change)
    with pytest.raises(SystemExit):
        prepare('vistas', tree.root, '--nproc', '1')
    printed = capsys.readouterr().out.partition('2 problems:')[2]
    assert message in printed
    assert 'image bad, segment' in printed
    assert str(tree.image) in printed
    assert [image['id'] for image in tree.read()['images']] == ['good']


def test_byte_order_mark_null_and_numbers_in_quotes_are_read(write_tree, prepare):
    tree = write_tree('vistas')
    tree.edit(
        lambda segments: [
            s.update(
                id=str(s['id']), category_id=float(s['category_id']), iscrowd=None,
                bbox=None, area=None,
            )
            for s in segments
        ]
    )  # fmt: skip
    text = tree.shipped.read_text()
    tree.shipped.write_text(text, encoding='utf-8-sig')
    _, ids, names = prepared(tree, prepare, name='bad')
    assert names == {70000: 'Road', 300: 'Car', 5: 'Bird'}
    assert ids[0, 0] == 300


@pytest.mark.parametrize('name', ['../images/bad.png', '{root}/outside.png', '', None])
def test_png_outside_of_its_folder_is_named_and_not_read(
    write_tree, prepare, capsys, name
):
    tree = write_tree('vistas')
    content = json.loads(tree.shipped.read_text())
    for other in (tree.root / 'training/images/bad.png', tree.root / 'outside.png'):
        shutil.copy(tree.label, other)
    name = name and name.format(root=tree.root)
    content['annotations'][1]['file_name'] = name
    tree.shipped.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        prepare('vistas', tree.root, '--nproc', '1')
    assert 'file_name' in capsys.readouterr().out
    assert [image['id'] for image in tree.read()['images']] == ['good']


def test_suffix_in_capitals_is_one(write_tree, prepare):
    tree = write_tree('vistas')
    tree.image.rename(tree.image.with_suffix('.JPG'))
    prepare('vistas', tree.root, '--nproc', '1')
    names = [image['file_name'] for image in tree.read()['images']]
    assert names == ['bad.JPG', 'good.jpg']


def test_shipped_crowds_stay_crowds(write_tree, prepare):
    tree = write_tree('vistas')
    tree.edit(lambda segments: segments[1].update(iscrowd=1))
    prepare('vistas', tree.root, '--nproc', '1')
    (annotation,) = [a for a in tree.read()['annotations'] if a['image_id'] == 'bad']
    crowds = [s['id'] for s in annotation['segments_info'] if s['iscrowd']]
    assert crowds == [300]


def test_two_annotations_of_an_image_are_a_problem(write_tree, prepare, capsys):
    tree = write_tree('vistas')
    content = json.loads(tree.shipped.read_text())
    content['annotations'].append(content['annotations'][0])
    tree.shipped.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        prepare('vistas', tree.root, '--nproc', '1')
    assert 'two annotations for one image' in capsys.readouterr().out
    assert len(tree.read()['images']) == 2


def test_category_id_zero_is_a_class(write_tree, prepare):
    tree = write_tree('vistas')
    content = json.loads(tree.shipped.read_text())
    road = content['annotations'][0]['segments_info'][0]['category_id']
    entries = [c for c in content['categories'] if c['id'] == road]
    for annotation in content['annotations']:
        entries += [s for s in annotation['segments_info'] if s['category_id'] == road]
    for entry in entries:
        entry['id' if 'supercategory' in entry else 'category_id'] = 0
    tree.shipped.write_text(json.dumps(content))
    png, ids, names = prepared(tree, prepare)
    assert png.is_symlink()
    assert names[ids[5, 0]] == 'Road'


@pytest.mark.parametrize('lost', ['images', 'annotations', 'categories'])
def test_incomplete_json_is_named(write_tree, prepare, lost):
    tree = write_tree('vistas')
    content = json.loads(tree.shipped.read_text())
    del content[lost]
    tree.shipped.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=rf"panoptic_2018\.json.* no list '{lost}'"):
        prepare('vistas', tree.root, '--nproc', '1')


def test_other_categories_are_refused(write_tree, prepare):
    tree = write_tree('vistas')
    content = json.loads(tree.shipped.read_text())
    content['categories'][0]['supercategory'] = 'animal--dragon'
    tree.shipped.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=r"unknown \['animal--dragon'\]"):
        prepare('vistas', tree.root, '--nproc', '1')
