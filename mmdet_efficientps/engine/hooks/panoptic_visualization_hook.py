# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Pictures of the same few predictions in every validation."""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence

import mmcv
import numpy as np
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.fileio import get
from mmengine.runner import Runner


@HOOKS.register_module()
class PanopticVisualizationHook(DetVisualizationHook):
    """Draw a fixed handful of validation images for the visualizer's backends.

    mmdet's hook counts iterations of training and validation together, so that other
    images are drawn every time, all under one name. Here they are spread evenly over
    the validation set of the main process, the same every time, and each has a name of
    its own, so that a backend shows how the prediction of an image develops.

    In a test it does what mmdet's hook does: draw every image if ``draw`` is set.

    Args:
        num_images (int): How many images each validation draws, 0 for none.
            Defaults to 4.
        **kwargs: Arguments of mmdet's ``DetVisualizationHook``; ``interval`` is not
            used.
    """

    def __init__(self, num_images: int = 4, **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_images = num_images

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        """Draw the images of a batch that were chosen.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch.
            data_batch (dict): Not used.
            outputs (Sequence[DetDataSample]): Predictions.
        """
        loader = runner.val_dataloader
        num_samples = len(loader.sampler)
        chosen = np.linspace(
            0, num_samples - 1, min(self.num_images, num_samples), dtype=int
        )
        first = batch_idx * loader.batch_size
        for number, sample in enumerate(outputs, start=first):
            if number not in chosen:
                continue
            content = get(sample.img_path, backend_args=self.backend_args)
            name = osp.splitext(osp.basename(sample.img_path))[0]
            self._visualizer.add_datasample(
                f'val_{name}',
                mmcv.imfrombytes(content, channel_order='rgb'),
                data_sample=sample,
                pred_score_thr=self.score_thr,
                step=runner.iter,
            )
