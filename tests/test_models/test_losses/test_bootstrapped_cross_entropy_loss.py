# Licensed under the Apache License, Version 2.0. See LICENSE.
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_efficientps.models import BootstrappedCrossEntropyLoss
from mmdet_efficientps.models.losses import bootstrapped_cross_entropy_loss as module


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
    expected = 3 * F.cross_entropy(logits, target)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('fraction', [0, -1, 1.5])
def test_wrong_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match='loss_seg.fraction'):
        BootstrappedCrossEntropyLoss(fraction=fraction)


def whole_map_loss(logits, target, fraction):
    """Logits at the size of the labels, and the mean of the largest losses."""
    full = F.interpolate(
        logits, size=target.shape[1:], mode='bilinear', align_corners=False
    )
    losses = F.cross_entropy(full, target, ignore_index=255, reduction='none')
    losses = losses.flatten().sort(descending=True).values
    return losses[: int(fraction * losses.numel())].mean()


def labelled_logits(height, width, size):
    torch.manual_seed(0)
    logits = torch.randn(2, 5, height, width, requires_grad=True)
    target = torch.randint(0, 5, (2, *size))
    target[:, -3:] = 255
    return logits, target


# by 4, by 1, by numbers that differ, by no whole number
@pytest.mark.parametrize('size', [(44, 28), (11, 7), (33, 14), (40, 27)])
@pytest.mark.parametrize('rows', [1, 3, 10, 11])
def test_strips_are_the_whole(size, rows, monkeypatch):
    logits, target = labelled_logits(11, 7, size)
    row_values = 2 * 5 * (size[0] // 11) * size[1]
    monkeypatch.setattr(module, '_STRIP_VALUES', rows * row_values)
    expected = whole_map_loss(logits, target, 0.25)
    (expected_grad,) = torch.autograd.grad(expected, logits)
    loss = BootstrappedCrossEntropyLoss()(logits, target)
    (grad,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-8)


def test_no_logits_are_at_the_size_of_the_labels(monkeypatch):
    logits = torch.randn(2, 8, 16, 16, requires_grad=True)
    target = torch.randint(0, 8, (2, 64, 64))
    monkeypatch.setattr(module, '_STRIP_VALUES', 2 * 8 * 4 * 64)
    sizes = []
    whole = 2 * 8 * 64 * 64

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(
                o.numel()
                for o in (out if isinstance(out, tuple) else (out,))
                if isinstance(o, torch.Tensor)
            )
            return out

    with Sizes():
        BootstrappedCrossEntropyLoss()(logits, target).backward()
    assert max(sizes) <= 3 / 16 * whole


def test_logits_may_be_of_single_pixels():
    logits, target = labelled_logits(8, 8, (8, 8))
    loss = BootstrappedCrossEntropyLoss()
    flat = loss(logits.permute(0, 2, 3, 1).reshape(-1, 5), target.reshape(-1))
    torch.testing.assert_close(flat, loss(logits, target))
