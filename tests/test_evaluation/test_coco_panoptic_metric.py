# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS
from PIL import Image

from mmdet_efficientps.evaluation.coco_panoptic_metric import (
    adapt_coco_panoptic_metric,
)
from mmdet_efficientps.structures.panoptic import id2rgb

pytest.importorskip(
    'panopticapi', reason='mmdet needs it: pip install --no-deps panopticapi-lite'
)


@pytest.fixture(params=['as-coco', 'as-cityscapes'])
def data_set(request, tmp_path):
    """A data set of one image whose json lists stuff first, in either layout.

    Road covers the upper 20 rows, a car 12 x 10 pixels below, the rest is void.
    """
    image, label = {
        'as-coco': ('a.jpg', 'a.png'),
        'as-cityscapes': ('a_leftImg8bit.png', 'a_gtFine_panoptic.png'),
    }[request.param]
    for name in ('img', 'seg'):
        (tmp_path / name).mkdir()
    ids = np.zeros((40, 60), int)
    ids[:20], ids[24:36, 6:16] = 5, 300
    Image.fromarray(id2rgb(ids)).save(tmp_path / 'seg' / label)
    Image.new('RGB', (60, 40)).save(tmp_path / 'img' / image)
    segments = [
        dict(id=5, category_id=7, iscrowd=0, area=1200),
        dict(id=300, category_id=26, iscrowd=0, area=120),
    ]
    content = dict(
        images=[dict(id='a', file_name=image, width=60, height=40)],
        annotations=[dict(image_id='a', file_name=label, segments_info=segments)],
        categories=[
            dict(id=7, name='road', isthing=0),
            dict(id=26, name='car', isthing=1),
        ],
    )
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    return DATASETS.build(
        dict(
            type='PanopticDataset',
            data_root=str(tmp_path),
            ann_file='panoptic.json',
            data_prefix=dict(img='img', seg='seg'),
            test_mode=True,
        )
    )


@pytest.fixture(params=['nothing', 'ann_file', 'seg_prefix', 'both', 'outfile'])
def metric(request, data_set, tmp_path):
    """The metric with all or a part of its arguments."""
    given = {
        'nothing': (),
        'ann_file': ('ann_file',),
        'seg_prefix': ('seg_prefix',),
        'both': ('ann_file', 'seg_prefix'),
        'outfile': ('ann_file', 'outfile_prefix'),
    }[request.param]
    values = dict(
        ann_file=data_set.ann_file,
        seg_prefix=data_set.data_prefix['seg'],
        outfile_prefix=str(tmp_path / 'out' / 'x'),
    )
    built = METRICS.build(
        dict(type='CocoPanopticMetric', nproc=1, **{k: values[k] for k in given})
    )
    built.dataset_meta = data_set.metainfo
    return built


def evaluate(metric, data_set):
    """Score a map with the car as it is and three quarters of the road."""
    # labels count things first: car 0, road 1, void 2
    encoded = torch.full((1, 40, 60), 2)
    encoded[:, :15] = 1
    encoded[:, 24:36, 6:16] = 1000
    info = data_set.get_data_info(0)
    sample = dict(pred_panoptic_seg=dict(sem_seg=encoded), ori_shape=(40, 60), **info)
    metric.process({}, [sample])
    return metric.evaluate(size=1)


def test_labels_and_files_are_those_of_the_data_set(metric, data_set):
    # once for each validation of a training
    for _ in range(2):
        adapt_coco_panoptic_metric(metric, data_set, data_set.metainfo['classes'])
        values = evaluate(metric, data_set)
        assert values['coco_panoptic/PQ_th'] == pytest.approx(100)
        assert values['coco_panoptic/PQ_st'] == pytest.approx(75)
        assert values['coco_panoptic/PQ'] == pytest.approx(87.5)
