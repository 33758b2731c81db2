# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_efficientps.models import ChunkedMaxIoUAssigner
from mmdet_efficientps.models.task_modules import chunked_max_iou_assigner as module

RPN = dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=0.5)


def boxes(count, seed, size=40):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 100, (count, 2), generator=generator)
    sides = torch.randint(1, size, (count, 2), generator=generator)
    return torch.cat([corners, corners + sides], dim=1).float()


def scene(num_objects=23, num_crowds=3):
    """Priors, some of which are objects, and objects, some of which are there twice."""
    objects = boxes(num_objects, 0)
    objects = torch.cat([objects, objects[::3]])
    priors = torch.cat([boxes(500, 1), objects[::2] + 1, objects[1::4]])
    labels = torch.arange(len(objects)) % 7
    return (
        InstanceData(priors=priors),
        InstanceData(bboxes=objects, labels=labels),
        InstanceData(bboxes=boxes(num_crowds, 2, size=90)),
    )


@pytest.fixture(params=[600, 2000, 10**4])
def _small_chunks(request, monkeypatch):
    """One object at a time, a few, and nearly all."""
    monkeypatch.setattr(module, '_CHUNK_PAIRS', request.param)


@pytest.mark.usefixtures('_small_chunks')
@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(match_low_quality=False),
        dict(gt_max_assign_all=False),
        dict(ignore_wrt_candidates=False),
        dict(ignore_iof_thr=-1),
        dict(neg_iou_thr=(0.1, 0.3)),
        dict(ignore_iof_thr=-1, iou_calculator=dict(type='BboxOverlaps2D_GLIP')),
    ],
)
@pytest.mark.parametrize('num_crowds', [0, 3])
def test_result_is_that_of_mmdet(changes, num_crowds):
    instances = scene(num_crowds=num_crowds)
    ours = ChunkedMaxIoUAssigner(**RPN | changes).assign(*instances)
    expected = MaxIoUAssigner(**RPN | changes).assign(*instances)
    assert ours.num_gts == expected.num_gts
    assert torch.equal(ours.gt_inds, expected.gt_inds)
    assert torch.equal(ours.max_overlaps, expected.max_overlaps)
    assert torch.equal(ours.labels, expected.labels)
    # all of it occurs
    assert {-1, 0} <= set(expected.gt_inds.tolist())
    assert expected.gt_inds.max() > 20


@pytest.mark.usefixtures('_small_chunks')
def test_without_objects_all_is_background():
    priors, _, crowds = scene()
    nothing = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    ours = ChunkedMaxIoUAssigner(**RPN).assign(priors, nothing, crowds)
    expected = MaxIoUAssigner(**RPN).assign(priors, nothing, crowds)
    assert torch.equal(ours.gt_inds, expected.gt_inds)
    assert torch.equal(ours.labels, expected.labels)
    assert torch.equal(ours.max_overlaps, expected.max_overlaps)


class LargestTensor(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def test_no_tensor_grows_with_the_objects(monkeypatch):
    monkeypatch.setattr(module, '_CHUNK_PAIRS', 2**12)
    priors = InstanceData(priors=boxes(1000, 0))
    crowds = InstanceData(bboxes=boxes(300, 2))
    objects = InstanceData(bboxes=boxes(1000, 1), labels=torch.zeros(1000).long())
    with LargestTensor() as largest:
        ChunkedMaxIoUAssigner(**RPN).assign(priors, objects, crowds)
    # x and y of every pair
    assert largest.numel <= 2 * 2**12
