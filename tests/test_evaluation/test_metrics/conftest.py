# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A few scenes of toy_city with predictions made from their ground truth."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.structures.panoptic import read_panoptic_png
from mmdet_efficientps.testing.toy_city import write_toy_city

NUM_IMAGES = 5
CAR, PERSON, CARAVAN = 26, 24, 29
VOID = 19


def edit_ground_truth(root):
    """Make one instance a group, one a caravan, a quarter of a road void."""
    for path in sorted(root.glob('gtFine/val/*/*_instanceIds.png')):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        objects = [k for k in np.unique(ids) if k // 1000 in (CAR, PERSON)]
        largest = sorted(objects, key=lambda k: -(ids == k).sum())
        if len(largest) > 2:
            ids[ids == largest[1]] = largest[1] // 1000
            ids[ids == largest[2]] = CARAVAN * 1000
        ids[: ids.shape[0] // 2, : ids.shape[1] // 4] = 0
        labels = np.where(ids >= 1000, ids // 1000, ids)
        cv2.imwrite(str(path), ids)
        label_path = str(path).replace('instanceIds', 'labelIds')
        cv2.imwrite(label_path, labels.astype(np.uint8))


def predict(info, rng):
    """A data sample with predictions that are partly right."""
    gt_ids = read_panoptic_png(info['seg_map_path'])
    sample = DetDataSample(
        metainfo={
            key: info[key]
            for key in ('img_id', 'img_path', 'seg_map_path', 'segments_info')
        }
    )
    semantic = np.full(gt_ids.shape, 8)
    panoptic = np.full(gt_ids.shape, VOID)
    masks, labels, scores = [np.zeros(gt_ids.shape, bool)], [0], [0.95]
    for number, segment in enumerate(info['segments_info'], start=1):
        mask = np.roll(gt_ids == segment['id'], rng.integers(-4, 5, 2), (0, 1))
        label = segment['category']
        if rng.random() < 0.15:
            label = int(rng.integers(8) if label < 8 else rng.integers(8, VOID))
        semantic[mask] = label
        panoptic[mask] = label + (1000 * number if label < 8 else 0)
        for _ in range(rng.integers(3) if label < 8 else 0):
            masks.append(np.roll(mask, rng.integers(-3, 4, 2), (0, 1)))
            labels.append(label)
            # with equal scores, within an image and between images
            scores.append(round(float(rng.random()), 1))
    # Something is found where a caravan, a group and void are, too.
    for left in range(0, gt_ids.shape[1], 40):
        mask = np.zeros(gt_ids.shape, bool)
        mask[20:70, left : left + 25] = True
        masks.append(mask)
        labels.append(int(rng.integers(8)))
        scores.append(float(rng.random()))
    sample.pred_panoptic_seg = PixelData(sem_seg=torch.as_tensor(panoptic)[None])
    sample.pred_sem_seg = PixelData(sem_seg=torch.as_tensor(semantic)[None])
    sample.pred_instances = InstanceData(
        masks=torch.as_tensor(np.array(masks)),
        labels=torch.tensor(labels),
        scores=torch.tensor(scores, dtype=torch.float64),
    )
    return sample


@pytest.fixture(scope='package')
def city(tmp_path_factory):
    """Folder, data set and predictions; these are not to be changed."""
    root = tmp_path_factory.mktemp('city')
    write_toy_city(root, num_train=1, num_val=NUM_IMAGES, size=(128, 256), density=1.5)
    edit_ground_truth(root)
    convert2panoptic(str(root / 'gtFine'), setNames=['val'])
    dataset = CityscapesPanopticDataset(
        data_root=f'{root}/',
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix={
            'img': 'leftImg8bit/val/',
            'seg': 'gtFine/cityscapes_panoptic_val',
        },
        test_mode=True,
    )
    rng = np.random.default_rng(0)
    samples = [predict(dataset.get_data_info(k), rng) for k in range(len(dataset))]
    return SimpleNamespace(root=root, dataset=dataset, samples=samples)
