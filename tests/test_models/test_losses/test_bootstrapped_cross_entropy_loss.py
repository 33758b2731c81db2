# Licensed under the Apache License, Version 2.0. See LICENSE.
import math

import pytest
import torch

from mmdet_efficientps.models import BootstrappedCrossEntropyLoss


def two_class_logits(probabilities):
    """Logits (1, 2, 1, W) that give class 0 these probabilities."""
    p = torch.tensor(probabilities)
    return torch.stack([p.log(), (1 - p).log()])[None, :, None]


def test_mean_of_the_worst_quarter():
    logits = two_class_logits([0.9, 0.5, 0.8, 0.1, 0.7, 0.9, 0.6, 0.2])
    loss = BootstrappedCrossEntropyLoss()(logits, torch.zeros(1, 1, 8).long())
    expected = -(math.log(0.1) + math.log(0.2)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_quarter_is_of_all_pixels_and_ignored_ones_count_zero():
    logits = two_class_logits([0.5] * 8)
    target = torch.full((1, 1, 8), 255)
    target[..., 0] = 0
    # two of eight pixels are the quarter, one of them has a label
    loss = BootstrappedCrossEntropyLoss()(logits, target)
    assert loss.item() == pytest.approx(math.log(2) / 2, rel=1e-5)


def test_only_the_worst_pixels_have_a_gradient():
    logits = two_class_logits([0.9, 0.1, 0.8, 0.7]).requires_grad_()
    BootstrappedCrossEntropyLoss()(logits, torch.zeros(1, 1, 4).long()).backward()
    touched = logits.grad.abs().sum(1).flatten() > 0
    assert touched.tolist() == [False, True, False, False]


def test_fraction_one_is_plain_cross_entropy_and_weight_scales():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    loss = BootstrappedCrossEntropyLoss(fraction=1, loss_weight=3)(logits, target)
    expected = 3 * torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('fraction', [0, -1, 1.5])
def test_wrong_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match='loss_seg.fraction'):
        BootstrappedCrossEntropyLoss(fraction=fraction)
