# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmdet_efficientps.visualization import (
    draw_comparison,
    draw_legend,
    draw_panoptic,
)

PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
CLASSES = ('thing', 'grass', 'sky')


def test_stuff_has_the_color_of_its_class_and_void_is_darkened():
    image = np.full((4, 6, 3), 100, dtype=np.uint8)
    panoptic = np.full((4, 6), 1)
    panoptic[:, 3:] = 3
    drawn = draw_panoptic(image, panoptic, PALETTE, alpha=0.5)
    assert drawn[0, 0].tolist() == [50, 150, 50]
    assert drawn[0, 5].tolist() == [50, 50, 50]


def test_instances_of_one_class_differ_in_shade_and_have_an_outline():
    image = np.zeros((9, 20, 3), dtype=np.uint8)
    panoptic = np.full((9, 20), 1)
    panoptic[2:7, 2:9] = INSTANCE_OFFSET
    panoptic[2:7, 11:18] = 2 * INSTANCE_OFFSET
    drawn = draw_panoptic(image, panoptic, PALETTE)
    assert drawn[2, 2].tolist() == [255, 255, 255]
    assert drawn[4, 5].tolist() != drawn[4, 14].tolist()
    assert drawn[4, 5].argmax() == drawn[4, 14].argmax() == 0
    assert drawn[0, 0].tolist() != [255, 255, 255]


def test_another_size_is_refused():
    with pytest.raises(ValueError, match='of one size'):
        draw_panoptic(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), int), PALETTE)


def test_legend_breaks_into_rows_and_shows_every_color():
    narrow = draw_legend(120, CLASSES, PALETTE)
    wide = draw_legend(600, CLASSES, PALETTE)
    assert narrow.shape[0] > wide.shape[0]
    for color in PALETTE:
        assert (narrow == color).all(-1).any()


def test_comparison_puts_image_and_panels_in_a_row():
    image = np.zeros((64, 80, 3), dtype=np.uint8)
    maps = {'ground truth': np.ones((64, 80), int), 'prediction': np.full((64, 80), 2)}
    picture = draw_comparison(image, maps, CLASSES, PALETTE)
    assert picture.shape[1] == 240
    assert picture.shape[0] > 64


def test_visualizer_writes_a_picture_of_a_prediction(tmp_path):
    visualizer = VISUALIZERS.build(dict(type='mmdet.PanopticVisualizer', name='test'))
    visualizer.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    sample = DetDataSample(
        pred_panoptic_seg=PixelData(sem_seg=torch.ones(1, 40, 50, dtype=torch.int32))
    )
    image = np.zeros((40, 50, 3), dtype=np.uint8)
    out = tmp_path / 'x.png'
    visualizer.add_datasample('x', image, sample, out_file=str(out))
    assert out.stat().st_size > 0
    assert visualizer.get_image().shape[1] == 100
