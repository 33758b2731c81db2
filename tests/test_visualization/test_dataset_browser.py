# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData

from mmdet_efficientps.visualization.report.dataset_browser import (
    TrainingSample,
    draw_sample,
    stack_pictures,
    write_browser,
)

CLASSES = ['car', 'person', 'road']
PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


def packed(name='a.png', labels=(0, 1), **meta):
    """A car and a person on a road, a crowd of persons, a column of void."""
    masks = np.zeros((3, 20, 40), dtype=np.uint8)
    masks[0, 2:8, 2:12] = masks[1, 4:16, 20:26] = masks[2, 10:18, 30:38] = 1
    semantic = torch.full((1, 20, 40), 2, dtype=torch.uint8)
    semantic[0, :, :4] = 255
    sample = DetDataSample(
        metainfo={'img_path': f'somewhere/{name}', **meta},
        gt_instances=InstanceData(
            labels=torch.tensor(labels), masks=BitmapMasks(masks[: len(labels)], 20, 40)
        ),
        ignored_instances=InstanceData(
            labels=torch.tensor([1]), masks=BitmapMasks(masks[2:], 20, 40)
        ),
        gt_sem_seg=PixelData(sem_seg=semantic),
    )
    inputs = torch.zeros(3, 20, 40, dtype=torch.uint8)
    inputs[0] = 255
    return {'inputs': inputs, 'data_samples': sample}


def test_sample_has_what_the_pipeline_packed():
    sample = TrainingSample.from_packed(
        packed(num_dropped_instances=3, scale_factor=(0.5, 0.25), flip=False), 3
    )
    assert sample.name == 'a.png'
    # The pipeline gives BGR.
    assert sample.image[0, 0].tolist() == [0, 0, 255]
    assert sample.instances[3, 3] == INSTANCE_OFFSET
    assert sample.instances[5, 22] == 1 + 2 * INSTANCE_OFFSET
    assert sample.instances[12, 32] == 1
    assert sample.instances[0, 0] == 3
    assert sample.semantic[0].tolist() == [3] * 4 + [2] * 36
    assert sample.num_dropped == 3
    assert sample.notes == ['scaled by 0.50 x 0.25 (width x height)']


def test_record_counts_instances_and_measures_areas():
    record = TrainingSample.from_packed(packed(), 3).record(3)
    assert record['size'] == (40, 20)
    assert record['values'] == {
        'instances': 2,
        'dropped': 0,
        'ignored': 1,
        'void': 0.1,
    }
    assert record['classes'] == {
        0: {'instances': 1, 'area': 0.0},
        1: {'instances': 1, 'area': 0.0},
        2: {'instances': 0, 'area': 0.9},
    }


def test_pipeline_without_ground_truth_is_refused():
    item = packed()
    del item['data_samples'].gt_sem_seg
    with pytest.raises(ValueError, match='without gt_sem_seg'):
        TrainingSample.from_packed(item, 3)


def test_pictures_of_different_widths_are_stacked():
    narrow = draw_sample(TrainingSample.from_packed(packed(), 3), CLASSES, PALETTE)
    stacked = stack_pictures([narrow, np.zeros((5, 500, 3), np.uint8)])
    assert stacked.shape == (len(narrow) + 5, 500, 3)
    assert (stacked[: len(narrow), narrow.shape[1] :] == 255).all()


def test_page_filters_by_class_and_dropped_instances(open_page, tmp_path):
    samples = [
        TrainingSample.from_packed(packed('a.png', num_dropped_instances=2), 3),
        TrainingSample.from_packed(packed('b.png', labels=(0,)), 3),
    ]
    write_browser(
        tmp_path / 'index.html',
        [s.record(3) for s in samples],
        [s.pictures(PALETTE, 64) for s in samples],
        CLASSES,
        PALETTE,
        'Data',
    )
    driver = open_page(tmp_path / 'index.html')

    def shown(field, value):
        driver.execute_script(
            'const field = document.getElementById(arguments[0]);'
            'field.value = arguments[1]; field.dispatchEvent(new Event("change"));',
            field,
            value,
        )
        names = driver.find_elements('css selector', '.cards .name')
        return [name.get_property('textContent') for name in names]

    assert shown('class', '') == ['a.png', 'b.png']
    assert shown('class', '1') == ['a.png']
    assert shown('class', '') == ['a.png', 'b.png']
    assert shown('only', 'dropped') == ['a.png']
    assert 'null' not in driver.find_element('id', 'gallery').text
