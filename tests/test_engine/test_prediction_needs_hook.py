# Licensed under the Apache License, Version 2.0. See LICENSE.
from types import SimpleNamespace

import pytest
from mmdet.evaluation import DumpDetResults
from mmdet.registry import METRICS, VISUALIZERS
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator

from mmdet_efficientps.engine import PredictionNeedsHook

CONFIGURED = dict(with_panoptic=True, with_instances=True, with_semantic=True)


def settings_during(metrics, configured, visualizer='PanopticVisualizer', wrap=0):
    """test_cfg.panoptic during a test with some metrics, and after it."""
    metrics = [
        m if not isinstance(m, str) else METRICS.build({'type': m}) for m in metrics
    ]
    model = SimpleNamespace(test_cfg=ConfigDict(panoptic=dict(configured)))
    wrapper = model
    for _ in range(wrap):
        wrapper = SimpleNamespace(module=wrapper)
    runner = SimpleNamespace(
        model=wrapper,
        test_evaluator=Evaluator(metrics),
        visualizer=VISUALIZERS.build(dict(type=visualizer, name=visualizer)),
    )
    hook = PredictionNeedsHook()
    hook.before_test_epoch(runner)
    during = dict(model.test_cfg.panoptic)
    hook.after_test_epoch(runner)
    return during, dict(model.test_cfg.panoptic)


@pytest.mark.parametrize(
    ('metrics', 'instances', 'semantic'),
    [
        (['PanopticQualityMetric'], False, False),
        (['PanopticQualityMetric', 'SemanticIoUMetric'], False, True),
        (['CityscapesInstanceAPMetric'], True, False),
        (['CocoMaskAPMetric', 'SemanticIoUMetric'], True, True),
    ],
)
def test_only_what_metrics_need_is_predicted(metrics, instances, semantic):
    during, after = settings_during(metrics, CONFIGURED)
    assert during == dict(
        with_panoptic=True,
        with_instances=instances,
        with_semantic=semantic,
        mask_format='rle',
    )
    assert after == CONFIGURED


@pytest.mark.parametrize('wrap', [1, 2])
def test_a_network_that_is_wrapped_gets_the_settings(wrap):
    """For test-time augmentation, and that again for distributed processes."""
    during, after = settings_during(['PanopticQualityMetric'], CONFIGURED, wrap=wrap)
    assert not during['with_instances']
    assert after == CONFIGURED


def test_what_is_switched_off_stays_off():
    configured = CONFIGURED | {'with_semantic': False}
    during, _ = settings_during(['SemanticIoUMetric'], configured)
    assert not during['with_semantic']


def test_metric_of_unknown_needs_gets_what_is_configured():
    dump = DumpDetResults(out_file_path='a.pkl')
    during, after = settings_during(['PanopticQualityMetric', dump], CONFIGURED)
    assert during == after == CONFIGURED


@pytest.mark.parametrize('mask_format', ['bitmap', 'rle'])
def test_the_mask_format_of_the_config_stays(mask_format):
    configured = CONFIGURED | {'mask_format': mask_format}
    during, after = settings_during(['CocoMaskAPMetric'], configured)
    assert during['mask_format'] == after['mask_format'] == mask_format
    assert not during['with_semantic']


@pytest.mark.parametrize('visualizer', ['DetLocalVisualizer', 'Visualizer'])
def test_visualizers_of_others_get_all_that_is_configured(visualizer):
    during, _ = settings_during(['CocoMaskAPMetric'], CONFIGURED, visualizer)
    assert during == CONFIGURED


def test_masks_that_are_drawn_for_want_of_a_panoptic_map_are_bitmaps():
    configured = CONFIGURED | {'with_panoptic': False}
    during, _ = settings_during(['CocoMaskAPMetric'], configured)
    assert 'mask_format' not in during


def test_models_of_other_kinds_are_left_alone():
    model = SimpleNamespace()
    evaluator = Evaluator(METRICS.build({'type': 'PanopticQualityMetric'}))
    runner = SimpleNamespace(model=model, val_evaluator=evaluator)
    hook = PredictionNeedsHook()
    hook.before_val_epoch(runner)
    hook.after_val_epoch(runner)
    assert vars(model) == {}
