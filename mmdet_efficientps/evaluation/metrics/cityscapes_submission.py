# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Writing of submissions to the Cityscapes benchmark during a test."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import name2label
from mmdet.registry import METRICS
from mmengine.logging import print_log
from pycocotools import mask as mask_api

from mmdet_efficientps.structures.panoptic import path_inside
from mmdet_efficientps.structures.run_length_masks import masks_to_rle
from mmdet_efficientps.utils import atomic_path

from .dump_panoptic_results import DumpPanopticResults
from .sample_fields import get_prediction


@METRICS.register_module()
class CityscapesSubmission(DumpPanopticResults):
    """Write predictions as the three Cityscapes benchmarks want them; measure nothing.

    Files, with the label ids of cityscapesscripts in all of them::

        panoptic.json, panoptic/<image id>.png       panoptic
        instance/<image id>.txt                      path, label id and score of each
        instance/masks/<image id>_<number>.png       instance
        semantic/<image id>.png                      label ids

    The panoptic entry of an image is written last, so that a test that was
    stopped continues with the images that are not complete. Ground truth is not needed.

    Args:
        out_dir (str): Folder for the files, shared by all processes.
        run (str): As for :class:`DumpPanopticResults`.
        **kwargs: Other arguments of :class:`DumpPanopticResults`.

    Raises:
        FileExistsError: If the folder holds predictions of another run.
    """

    default_prefix = 'cityscapes_submission'
    needs = ('pred_panoptic_seg', 'pred_instances', 'pred_sem_seg')

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write the predictions of a batch.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): Each with ``img_id`` (``<city>_<sequence>_
                <frame>``), ``pred_panoptic_seg``, ``pred_instances`` and
                ``pred_sem_seg``.

        Raises:
            KeyError: If the data sample lacks a prediction.
            ValueError: If a class is not one of Cityscapes, or has another id.
        """
        label_ids = self._label_ids()
        self.check_inputs(data_samples)
        for sample in data_samples:
            stem = self.output.stem(sample['img_id'])
            instances = get_prediction(sample, 'pred_instances')
            semantic = get_prediction(sample, 'pred_sem_seg')['sem_seg'][0]
            _write_instances(
                self.output.folder / 'instance',
                stem,
                masks_to_rle(instances['masks']),
                label_ids[instances['labels'].cpu().numpy()],
                instances['scores'].tolist(),
            )
            _write_png(
                path_inside(self.output.folder / 'semantic', f'{stem}.png'),
                label_ids[semantic.cpu().numpy()],
            )
        super().process(data_batch, data_samples)

    def _label_ids(self) -> np.ndarray:
        """Label id of each class, uint8, after a check of the category ids."""
        expected = {
            name: name2label[name].id if name in name2label else None
            for name in self.dataset_meta['classes']
        }
        wrong = [
            f'{category["name"]} is {category["id"]}, not {expected[category["name"]]}'
            for category in self.dataset_meta['categories']
            if category['id'] != expected[category['name']]
        ]
        if wrong:
            raise ValueError(
                'the category ids of the annotation file are not the label ids of '
                f'cityscapesscripts: {"; ".join(wrong)}. Make the annotation file '
                'again with tools/prepare_dataset.py cityscapes, or with '
                'createPanopticImgs without --use-train-id'
            )
        return np.array(list(expected.values()), dtype=np.uint8)

    def compute_metrics(self, results: list) -> dict:
        """Write the json and say how the official scripts are run.

        Args:
            results (list): Ids of the images of all processes.

        Returns:
            dict: Empty.
        """
        super().compute_metrics(results)
        folder = self.output.folder
        print_log(
            f'The submission is in {folder}. For a split with ground truth, with '
            'CITYSCAPES_DATASET set, the official scripts score it:\n'
            '    csEvalPanopticSemanticLabeling '
            f'--prediction-json-file {self.output.json_file}\n'
            f'    CITYSCAPES_RESULTS={folder}/instance '
            'csEvalInstanceLevelSemanticLabeling\n'
            f'    CITYSCAPES_RESULTS={folder}/semantic '
            'csEvalPixelLevelSemanticLabeling',
            'current',
        )
        return {}


def _write_instances(
    folder: Path,
    stem: str,
    rles: Sequence[dict],
    label_ids: np.ndarray,
    scores: Sequence[float],
) -> None:
    """Write the masks of an image, and last the text file that lists them."""
    lines = []
    for number, (rle, label_id, score) in enumerate(
        zip(rles, label_ids.tolist(), scores, strict=True)
    ):
        name = f'masks/{stem}_{number:03d}.png'
        _write_png(path_inside(folder, name), 255 * mask_api.decode(rle))
        lines.append(f'{name} {label_id} {score!r}\n')
    with atomic_path(path_inside(folder, f'{stem}.txt')) as temporary:
        temporary.write_text(''.join(lines))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG with one channel, (H, W) uint8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode('.png', pixels)[1].tobytes())
