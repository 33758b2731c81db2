# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Checks that network and data sets have the same classes, and something to learn."""

from __future__ import annotations

import logging

from mmdet.evaluation import CocoPanopticMetric
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.registry import HOOKS
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_efficientps.datasets.parts import data_set_parts
from mmdet_efficientps.evaluation.coco_panoptic_metric import (
    adapt_coco_panoptic_metric,
)

from ..bare_model import bare_model


@HOOKS.register_module()
class PanopticClassesCheckHook(Hook):
    """Compare the classes of the data sets with each other and with every head.

    The counterpart of mmdet's NumClassCheckHook, which takes all heads to have the
    same number of classes: here box and mask head have the thing classes, the
    semantic head all of them, or for mmdet's HeuristicFusionHead the stuff classes
    and one for all things together.

    Data sets of a ``ConcatDataset`` may differ in category ids and colors; whoever
    asks for their metainfo gets that of the first. Checkpoints keep the category ids,
    ``meta.category_ids``, for those who predict and have no annotation file. Training
    without a single thing instance or stuff segment is warned of.
    """

    # Before mmengine's hooks take the metainfo of the data set.
    priority = 'HIGHEST'

    # the config field of each head, the attribute, and what it must be equal to
    CHECKS = (
        ('roi_head.bbox_head', 'num_classes', 'things'),
        ('roi_head.mask_head', 'num_classes', 'things'),
        ('semantic_head', 'num_classes', 'semantic'),
        ('panoptic_fusion_head', 'num_things_classes', 'things'),
        ('panoptic_fusion_head', 'num_stuff_classes', 'stuff'),
    )

    def before_train(self, runner: Runner) -> None:
        """Check the training set, and the validation set where there is one.

        A validation set of other classes, or without labels, shall not be found hours
        later.

        Raises:
            ValueError: If classes differ, there is nothing to train on, or images to be
                validated on have no ground truth.
        """
        dataset = runner.train_dataloader.dataset
        training = self._check(runner, 'train_dataloader', dataset)
        _check_content(runner, dataset, len(training['thing_classes']))
        if runner.val_loop is None:
            return
        dataset = runner.val_loop.dataloader.dataset
        validation = agreed_metainfo(dataset, 'val_dataloader.dataset')
        if difference := class_difference(training, validation):
            raise ValueError(
                'train_dataloader.dataset and val_dataloader.dataset differ in their '
                f'classes: {difference}. Set the metainfo of both alike'
            )
        _check_ground_truth(dataset)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the category ids of the training set, in label order, into it."""
        for part in data_set_parts(runner.train_dataloader.dataset):
            if hasattr(part, 'cat_ids'):
                checkpoint['meta']['category_ids'] = list(part.cat_ids)
                return

    def before_val(self, runner: Runner) -> None:
        """Check against the validation set."""
        self._check_evaluated(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        """Check against the test set."""
        self._check_evaluated(runner, 'test')

    def _check_evaluated(self, runner: Runner, mode: str) -> None:
        """Check, and tell metrics and visualizer what they cannot find out."""
        dataset = getattr(runner, f'{mode}_dataloader').dataset
        meta = self._check(runner, f'{mode}_dataloader', dataset)
        evaluator = getattr(runner, f'{mode}_evaluator', None)
        if evaluator is None:
            return
        if isinstance(getattr(evaluator, 'dataset_meta', None), list):
            evaluator.dataset_meta = runner.visualizer.dataset_meta = meta
        for metric in getattr(evaluator, 'metrics', ()):
            if isinstance(metric, CocoPanopticMetric):
                adapt_coco_panoptic_metric(metric, dataset, meta['classes'])

    def _check(self, runner: Runner, loader: str, dataset: BaseDataset) -> dict:
        """Give the metainfo; a ValueError lists every head that disagrees."""
        meta = agreed_metainfo(dataset, f'{loader}.dataset')
        counts = {
            'things': len(meta['thing_classes']),
            'stuff': len(meta['stuff_classes']),
            'semantic': len(meta['classes']),
        }
        has = (
            f'{type(dataset).__name__} ({loader}.dataset) has {counts["things"]} thing '
            f'and {counts["stuff"]} stuff classes'
        )
        if not (counts['things'] and counts['stuff']):
            raise ValueError(
                f'{has}: panoptic segmentation needs both. Check isthing of the '
                'categories in the annotation file, or take a network for instance or '
                'semantic segmentation'
            )
        model = bare_model(runner.model)
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
                f'{has}, but {"; ".join(problems)}. '
                'Set these fields in the config (num_things_classes and '
                'num_stuff_classes where the head has them), or the metainfo of the '
                'data set'
            )
        return meta


def agreed_metainfo(dataset: BaseDataset, name: str) -> dict:
    """Give the metainfo of a data set, however it is wrapped.

    mmdet's ``ConcatDataset`` has a list where its parts differ in anything. Where they
    have the same classes, it gets the metainfo of the first, so that checkpoints and
    metrics do.

    Args:
        dataset (BaseDataset): Data set or wrapper of data sets.
        name (str): Field of the config, for errors.

    Returns:
        dict: With at least classes, thing_classes and stuff_classes.

    Raises:
        ValueError: If the parts have different classes, or one has no panoptic ones.
    """
    metas = dataset.metainfo
    metas = metas if isinstance(metas, list) else [metas]
    for meta in metas:
        if not meta.keys() >= {'classes', 'thing_classes', 'stuff_classes'}:
            raise ValueError(
                f'{name} is no panoptic data set: the metainfo of '
                f'{type(dataset).__name__} names no thing_classes and stuff_classes'
            )
    for number, meta in enumerate(metas[1:], start=2):
        if difference := class_difference(metas[0], meta):
            raise ValueError(
                f'data sets 1 and {number} of {name} differ in their classes: '
                f'{difference}. Give both the same metainfo, or convert one anew'
            )
    if len(metas) > 1:
        # A loader of num_batch_per_epoch holds a slice of the data set.
        getattr(dataset, '_dataset', dataset)._metainfo = metas[0]
    return metas[0]


def class_difference(first: dict, second: dict) -> str:
    """Say how the classes of two data sets differ.

    >>> one = dict(classes=('car', 'road', 'sky'), thing_classes=('car',))
    >>> class_difference(one, dict(one, classes=('car', 'sky', 'wall')))
    "only the first has 'road', only the second 'wall'"
    >>> class_difference(one, dict(one, classes=('car', 'sky', 'road')))
    "label 1 is 'road' (stuff) and 'sky' (stuff)"
    >>> class_difference(one, one)
    ''

    Args:
        first (dict): Metainfo with classes, things first, and thing_classes.
        second (dict): That of the other.

    Returns:
        str: The classes that only one has, or else the first label with two meanings;
        empty if labels mean the same.
    """
    names = [list(meta['classes']) for meta in (first, second)]
    only = [
        ', '.join(repr(name) for name in mine if name not in others)
        for mine, others in (names, names[::-1])
    ]
    if any(only):
        one, two = (part or 'none' for part in only)
        return f'only the first has {one}, only the second {two}'
    for label, (one, two) in enumerate(zip(*names, strict=True)):
        kinds = [
            'thing' if label < len(meta['thing_classes']) else 'stuff'
            for meta in (first, second)
        ]
        if one != two or len(set(kinds)) == 2:
            return f'label {label} is {one!r} ({kinds[0]}) and {two!r} ({kinds[1]})'
    return ''


def _check_ground_truth(dataset: BaseDataset) -> None:
    """Refuse a validation set that has images and nothing to compare them with."""
    if not hasattr(dataset, 'get_data_info'):
        return
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    bare = [item for item in items if item.get('seg_map_path', '') is None]
    if bare:
        raise ValueError(
            f'{len(bare)} of {len(items)} images of val_dataloader.dataset have no '
            f'ground truth (the first is {bare[0]["img_path"]}), and validation needs '
            "it: its json has no entry for them in 'annotations', as that of a test "
            "set, or data_prefix['seg'] is not set. Take a set with labels, or train "
            'without validation: val_dataloader=None, val_cfg=None, val_evaluator=None'
        )


def _check_content(runner: Runner, dataset: BaseDataset, num_things: int) -> None:
    """Refuse a training set without images; warn where a kind of segment is missing."""
    if not hasattr(dataset, 'get_data_info'):
        return
    if not len(dataset):
        raise ValueError(
            'train_dataloader.dataset has no images: check its annotation file, '
            'indices and filter_cfg'
        )
    has_instance = has_crowd = has_stuff = False
    for index in range(len(dataset)):
        for segment in dataset.get_data_info(index).get('segments_info', ()):
            is_thing = segment['category'] < num_things
            has_instance |= is_thing and segment['is_thing']
            has_crowd |= is_thing and not segment['is_thing']
            has_stuff |= not is_thing
        if has_instance and has_stuff:
            return
    if not has_instance:
        found = 'crowd regions only' if has_crowd else 'no segment of a thing class'
        runner.logger.log(
            logging.WARNING,
            f'train_dataloader.dataset has no thing instance to learn from: {found} '
            f'in {len(dataset)} images. loss_bbox and loss_mask stay zero. Check '
            'category_id and iscrowd in the annotation file',
        )
    if not has_stuff:
        runner.logger.log(
            logging.WARNING,
            'train_dataloader.dataset has no stuff segment to learn from: none in '
            f'{len(dataset)} images. Check category_id in the annotation file',
        )
