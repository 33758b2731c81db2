# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmdet.registry import DATASETS
from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import get_priority

from mmdet_efficientps.engine import PanopticClassesCheckHook

OTHER_IDS = dict(category_ids=(107, 126))


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append((record.levelname, record.getMessage()))


def check(mode, config, things=1, stuff=1, wrap=0, validation=None):
    """Run the hook before a mode; gives the runner and what it was warned of."""
    val_loop = None
    if validation:
        loader = SimpleNamespace(dataset=DATASETS.build(validation))
        val_loop = SimpleNamespace(dataloader=loader)
    dataset = DATASETS.build(config)
    loader = SimpleNamespace(dataset=dataset)
    head = SimpleNamespace
    logger = logging.Logger('test')
    messages = Messages()
    logger.addHandler(messages)
    model = head(panoptic_fusion_head=head(num_things_classes=things))
    for _ in range(wrap):
        model = SimpleNamespace(module=model)
    runner = SimpleNamespace(
        model=model,
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_evaluator=SimpleNamespace(dataset_meta=dataset.metainfo),
        test_evaluator=SimpleNamespace(dataset_meta=dataset.metainfo),
        visualizer=SimpleNamespace(dataset_meta=dataset.metainfo),
        val_loop=val_loop,
        logger=logger,
    )
    getattr(PanopticClassesCheckHook(), f'before_{mode}')(runner)
    return runner, messages.texts


def wrapped(kind, one, two):
    both = dict(type='ConcatDataset', datasets=[one, two])
    return {
        'concat': both,
        'repeat': dict(type='RepeatDataset', times=2, dataset=both),
        'balanced': dict(type='ClassBalancedDataset', oversample_thr=1, dataset=one),
        'mixed': dict(type='MultiImageMixDataset', dataset=both, pipeline=[]),
    }[kind]


@pytest.mark.parametrize('kind', ['concat', 'repeat', 'balanced', 'mixed'])
def test_sets_of_the_same_classes_train_whatever_their_category_ids(write_set, kind):
    one, two = write_set('one'), write_set('two', **OTHER_IDS)
    runner, warnings = check('train', wrapped(kind, one, two))
    assert warnings == []
    # what MMEngine writes into checkpoints
    meta = runner.train_dataloader.dataset.metainfo
    assert meta['classes'] == ('car', 'road')
    assert len(meta['palette']) == 2


@pytest.mark.parametrize('wrap', [0, 1, 2])
def test_heads_are_checked_through_wrappers(write_set, wrap):
    """For test-time augmentation, and that again for distributed processes."""
    with pytest.raises(ValueError, match='num_things_classes is 3, not 1'):
        check('test', write_set('one'), things=3, wrap=wrap)


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_metrics_and_visualizer_get_the_classes_that_sets_agree_on(write_set, mode):
    one, two = write_set('one'), write_set('two', **OTHER_IDS)
    runner, _ = check(mode, wrapped('concat', one, two))
    evaluator = getattr(runner, f'{mode}_evaluator')
    assert evaluator.dataset_meta['classes'] == ('car', 'road')
    assert runner.visualizer.dataset_meta['thing_classes'] == ('car',)


def test_the_metainfo_is_agreed_on_before_mmengine_takes_it():
    ours, theirs = PanopticClassesCheckHook.priority, RuntimeInfoHook.priority
    assert get_priority(ours) < get_priority(theirs)


@pytest.mark.parametrize('mode', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(classes=(('wall', 0), ('car', 1))),
            "only the first has 'road', only the second 'wall'",
        ),
        (
            dict(classes=(('road', 1), ('car', 0))),
            r"label 0 is 'car' \(thing\) and 'road' \(thing\)",
        ),
        (
            dict(classes=(('road', 1), ('car', 1))),
            r"label 0 is 'car' \(thing\) and 'road' \(thing\)",
        ),
    ],
    ids=['names', 'kinds', 'all-things'],
)
def test_sets_of_other_classes_are_refused_by_name(write_set, change, message, mode):
    both = wrapped('concat', write_set('one'), write_set('two', **change))
    with pytest.raises(ValueError, match=message) as error:
        check(mode, both)
    assert f'data sets 1 and 2 of {mode}_dataloader.dataset' in str(error.value)


@pytest.mark.parametrize('mode', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    ('isthing', 'has'), [(0, '0 thing and 2'), (1, '2 thing and 0')]
)
def test_a_set_of_one_kind_of_classes_is_refused_at_the_start(
    write_set, isthing, has, mode
):
    config = write_set('one', classes=(('road', isthing), ('car', isthing)))
    with pytest.raises(ValueError, match=f'has {has} stuff classes: .* needs both'):
        check(mode, config, things=2 * isthing)


def test_a_data_set_of_another_kind_is_named():
    config = dict(type='CocoDataset', ann_file='boxes.json', lazy_init=True)
    with pytest.raises(ValueError, match='CocoDataset names no thing_classes'):
        check('test', config)


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ({}, []),
        (dict(crowd=True), ['no thing instance to learn from: crowd regions only']),
        (
            dict(written=(True, False)),
            ['no thing instance to learn from: no segment of a thing class'],
        ),
        (dict(written=(False, True)), ['no stuff segment to learn from']),
        (
            dict(written=(False, False)),
            ['no thing instance to learn from', 'no stuff segment to learn from'],
        ),
    ],
    ids=['both', 'crowd', 'stuff', 'things', 'nothing'],
)
def test_training_on_nothing_is_warned_of_at_the_start(write_set, change, expected):
    _, warnings = check('train', write_set('one', **change))
    assert [level for level, _ in warnings] == ['WARNING'] * len(expected)
    for (_, text), part in zip(warnings, expected, strict=True):
        assert part in text
        assert '2 images' in text


def test_a_training_set_without_images_is_refused(write_set):
    with pytest.raises(ValueError, match='train_dataloader.dataset has no images'):
        check('train', write_set('one') | dict(indices=[], serialize_data=False))


@pytest.mark.parametrize('without', ['entries', 'prefix'])
def test_a_validation_set_without_labels_is_refused_at_the_start(write_set, without):
    training = write_set('one')
    validation = write_set('two') | dict(test_mode=True)
    check('train', training, validation=validation)
    if without == 'entries':
        path = Path(validation['data_root'], 'panoptic.json')
        content = json.loads(path.read_text())
        del content['annotations'][1]
        path.write_text(json.dumps(content))
        expected = r'1 of 2 images of val_dataloader\.dataset .*1\.jpg\)'
    else:
        validation['data_prefix'] = dict(img='img')
        expected = r'2 of 2 images of val_dataloader\.dataset .*val_cfg=None'
    with pytest.raises(ValueError, match=expected):
        check('train', training, validation=validation)
