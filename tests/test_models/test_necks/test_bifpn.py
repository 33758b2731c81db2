# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmdet.registry import MODELS

from mmdet_efficientps.models import BiFPN
from mmdet_efficientps.models.necks.bifpn import WeightedFusion


def pass_on(module):
    """Make every conv pass its input on, so that only the fusion is left."""
    for conv in (m for m in module.modules() if isinstance(m, torch.nn.Conv2d)):
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    return module.eval()


def test_inputs_are_weighted_by_learnt_weights_that_are_never_negative():
    fusion = pass_on(WeightedFusion(3, 1, norm_cfg=None, act_cfg=None))
    inputs = [torch.full((1, 1, 2, 2), value) for value in (1.0, 4.0, 100.0)]
    torch.nn.init.constant_(fusion.weights, 1.0)
    assert fusion(*inputs).mean().item() == pytest.approx(35, rel=1e-3)
    fusion.weights.data = torch.tensor([2.0, 1.0, -5.0])
    assert fusion(*inputs).mean().item() == pytest.approx(2, rel=1e-3)
    fusion.weights.data = torch.zeros(3)
    assert torch.isfinite(fusion(*inputs)).all()


def test_one_layer_goes_down_and_up_again():
    neck = BiFPN([1, 1, 1], 1, num_layers=1, norm_cfg=None, act_cfg=None)
    inputs = [
        torch.full((1, 1, 8 >> i, 8 >> i), v) for i, v in enumerate([8.0, 16.0, 64.0])
    ]
    # down: means of a level and the coarser one
    middle = (16 + 64) / 2
    fine = (8 + middle) / 2
    # up: means of input, middle and the finer level; the coarsest has no middle
    up = (16 + middle + fine) / 3
    coarse = (64 + up) / 2
    outputs = [o.mean().item() for o in pass_on(neck)(inputs)]
    assert outputs == pytest.approx([fine, up, coarse], rel=1e-3)


@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_neck_builds_from_a_config_for_sizes_rounded_up(norm):
    neck = MODELS.build(
        dict(
            type='mmdet.BiFPN',
            in_channels=[4, 8, 6],
            out_channels=16,
            num_layers=2,
            norm_cfg=dict(type=norm),
        )
    )
    sizes = [(9, 7), (5, 4), (3, 2)]
    outputs = neck(
        [torch.randn(2, c, *s) for c, s in zip([4, 8, 6], sizes, strict=True)]
    )
    assert [tuple(o.shape) for o in outputs] == [(2, 16, *size) for size in sizes]
    sum(o.sum() for o in outputs).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_wrong_number_of_levels_names_the_field():
    with pytest.raises(ValueError, match='neck.in_channels is for 2 levels'):
        BiFPN([1, 1])([torch.zeros(1, 1, 4, 4)])
