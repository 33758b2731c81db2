# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
import torch.nn.functional as F

from mmdet_efficientps.structures.bilinear_sampling import (
    box_axis,
    box_reach,
    image_axis,
    sample,
    sample_points,
)


@pytest.mark.parametrize('shape', [(37, 53), (22, 28), (9, 12), (1, 1), (300, 1)])
def test_resizing_is_that_of_torch(shape):
    grid = torch.randn(11, 14, generator=torch.Generator().manual_seed(0))
    rows, columns = image_axis(shape[0], 11, 11), image_axis(shape[1], 14, 14)
    expected = F.interpolate(grid[None, None], shape, mode='bilinear')[0, 0]
    torch.testing.assert_close(sample(grid, rows, columns), expected)


def test_a_part_of_an_image_is_that_part_of_the_whole():
    grid = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    rows, columns = image_axis(20, 5, 5), image_axis(28, 7, 7)
    whole = sample(grid, rows, columns)
    part = sample(grid, rows.part(slice(3, 9)), columns.part(slice(10, 28)))
    assert torch.equal(part, whole[3:9, 10:28])


def test_single_pixels_are_those_of_the_whole():
    grid = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    rows, columns = image_axis(20, 5, 5), image_axis(28, 7, 7)
    y, x = torch.tensor([0, 19, 7]), torch.tensor([27, 0, 13])
    points = sample_points(grid, rows, columns, y, x)
    for channel in range(3):
        whole = sample(grid[..., channel], rows, columns)
        torch.testing.assert_close(points[:, channel], whole[y, x])


def test_cells_beyond_the_extent_are_not_seen():
    # Four pixels show one and a half cells; their last centre is at 1.3125.
    axis = image_axis(4, 1.5, 2)
    assert axis.weight.tolist() == [0, 0.0625, 0.4375, 0.8125]


@pytest.mark.parametrize(
    ('start', 'stop', 'reach'),
    [
        # cells of 4 pixels, so half a cell is 2
        (10, 26, slice(8, 28)),
        (0, 16, slice(0, 18)),
        (-20, -4, slice(0, 0)),
        (97, 113, slice(95, 100)),
        # the centres of pixels 5 and 7 are beyond 6 - 0.125 and 7 + 0.125
        (6, 7, slice(6, 7)),
    ],
)
def test_a_box_reaches_half_a_cell_beyond_itself(start, stop, reach):
    assert box_reach(start, stop, 4, 100) == reach


def test_nothing_is_left_beyond_the_reach():
    for start, stop in ((3.3, 9.1), (5.5, 5.7), (-2.0, 40.0)):
        axis = box_axis(slice(0, 30), start, stop, 3)
        ring = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
        values = torch.lerp(ring[axis.low], ring[axis.high], axis.weight)
        reach = box_reach(start, stop, 3, 30)
        assert values.nonzero().flatten().tolist() == list(range(30))[reach]
