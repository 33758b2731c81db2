# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Checks that the heads of a panoptic network have the classes of the data set."""

from __future__ import annotations

from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.registry import HOOKS
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


@HOOKS.register_module()
class PanopticClassesCheckHook(Hook):
    """Compare the number of classes of every head with the data set.

    The counterpart of mmdet's NumClassCheckHook, which takes all heads to have the
    same number of classes: here box and mask head have the thing classes, the
    semantic head all of them, or for mmdet's HeuristicFusionHead the stuff classes
    and one for all things together.
    """

    # the config field of each head, the attribute, and what it must be equal to
    CHECKS = (
        ('roi_head.bbox_head', 'num_classes', 'things'),
        ('roi_head.mask_head', 'num_classes', 'things'),
        ('semantic_head', 'num_classes', 'semantic'),
        ('panoptic_fusion_head', 'num_things_classes', 'things'),
        ('panoptic_fusion_head', 'num_stuff_classes', 'stuff'),
    )

    def before_train(self, runner: Runner) -> None:
        """Check against the training set, and the validation set where there is one.

        A validation set of other classes shall not be found hours later.
        """
        training = runner.train_dataloader.dataset
        self._check(runner, training)
        if runner.val_loop is None:
            return
        validation = runner.val_loop.dataloader.dataset
        classes = [tuple(d.metainfo['classes']) for d in (training, validation)]
        if classes[0] != classes[1]:
            raise ValueError(
                'train_dataloader.dataset and val_dataloader.dataset differ in their '
                f'classes: {classes[0]} and {classes[1]}. Set the metainfo of both '
                'alike'
            )

    def before_val(self, runner: Runner) -> None:
        """Check against the validation set."""
        self._check(runner, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Check against the test set."""
        self._check(runner, runner.test_dataloader.dataset)

    def _check(self, runner: Runner, dataset: BaseDataset) -> None:
        """Raise a ValueError that lists every head that disagrees."""
        meta = dataset.metainfo
        counts = {
            'things': len(meta['thing_classes']),
            'stuff': len(meta['stuff_classes']),
            'semantic': len(meta['classes']),
        }
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        fusion_head = getattr(model, 'panoptic_fusion_head', None)
        if isinstance(fusion_head, HeuristicFusionHead):
            counts['semantic'] = counts['stuff'] + 1
        problems = []
        for head, field, kind in self.CHECKS:
            module = model
            for name in head.split('.'):
                module = getattr(module, name, None)
            value = getattr(module, field, counts[kind])
            if value != counts[kind]:
                problems.append(f'model.{head}.{field} is {value}, not {counts[kind]}')
        if problems:
            raise ValueError(
                f'{type(dataset).__name__} has {counts["things"]} thing and '
                f'{counts["stuff"]} stuff classes, but {"; ".join(problems)}. '
                'Set these fields in the config (num_things_classes and '
                'num_stuff_classes where the head has them), or the metainfo of the '
                'data set'
            )
