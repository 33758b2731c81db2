# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmdet.models import FPN
from mmdet.registry import MODELS

from mmdet_efficientps.models import SeparableConv, TwoWayFPN


def identity_neck(num_levels, **kwargs):
    """A neck of one channel whose convs all pass their input on."""
    neck = TwoWayFPN(
        [1] * num_levels,
        out_channels=1,
        separable_output_convs=False,
        norm_cfg=None,
        act_cfg=None,
        **kwargs,
    )
    for conv in (m for m in neck.modules() if isinstance(m, torch.nn.Conv2d)):
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    return neck.eval()


def test_every_level_sees_all_coarser_and_all_finer_ones():
    inputs = [torch.full((1, 1, 8 >> i, 8 >> i), 10.0**i) for i in range(4)]
    outputs = identity_neck(4)(inputs)
    # top-down sum of this and coarser levels plus bottom-up sum of this and finer
    expected = [1111 + 1, 1110 + 11, 1100 + 111, 1000 + 1111]
    assert [o.unique().tolist() for o in outputs] == [[e] for e in expected]


def test_resizing_is_nearest_neighbour_both_ways():
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    coarse = torch.tensor([[100.0, 200.0], [300.0, 400.0]]).view(1, 1, 2, 2)
    out_fine, out_coarse = identity_neck(2)([fine, coarse])
    up = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(out_fine, 2 * fine + up)
    assert torch.equal(out_coarse, 2 * coarse + fine[..., ::2, ::2])


@pytest.mark.parametrize('separable', [True, False])
@pytest.mark.parametrize(
    'norm_cfg', [dict(type='InPlaceABN'), dict(type='BN'), dict(type='InPlaceABNSync')]
)
def test_neck_builds_from_a_config_for_any_size(separable, norm_cfg):
    neck = MODELS.build(
        dict(
            type='mmdet.TwoWayFPN',
            in_channels=[4, 8],
            out_channels=16,
            separable_output_convs=separable,
            norm_cfg=norm_cfg,
        )
    )
    outputs = neck([torch.randn(2, 4, 9, 7), torch.randn(2, 8, 5, 4)])
    assert [tuple(o.shape) for o in outputs] == [(2, 16, 9, 7), (2, 16, 5, 4)]
    assert isinstance(neck.output_convs[0], SeparableConv) == separable
    sum(o.sum() for o in outputs).backward()
    assert all(p.grad is not None for p in neck.parameters())
    assert not any(n.endswith('conv.bias') for n, _ in neck.named_parameters())


def test_top_down_path_alone_is_the_fpn_of_mmdet():
    torch.manual_seed(0)
    common = dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='LeakyReLU'))
    ours = TwoWayFPN(
        [4, 8, 6],
        out_channels=5,
        separable_output_convs=False,
        paths=['top_down'],
        **common,
    ).eval()
    theirs = FPN([4, 8, 6], out_channels=5, num_outs=3, **common).eval()
    names = {'top_down_convs': 'lateral_convs', 'output_convs': 'fpn_convs'}
    theirs.load_state_dict(
        {
            key.replace(name, names[name]): value
            for key, value in ours.state_dict().items()
            for name in [key.split('.')[0]]
        }
    )
    inputs = [torch.randn(2, c, 9 >> i, 12 >> i) for i, c in enumerate([4, 8, 6])]
    for a, b in zip(ours(inputs), theirs(inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_bottom_up_path_alone_sees_all_finer_levels():
    inputs = [torch.full((1, 1, 8 >> i, 8 >> i), 10.0**i) for i in range(4)]
    outputs = identity_neck(4, paths=['bottom_up'])(inputs)
    assert [o.unique().tolist() for o in outputs] == [[1], [11], [111], [1111]]


@pytest.mark.parametrize('paths', [[], ['sideways'], ['top_down', 'sideways']])
def test_unknown_paths_name_the_field(paths):
    with pytest.raises(ValueError, match='neck.paths is .*top_down'):
        TwoWayFPN([1, 1], paths=paths)


def test_wrong_number_of_levels_names_the_field():
    with pytest.raises(ValueError, match='neck.in_channels is for 2 levels'):
        TwoWayFPN([1, 1])([torch.zeros(1, 1, 4, 4)])
