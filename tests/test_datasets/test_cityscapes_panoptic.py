# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from PIL import Image

from mmdet_efficientps.datasets import CityscapesPanopticDataset

FRAME = 'mill_town_000003_000019'


@pytest.fixture
def dataset(tmp_path):
    """A tree of one frame, prepared by cityscapesscripts as the real one is."""
    instance_ids = np.full((4, 8), 7, dtype=np.uint16)  # road
    instance_ids[0] = 23  # sky
    instance_ids[1:3, 0:2] = 26000  # a car
    instance_ids[1:3, 2:4] = 24  # a group of persons
    instance_ids[3, 4:] = 1  # ego vehicle: void
    for folder in ('gtFine', 'leftImg8bit'):
        (tmp_path / folder / 'val' / 'mill_town').mkdir(parents=True)
    Image.fromarray(instance_ids).save(
        tmp_path / 'gtFine/val/mill_town' / f'{FRAME}_gtFine_instanceIds.png'
    )
    gt_fine = str(tmp_path / 'gtFine')
    convert2panoptic(gt_fine, gt_fine, setNames=['val'])
    return CityscapesPanopticDataset(
        data_root=str(tmp_path),
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix={
            'img': 'leftImg8bit/val/',
            'seg': 'gtFine/cityscapes_panoptic_val/',
        },
    )


def test_classes_are_those_of_cityscapesscripts_things_first():
    evaluated = [label for label in cityscapes_labels if not label.ignoreInEval]
    ordered = sorted(evaluated, key=lambda label: not label.hasInstances)
    meta = CityscapesPanopticDataset.METAINFO
    assert list(meta['classes']) == [label.name for label in ordered]
    assert meta['palette'] == [label.color for label in ordered]
    assert len(meta['thing_classes']) == 8
    assert len(meta['stuff_classes']) == 11


def test_label_ids_are_mapped_to_things_first(dataset):
    assert dataset.cat2label[24] == 0
    assert dataset.cat2label[33] == 7
    assert dataset.cat2label[7] == 8
    assert dataset.cat2label[23] == 18


def test_paths_are_those_on_disk(dataset, tmp_path):
    item = dataset.get_data_info(0)
    assert item['img_path'] == str(
        tmp_path / 'leftImg8bit/val/mill_town' / f'{FRAME}_leftImg8bit.png'
    )
    assert item['seg_map_path'] == str(
        tmp_path / 'gtFine/cityscapes_panoptic_val' / f'{FRAME}_gtFine_panoptic.png'
    )
    assert (tmp_path / item['seg_map_path']).is_file()


def test_image_names_that_exist_are_taken_as_they_are(dataset, tmp_path):
    path = tmp_path / 'gtFine/cityscapes_panoptic_val.json'
    content = json.loads(path.read_text())
    content['images'][0]['file_name'] = f'mill_town/{FRAME}_leftImg8bit.png'
    path.write_text(json.dumps(content))
    again = type(dataset)(
        ann_file=str(path),
        data_prefix={'img': str(tmp_path / 'leftImg8bit/val')},
        test_mode=True,
    )
    expected = dataset.get_data_info(0)['img_path']
    assert again.get_data_info(0)['img_path'] == expected


def test_group_is_an_ignored_instance(dataset):
    instances = dataset.get_data_info(0)['instances']
    by_id = {instance['segment_id']: instance for instance in instances}
    assert by_id.keys() == {24, 26000}
    assert (by_id[24]['bbox_label'], by_id[24]['ignore_flag']) == (0, 1)
    assert (by_id[26000]['bbox_label'], by_id[26000]['ignore_flag']) == (2, 0)
    assert by_id[26000]['bbox'] == [0, 1, 2, 3]


def test_missing_download_says_which_command_prepares_it(tmp_path):
    with pytest.raises(FileNotFoundError, match='prepare_dataset.py cityscapes'):
        CityscapesPanopticDataset(
            data_root=str(tmp_path),
            ann_file='gtFine/cityscapes_panoptic_val.json',
            data_prefix={'img': 'leftImg8bit/val/', 'seg': 'gtFine/'},
        )
