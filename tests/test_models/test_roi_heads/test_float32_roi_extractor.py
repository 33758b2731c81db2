# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict


def make_extractor(type):
    return MODELS.build(
        ConfigDict(
            type=type,
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            out_channels=1,
            featmap_strides=[4, 8, 16, 32],
        )
    )


# The value of a level is its number.
FEATS = tuple(torch.full((1, 1, 512 >> k, 512 >> k), float(k)) for k in range(4))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('type', ['Float32RoIExtractor', 'InclusiveRoIExtractor'])
@pytest.mark.parametrize(
    ('side', 'level'), [(100, 0), (200, 1), (300, 2), (440, 2), (460, 3), (900, 3)]
)
def test_level_of_a_box_does_not_depend_on_the_precision(type, side, level, dtype):
    rois = torch.tensor([[0.0, 50, 50, 50 + side, 50 + side]])
    feats = tuple(feat.to(dtype) for feat in FEATS)
    with torch.autocast('cpu', dtype=dtype):
        values = make_extractor(type)(feats, rois)
    assert values.dtype == torch.float32
    assert (values == level).all()


def test_without_autocast_it_is_the_extractor_of_mmdet():
    torch.manual_seed(0)
    feats = tuple(torch.rand(2, 1, 64 >> k, 64 >> k) for k in range(4))
    corners = torch.rand(20, 2, 2) * 250
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    rois = torch.cat((torch.arange(20)[:, None] % 2, boxes), dim=1)
    ours = make_extractor('Float32RoIExtractor')(feats, rois)
    assert torch.equal(ours, make_extractor('SingleRoIExtractor')(feats, rois))
