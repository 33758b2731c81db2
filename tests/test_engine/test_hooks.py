# Licensed under the Apache License, Version 2.0. See LICENSE.
from types import SimpleNamespace

import pytest
import torch
from mmdet.models import HeuristicFusionHead
from mmengine.hooks import CheckpointHook
from mmengine.runner import get_priority

from mmdet_efficientps.engine import InvalidLossHook, PanopticClassesCheckHook


def runner_with(things=2, stuff=3, mask=2, semantic=5):
    head = SimpleNamespace
    model = head(
        roi_head=head(
            bbox_head=head(num_classes=things), mask_head=head(num_classes=mask)
        ),
        semantic_head=head(num_classes=semantic),
        panoptic_fusion_head=head(num_things_classes=things, num_stuff_classes=stuff),
    )
    meta = dict(thing_classes=('a', 'b'), stuff_classes=('c', 'd', 'e'))
    meta['classes'] = meta['thing_classes'] + meta['stuff_classes']
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=meta))
    return SimpleNamespace(
        model=model,
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_loop=SimpleNamespace(dataloader=loader),
        optim_wrapper=SimpleNamespace(get_lr=lambda: {'lr': [0.01, 0.02]}),
        iter=41,
        work_dir='work_dirs/x',
    )


def test_heads_that_agree_with_the_data_set_pass():
    hook = PanopticClassesCheckHook()
    runner = runner_with()
    hook.before_train(runner)
    hook.before_val(runner)
    hook.before_test(runner)


def test_heads_that_disagree_are_all_listed():
    runner = runner_with(mask=80, semantic=133)
    with pytest.raises(ValueError, match='mask_head.num_classes is 80, not 2') as error:
        PanopticClassesCheckHook().before_train(runner)
    assert 'model.semantic_head.num_classes is 133, not 5' in str(error.value)
    assert 'bbox_head' not in str(error.value)


@pytest.mark.parametrize(('semantic', 'fits'), [(4, True), (5, False)])
def test_mmdets_heuristic_fusion_takes_all_things_as_one_semantic_class(semantic, fits):
    runner = runner_with(semantic=semantic)
    runner.model.panoptic_fusion_head = HeuristicFusionHead(2, 3)
    hook = PanopticClassesCheckHook()
    if fits:
        hook.before_train(runner)
    else:
        with pytest.raises(ValueError, match='semantic_head.num_classes is 5, not 4'):
            hook.before_train(runner)


def test_a_validation_set_of_other_classes_is_found_before_training():
    runner = runner_with()
    other = dict(runner.train_dataloader.dataset.metainfo, classes=tuple('abxyz'))
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=other))
    runner.val_loop = SimpleNamespace(dataloader=loader)
    with pytest.raises(ValueError, match='val_dataloader.dataset differ'):
        PanopticClassesCheckHook().before_train(runner)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_invalid_loss_stops_training_and_names_the_loss(value):
    outputs = {
        'loss': torch.tensor(value),
        'loss_seg': torch.tensor(value),
        'loss_cls': torch.tensor(1.0),
    }
    with pytest.raises(FloatingPointError, match='loss, loss_seg') as error:
        InvalidLossHook().after_train_iter(runner_with(), 0, None, outputs)
    assert 'iteration 42' in str(error.value)
    assert 'it was 0.02' in str(error.value)
    assert 'loss_cls' not in str(error.value)


def test_finite_loss_goes_on():
    outputs = {'loss': torch.tensor(3.0)}
    InvalidLossHook().after_train_iter(runner_with(), 0, None, outputs)


def test_invalid_loss_is_seen_before_a_checkpoint_is_saved():
    ours, theirs = InvalidLossHook.priority, CheckpointHook.priority
    assert get_priority(ours) < get_priority(theirs)
