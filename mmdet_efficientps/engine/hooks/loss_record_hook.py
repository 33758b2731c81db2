# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Writes down the losses of every iteration, unsmoothed."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class LossRecordHook(Hook):
    """Write the losses of every iteration as they are, to compare runs to the bit.

    The log has means over a window, rounded. A line is a json object, 'iter' from 1 and
    the losses, whose digits give back the number exactly; of several processes the
    means, as their gradients are averaged. A run that is resumed adds to the file, so
    an iteration may be in it more than once.

    Args:
        file (str | Path | None): The file. Defaults to None, ``losses.jsonl`` in the
            work folder.
    """

    def __init__(self, file: str | Path | None = None) -> None:
        self.file = file

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Add a line."""
        losses = {key: value.item() for key, value in (outputs or {}).items()}
        if get_world_size() > 1 and losses:
            means = torch.tensor(list(losses.values()), dtype=torch.float64)
            all_reduce(means, op='mean')
            losses = dict(zip(losses, means.tolist(), strict=True))
        if not is_main_process():
            return
        record = {'iter': runner.iter + 1} | losses
        path = Path(self.file or Path(runner.work_dir, 'losses.jsonl'))
        with path.open('a') as file:
            file.write(json.dumps(record) + '\n')
