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


TYPES = ('Float32RoIExtractor', 'InclusiveRoIExtractor')


def make_features_and_rois():
    """Features of four levels, and RoIs of which every level has some."""
    torch.manual_seed(0)
    feats = tuple(torch.randn(2, 1, 128 >> k, 128 >> k) for k in range(4))
    center = torch.rand(60, 2) * 512
    half = (
        (0.5 + torch.rand(60, 2) / 2) * 10 * 2 ** torch.arange(60)[:, None].remainder(6)
    )
    index = torch.arange(60)[:, None] % 2
    return feats, torch.cat((index, center - half, center + half), 1)


@pytest.mark.parametrize('type', TYPES)
def test_gathered_features_are_the_same(type):
    feats, rois = make_features_and_rois()
    extractor = make_extractor(type)
    expected = extractor(feats, rois)
    assert len(extractor.map_roi_levels(rois, 4).unique()) == 4
    extractor.gathers = True
    torch.testing.assert_close(extractor(feats, rois), expected, rtol=0, atol=1e-5)
    enlarged = extractor(feats, rois, 1.5)
    extractor.gathers = False
    torch.testing.assert_close(enlarged, extractor(feats, rois, 1.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize('type', TYPES)
@pytest.mark.parametrize('gathers', [True, False])
def test_features_in_channels_last_are_read_as_such(type, gathers):
    torch.manual_seed(0)
    feats = tuple(torch.randn(1, 3, 64 >> k, 64 >> k) for k in range(4))
    rois = torch.tensor([[0.0, 10, 20, 90, 70], [0, 5, 0, 250, 256]])
    extractor = make_extractor(type)
    extractor.out_channels = 3
    expected = extractor(feats, rois)
    extractor.gathers = gathers
    feats = [feat.contiguous(memory_format=torch.channels_last) for feat in feats]
    torch.testing.assert_close(
        extractor(tuple(feats), rois), expected, rtol=0, atol=1e-5
    )


def test_a_layer_that_cannot_be_gathered_is_called():
    feats, rois = make_features_and_rois()
    extractor = make_extractor('Float32RoIExtractor')
    for layer in extractor.roi_layers:
        layer.sampling_ratio = 0
    expected = extractor(feats, rois)
    extractor.gathers = True
    assert torch.equal(extractor(feats, rois), expected)


def test_gathered_features_of_no_rois_are_none():
    extractor = make_extractor('Float32RoIExtractor')
    extractor.gathers = True
    assert extractor(FEATS, torch.zeros(0, 5)).shape == (0, 1, 7, 7)
