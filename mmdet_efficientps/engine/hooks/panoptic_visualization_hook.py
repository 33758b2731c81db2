# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Pictures of the same few predictions in every validation, of all in a test."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.evaluation import INSTANCE_OFFSET
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmdet_efficientps.datasets.parts import data_set_files
from mmdet_efficientps.utils import atomic_path, check_output, path_inside
from mmdet_efficientps.visualization import PanopticVisualizer
from mmdet_efficientps.visualization.predicted_image import (
    load_predicted_image,
    picture_name,
)


@HOOKS.register_module()
class PanopticVisualizationHook(DetVisualizationHook):
    """Draw a fixed handful of validation images for the visualizer's backends.

    mmdet's hook counts iterations of training and validation together, so that other
    images are drawn every time, all under one name. Here they are spread evenly over
    the validation set of the main process, the same every time, and each has a name of
    its own, so that a backend shows how the prediction of an image develops.

    In a test every image is drawn if ``draw`` is set. Differs from mmdet's hook in that
    the photograph is shown at the size of the result, pictures lie in ``test_out_dir``
    in the folders that their images come from, so that two images of one name have two
    pictures, and a folder that holds images of the test is refused.

    Args:
        num_images (int): How many images each validation draws, 0 for none.
            Defaults to 4.
        **kwargs: Arguments of mmdet's ``DetVisualizationHook``; ``interval`` is not
            used. ``backend_args`` also serve the visualizer if it has none of its own.
    """

    def __init__(self, num_images: int = 4, **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_images = num_images
        self._image_of: dict[str, str] = {}
        if getattr(self._visualizer, 'backend_args', self) is None:
            self._visualizer.backend_args = self.backend_args

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
        if not is_main_process():
            return
        loader = runner.val_dataloader
        num_samples = len(loader.sampler)
        chosen = np.linspace(
            0, num_samples - 1, min(self.num_images, num_samples), dtype=int
        )
        first = batch_idx * loader.batch_size
        for number, sample in enumerate(outputs, start=first):
            if number not in chosen:
                continue
            name = picture_name(sample.img_path, loader.dataset)
            # Backends make files of names, and folders are none of theirs.
            name = osp.splitext(name)[0].replace('/', '_')
            name = self._unique(f'val_{name}', sample.img_path)
            self._draw(name, sample, step=runner.iter)

    def before_test_epoch(self, runner: Runner) -> None:
        """Refuse a folder for pictures that holds images of the test.

        Args:
            runner (Runner): The runner.

        Raises:
            ValueError: If it does, before anything is predicted.
        """
        if self.draw:
            self._test_folder(runner, data_set_files(runner.test_dataloader.dataset))

    def _test_folder(self, runner: Runner, inputs: Iterable[str | None]) -> Path | None:
        """Give the folder for pictures, as mmdet has it; refuse one of inputs."""
        if self.test_out_dir is None:
            return None
        folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
        check_output(folder, inputs, 'the folder for pictures (--show-dir)')
        return folder

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        """Draw all images of a batch if ``draw`` is set.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Not used.
            data_batch (dict): Not used.
            outputs (Sequence[DetDataSample]): Predictions.

        Raises:
            ValueError: If the folder for the pictures holds images of the test, or a
                link in it leads out of it.
        """
        if not self.draw:
            return
        # Data sets of users may not say what they read.
        folder = self._test_folder(
            runner, [s.get(k) for s in outputs for k in ('img_path', 'seg_map_path')]
        )
        for sample in outputs:
            self._test_index += 1
            name = picture_name(sample.img_path, runner.test_dataloader.dataset)
            name = self._unique(name, sample.img_path)
            if folder is None:
                if is_main_process():
                    self._draw(name, sample, self._test_index, show=self.show)
            # mmdet's visualizers draw in the main process only.
            elif is_main_process() or isinstance(self._visualizer, PanopticVisualizer):
                # A link that lies there is replaced: nothing is written through it.
                with atomic_path(path_inside(folder, name)) as temporary:
                    self._draw(
                        name, sample, self._test_index, self.show, str(temporary)
                    )

    def _unique(self, name: str, img_path: str) -> str:
        """Give a name, with a number if another image has it already."""
        stem, suffix = osp.splitext(name)
        for number in count(2):
            if self._image_of.setdefault(name, img_path) == img_path:
                break
            name = f'{stem}_{number}{suffix}'
        return name

    def _draw(
        self,
        name: str,
        sample: DetDataSample,
        step: int,
        show: bool = False,
        out_file: str | None = None,
    ) -> None:
        """Give one sample to the visualizer."""
        image = load_predicted_image(
            sample.img_path, result_shape(sample), self.backend_args
        )
        if not isinstance(self._visualizer, PanopticVisualizer) and is_void(
            sample, len(self._visualizer.dataset_meta['classes'])
        ):
            # mmdet's visualizer fails on a map without segments.
            sample = sample.clone()
            del sample.pred_panoptic_seg
        self._visualizer.add_datasample(
            name,
            image,
            data_sample=sample,
            show=show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )


def is_void(sample: DetDataSample, num_classes: int) -> bool:
    """Tell whether a sample has a panoptic map without a single segment.

    Args:
        sample (DetDataSample): The prediction.
        num_classes (int): Number of classes, which is the label of void.

    Returns:
        bool: True if the map is void everywhere.
    """
    if 'pred_panoptic_seg' not in sample:
        return False
    labels = sample.pred_panoptic_seg.sem_seg % INSTANCE_OFFSET
    return bool((labels == num_classes).all())


def result_shape(sample: DetDataSample) -> tuple[int, int]:
    """Give the size of the result of an image.

    Args:
        sample (DetDataSample): The prediction.

    Returns:
        tuple[int, int]: Height and width in pixels: those of the panoptic map, else of
        the semantic map, else what the pipeline took for the size of the image.
    """
    for key in ('pred_panoptic_seg', 'pred_sem_seg'):
        if key in sample:
            height, width = sample.get(key).sem_seg.shape[-2:]
            return height, width
    height, width = sample.ori_shape[:2]
    return height, width
