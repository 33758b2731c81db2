# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Checks that the checkpoint of a run can be read and is that of its network."""

from __future__ import annotations

import logging

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_efficientps.utils.checkpoint_loading import (
    CheckpointError,
    check_checkpoint_file,
    check_state_dict,
    find_state_dict,
    weights_origin,
)

from ..bare_model import bare_model


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Explain a checkpoint that cannot be read; refuse one of another network.

    MMEngine skips tensors that do not fit and logs them, so that the test of another
    network's checkpoint gives the numbers of an untrained one. Here that is an error
    in a test and where training is resumed. Where training starts from a checkpoint
    (``load_from``) it is a warning: the last layers may well be meant for other
    classes. If nothing fits it is an error there, too.

    The checkpoints of a training say in ``meta`` where its first weights are from
    (``weights_from``) and under which terms these are (``license``), however often it
    is resumed.
    """

    def __init__(self) -> None:
        self._misfit: CheckpointError | None = None
        self._any_fits = True
        self._inherited: dict[str, str] = {}

    def before_run(self, runner: Runner) -> None:
        """Check the file, before MMEngine reads it.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If it is no checkpoint, or cut off.
        """
        source = runner._load_from
        if source is not None and '://' not in str(source):
            check_checkpoint_file(source)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the network; note whose weights they are."""
        self._inherited = weights_origin(checkpoint)
        if not runner._resume:
            self._inherited['weights_from'] = str(runner._load_from)
        model = bare_model(runner.model)
        self._misfit = None
        state, expected = find_state_dict(checkpoint), model.state_dict()
        self._any_fits = any(
            value.shape == state[key].shape
            for key, value in expected.items()
            # Counters and the like are in other networks, too.
            if key in state and value.dim()
        )
        try:
            check_state_dict(state, expected, 'the checkpoint')
        except CheckpointError as error:
            self._misfit = error

    def before_train(self, runner: Runner) -> None:
        """Warn of a checkpoint that does not fit, or refuse to resume from it.

        Raises:
            CheckpointError: If training is resumed from it, or nothing of it fits.
        """
        if self._misfit is None:
            return
        if runner._resume:
            raise self._misfit
        if not self._any_fits:
            raise CheckpointError(
                f'load_from={runner._load_from} is of another network, of which '
                f'nothing fits: {self._misfit}\nLeave load_from out, or take a '
                'checkpoint that was trained with a config like this one'
            )
        runner.logger.log(
            logging.WARNING,
            f'load_from: {self._misfit}\nWhat does not fit starts untrained',
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put origin and terms of the weights into a checkpoint."""
        checkpoint['meta'].update(self._inherited)

    def before_test(self, runner: Runner) -> None:
        """Refuse a checkpoint that does not fit."""
        if self._misfit is not None:
            raise CheckpointError(
                f'{self._misfit}\nTest it with the config it was trained with'
            ) from None
