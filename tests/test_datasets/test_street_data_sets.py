# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoPanopticDataset
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from PIL import Image

from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.datasets.transforms import ResizeImageToLabel
from mmdet_efficientps.structures.panoptic import id2rgb

CONFIGS = Path(__file__).parents[2] / 'configs'
NUM_CLASSES = {
    'CityscapesPanopticDataset': (8, 11),
    'KITTIPanopticDataset': (8, 11),
    'IDDPanopticDataset': (9, 17),
    'MapillaryVistasV1PanopticDataset': (37, 28),
    'MapillaryVistasV2PanopticDataset': (70, 46),
}
# total, milestones, crop height and width
TRAINING = {
    'efficientps_effb5_16xb1-50k_cityscapes-1024x2048': (
        50000, [32000, 44000], (1024, 2048), 'CityscapesPanopticDataset',
    ),
    'efficientps_effb5_16xb1-25k_kitti-384x1280': (
        25000, [16000, 22000], (384, 1280), 'KITTIPanopticDataset',
    ),
    'efficientps_effb5_16xb1-144k_idd-720x1280': (
        144000, [108000, 130000], (720, 1280), 'IDDPanopticDataset',
    ),
    'efficientps_effb5_16xb1-192k_vistas-v1.2-1024x1024': (
        192000, [144000, 176000], (1024, 1024), 'MapillaryVistasV1PanopticDataset',
    ),
    'efficientps_effb5_16xb1-192k_vistas-v2.0-1024x1024': (
        192000, [144000, 176000], (1024, 1024), 'MapillaryVistasV2PanopticDataset',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', NUM_CLASSES)
def test_classes_are_things_first_and_all_different(name):
    meta = DATASETS.get(name).METAINFO
    assert meta['classes'] == meta['thing_classes'] + meta['stuff_classes']
    found = len(meta['thing_classes']), len(meta['stuff_classes'])
    assert found == NUM_CLASSES[name]
    assert len(set(meta['classes'])) == len(meta['classes']) == len(meta['palette'])
    assert all(0 <= c < 256 for color in meta['palette'] for c in color)


def test_kitti_has_the_classes_of_cityscapes():
    meta = DATASETS.get('KITTIPanopticDataset').METAINFO
    assert meta == CityscapesPanopticDataset.METAINFO


def test_poles_and_signs_are_things_in_vistas_and_stuff_in_idd():
    vistas = DATASETS.get('MapillaryVistasV1PanopticDataset').METAINFO
    assert {'Pole', 'Street Light', 'Billboard', 'Manhole'} <= {
        *vistas['thing_classes']
    }
    assert {'Car Mount', 'Ego Vehicle', 'Pothole'} <= {*vistas['stuff_classes']}
    idd = DATASETS.get('IDDPanopticDataset').METAINFO
    assert {'pole', 'traffic sign', 'road'} <= {*idd['stuff_classes']}
    assert idd['thing_classes'][0] == 'person'
    assert idd['thing_classes'][-1] == 'vehicle fallback'


def test_groups_are_no_classes_of_vistas_v2():
    meta = DATASETS.get('MapillaryVistasV2PanopticDataset').METAINFO
    assert not [name for name in meta['classes'] if name.endswith('Group')]


@pytest.mark.parametrize('name', TRAINING)
def test_training_config_has_the_schedule_sizes_and_classes(name):
    total, milestones, crop, dataset = TRAINING[name]
    config = Config.fromfile(CONFIGS / f'efficientps/{name}.py')
    assert config.train_cfg.max_iters == total
    assert config.param_scheduler[1].milestones == milestones
    assert config.param_scheduler[1].end == total
    assert config.optim_wrapper.optimizer.lr == 0.07
    train, val = config.train_dataloader.dataset, config.val_dataloader.dataset
    assert train.type == val.type == dataset
    assert config.test_dataloader == config.val_dataloader
    (step,) = [t for t in train.pipeline if t.type == 'RandomScaleCrop']
    assert tuple(step.crop_size) == crop[::-1]
    assert tuple(step.ratio_range) == (0.5, 2.0)

    things, stuff = NUM_CLASSES[dataset]
    model = config.model
    model.backbone.init_cfg = None
    # The smallest backbone has the same heads and is built in no time.
    model.backbone.arch = 'b0'
    model.neck.in_channels = [24, 40, 112, 1280]
    built = MODELS.build(model)
    assert built.semantic_head.num_classes == things + stuff
    assert built.roi_head.bbox_head.num_classes == things
    assert built.roi_head.mask_head.num_classes == things
    assert built.panoptic_fusion_head.num_things_classes == things
    assert built.panoptic_fusion_head.num_stuff_classes == stuff


def test_coco_is_read_as_it_is_shipped_with_the_labels_of_mmdet(tmp_path):
    things = CocoPanopticDataset.METAINFO['thing_classes']
    stuff = CocoPanopticDataset.METAINFO['stuff_classes']
    names = (*things, *stuff)
    # Category ids of COCO have gaps.
    categories = [
        {'id': 2 * k + 1, 'name': name, 'isthing': int(k < len(things))}
        for k, name in enumerate(names)
    ]
    ids = np.full((4, 6), 3226956)
    ids[0] = 0
    ids[2:, 3:] = 5
    segments = [
        {'id': 3226956, 'category_id': 2 * names.index('road') + 1, 'iscrowd': 0},
        {'id': 5, 'category_id': 2 * names.index('truck') + 1, 'iscrowd': 1},
    ]
    content = {
        'images': [{'id': 7, 'file_name': '7.jpg', 'width': 6, 'height': 4}],
        'annotations': [
            {'image_id': 7, 'file_name': '7.png', 'segments_info': segments}
        ],
        'categories': categories,
    }
    for split in ('train', 'val'):
        labels = tmp_path / f'annotations/panoptic_{split}2017'
        labels.mkdir(parents=True)
        labels.with_suffix('.json').write_text(json.dumps(content))
        Image.fromarray(id2rgb(ids)).save(labels / '7.png')
        (tmp_path / f'{split}2017').mkdir()
        Image.new('RGB', (6, 4)).save(tmp_path / f'{split}2017/7.jpg')
    config = Config.fromfile(CONFIGS / '_base_/datasets/coco_panoptic.py')
    for loader in (config.train_dataloader, config.val_dataloader):
        dataset = DATASETS.build(loader.dataset | {'data_root': f'{tmp_path}/'})
        assert dataset.metainfo['classes'] == names
        assert dataset.metainfo['thing_classes'] == tuple(things)
        sample = dataset[0]['data_samples']
        if loader is config.train_dataloader:
            found = np.unique(sample.gt_sem_seg.sem_seg.numpy())
            # A crop need not show the truck.
            expected = {names.index('road'), names.index('truck'), 255}
            assert names.index('road') in found
            assert set(found.tolist()) <= expected
            assert len(sample.gt_instances) == 0


@pytest.mark.parametrize('shape', [(94, 310, 3), (96, 320, 3), (192, 640, 3)])
def test_image_gets_the_size_of_its_label(shape):
    image = np.zeros(shape, np.uint8)
    image[:, shape[1] // 2 :] = 200
    results = {'img': image, 'width': 320, 'height': 96}
    results |= {'img_shape': shape[:2], 'ori_shape': shape[:2]}
    results = ResizeImageToLabel()(results)
    assert results['img'].shape == (96, 320, 3)
    assert results['img_shape'] == results['ori_shape'] == (96, 320)
    assert (results['img'][:, :158] == 0).all()
    assert (results['img'][:, 162:] == 200).all()
