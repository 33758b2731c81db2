# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Predicts in validation and test what the metrics need, and no more."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_efficientps.evaluation.metrics.sample_fields import SWITCHES

from ..bare_model import bare_model


@HOOKS.register_module()
class PredictionNeedsHook(Hook):
    """Set ``test_cfg.panoptic`` of :class:`EfficientPS` for the metrics of a test.

    Predictions that nobody needs are switched off, and masks of instances come as
    run-length masks instead of bitmaps of image size. Metrics and
    :class:`PanopticVisualizer` say what they need in ``needs``; if there is a metric or
    visualizer that does not, one of mmdet's for instance, everything stays as
    configured. So do switches that are off already, and a ``mask_format`` that the
    config sets. After the validation the settings are those of before.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        """Set what validation needs."""
        self._set(runner, runner.val_evaluator)

    def before_test_epoch(self, runner: Runner) -> None:
        """Set what the test needs."""
        self._set(runner, runner.test_evaluator)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Put the settings back."""
        self._restore(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Put the settings back."""
        self._restore(runner)

    def _set(self, runner: Runner, evaluator: Evaluator) -> None:
        """Change the settings and keep the old ones."""
        settings = _panoptic_settings(runner)
        self._configured = dict(settings)
        users = [*evaluator.metrics]
        if getattr(runner, 'visualizer', None) is not None:
            users.append(runner.visualizer)
        if not all(hasattr(user, 'needs') for user in users):
            return
        needed = {key for user in users for key in user.needs}
        # pictures are of the panoptic map
        needed.add('pred_panoptic_seg')
        for key, switch in SWITCHES.items():
            settings[switch] = settings.get(switch, True) and key in needed
        if settings['with_panoptic']:
            # Without a panoptic map, pictures are of the masks.
            settings.setdefault('mask_format', 'rle')

    def _restore(self, runner: Runner) -> None:
        """Put back the settings that :meth:`_set` found."""
        settings = _panoptic_settings(runner)
        settings.clear()
        settings.update(self._configured)


def _panoptic_settings(runner: Runner) -> dict:
    """``test_cfg.panoptic`` of the model; of a model of another kind, a copy."""
    model = bare_model(runner.model)
    return (getattr(model, 'test_cfg', None) or {}).get('panoptic', {})
