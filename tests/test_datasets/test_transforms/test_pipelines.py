# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The pipelines of docs/pipeline.md on a data set of four small images."""

import json
from collections import Counter

import numpy as np
import pytest
from mmdet.registry import DATASETS
from PIL import Image

from mmdet_efficientps.structures.panoptic import id2rgb

SHAPE = (32, 48)
CLASSES = ['bus', 'car', 'road']
LOAD = [{'type': 'LoadCheckedImage'}, {'type': 'LoadPanopticMap'}]
CROP = {'type': 'RandomScaleCrop', 'scale': SHAPE[::-1], 'crop_size': SHAPE[::-1]}
PACK = {'type': 'PackPanopticTargets', 'meta_keys': ['img_id', 'img_shape']}


@pytest.fixture
def dataset(tmp_path):
    """Config of a data set of four images with a car each; the first has a bus."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(4):
        ids = np.full(SHAPE, 300)
        ids[8:16, 8:20] = 200
        if number == 0:
            ids[20:30, 20:40] = 100
        name = f'{number}.png'
        pixels = rng.integers(0, 256, (*SHAPE, 3), np.uint8)
        for folder, content in (('img', pixels), ('seg', id2rgb(ids))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(tmp_path / folder / name)
        height, width = SHAPE
        images.append(
            {'id': number, 'file_name': name, 'height': height, 'width': width}
        )
        annotations.append(
            {
                'image_id': number,
                'file_name': name,
                'segments_info': [
                    {'id': int(k), 'category_id': int(k) // 100} for k in np.unique(ids)
                ],
            }
        )
    categories = [
        {'id': k, 'name': name, 'isthing': int(name != 'road')}
        for k, name in enumerate(CLASSES, start=1)
    ]
    (tmp_path / 'panoptic.json').write_text(
        json.dumps(
            {'images': images, 'annotations': annotations, 'categories': categories}
        )
    )
    return {
        'type': 'PanopticDataset',
        'data_root': str(tmp_path),
        'ann_file': 'panoptic.json',
        'data_prefix': {'img': 'img', 'seg': 'seg'},
    }


def test_images_of_rare_classes_are_repeated(dataset):
    balanced = DATASETS.build(
        {
            'type': 'ClassBalancedDataset',
            'oversample_thr': 1.0,
            'dataset': dataset | {'pipeline': [*LOAD, CROP, PACK]},
        }
    )
    ids = Counter(
        balanced[index]['data_samples'].img_id for index in range(len(balanced))
    )
    # Buses are in a quarter of the images: repeat factor sqrt(1 / 0.25).
    assert ids == {0: 2, 1: 1, 2: 1, 3: 1}
    assert balanced.metainfo['classes'] == tuple(CLASSES)


def test_instances_of_other_images_are_pasted(dataset):
    np.random.seed(0)  # noqa: NPY002 (the generator of mmdet's CopyPaste)
    mixed = DATASETS.build(
        {
            'type': 'MultiImageMixDataset',
            'dataset': dataset | {'pipeline': [*LOAD, CROP]},
            'pipeline': [
                {'type': 'PanopticCopyPaste'},
                {'type': 'RandomFlip', 'prob': 0.5},
                PACK,
            ],
        }
    )
    labels = Counter()
    for _ in range(10):
        for index in range(1, 4):
            sample = mixed[index]['data_samples']
            assert sample.img_id == index
            # One's own car may lie exactly under a pasted one.
            labels.update(sample.gt_instances.labels.tolist())
            assert len(sample.gt_instances.masks) == len(sample.gt_instances)
    assert labels[0] > 0
    assert labels[1] == 30


def test_colors_change_and_labels_do_not(dataset):
    pipeline = [*LOAD, CROP, {'type': 'YOLOXHSVRandomAug'}, PACK]
    plain = DATASETS.build(dataset | {'pipeline': [*LOAD, CROP, PACK]})[0]
    changed = DATASETS.build(dataset | {'pipeline': pipeline})[0]
    assert changed['inputs'].dtype == plain['inputs'].dtype
    assert not changed['inputs'].equal(plain['inputs'])
    semantic = [
        packed['data_samples'].gt_sem_seg.sem_seg for packed in (plain, changed)
    ]
    assert semantic[0].equal(semantic[1])
