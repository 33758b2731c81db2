# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmcv.ops import RoIAlign, RoIPool, roi_align

from mmdet_efficientps.models.roi_heads.roi_extractors.gathered_roi_align import (
    can_gather,
    gathered_roi_align,
)

HEIGHT, WIDTH = 24, 40


def make_rois(scale, number=200):
    """RoIs within, across, around and outside two images; some without area."""
    rng = torch.Generator().manual_seed(0)
    image = torch.tensor([WIDTH, HEIGHT]) / scale
    center = (torch.rand(number, 2, generator=rng) * 1.6 - 0.3) * image
    half = torch.rand(number, 2, generator=rng) ** 2 * image
    half[::10] = 0
    half[1::10, 0] = 0
    whole = torch.cat((torch.zeros(2), image))
    boxes = torch.cat((torch.cat((center - half, center + half), 1), whole[None]))
    boxes = torch.cat((boxes, (boxes[:50] / 4).round() * 4))
    index = torch.arange(len(boxes))[:, None] % 2
    return torch.cat((index.float(), boxes), 1)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('scale', [1 / 4, 1 / 32, 1.0])
@pytest.mark.parametrize(
    ('size', 'sampling_ratio'), [((7, 7), 2), ((14, 14), 2), ((3, 5), 1), ((2, 2), 3)]
)
def test_it_is_the_roi_align_of_mmcv(size, sampling_ratio, scale, aligned):
    torch.manual_seed(0)
    features = torch.randn(2, 6, HEIGHT, WIDTH)
    rois = make_rois(scale)
    theirs = roi_align(features, rois, size, scale, sampling_ratio, 'avg', aligned)
    ours = gathered_roi_align(features, rois, size, scale, sampling_ratio, aligned)
    assert 0.05 < (theirs == 0).float().mean() < 0.7
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_the_layout_of_the_features_does_not_matter():
    features = torch.randn(2, 6, HEIGHT, WIDTH)
    rois = make_rois(1 / 4)
    expected = gathered_roi_align(features, rois, (7, 7), 1 / 4)
    for other in (
        features.contiguous(memory_format=torch.channels_last),
        features.mT.contiguous().mT,
    ):
        assert torch.equal(gathered_roi_align(other, rois, (7, 7), 1 / 4), expected)


def test_no_rois_have_no_features():
    features = torch.randn(1, 6, HEIGHT, WIDTH)
    out = gathered_roi_align(features, torch.zeros(0, 5), (7, 7))
    assert out.shape == (0, 6, 7, 7)


def test_it_stands_for_means_of_fixed_numbers_of_samples_only():
    assert can_gather(RoIAlign((7, 7), sampling_ratio=2))
    assert not can_gather(RoIAlign((7, 7), sampling_ratio=0))
    assert not can_gather(RoIAlign((7, 7), sampling_ratio=2, pool_mode='max'))
    assert not can_gather(RoIPool((7, 7)))
