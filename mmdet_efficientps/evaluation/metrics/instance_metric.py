# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Base of the metrics that compare detected instances with true ones."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.logging import print_log
from terminaltables import AsciiTable

from mmdet_efficientps.structures.panoptic import index_segments
from mmdet_efficientps.structures.run_length_masks import masks_to_rle, segments_to_rle

from .sample_fields import get_prediction, load_gt_ids
from .sum_metric import SumMetric


@dataclass
class TrueInstances:
    """Things of a ground truth.

    Attributes:
        labels (list[int]): Class of each object or crowd.
        is_crowd (list[bool]): Whether it is a crowd.
        rles (list[dict]): Its run-length mask.
        void_rle (dict): Run-length mask of the pixels without a label.
    """

    labels: list[int]
    is_crowd: list[bool]
    rles: list[dict]
    void_rle: dict


@dataclass
class DetectedInstances:
    """Detections of an image.

    Attributes:
        labels (list[int]): Class of each.
        scores (list[float]): Score of each.
        rles (list[dict]): Run-length mask of each.
    """

    labels: list[int]
    scores: list[float]
    rles: list[dict]


class InstanceMetric(SumMetric):
    """Base of metrics over ``pred_instances`` and the things of a panoptic PNG.

    A few kilobytes of numbers are kept for each image, no masks. Data sets are
    :class:`PanopticDataset` and what derives from it.

    Args:
        classwise (bool): Whether to return the values of each class too; they are
            in the printed table in any case. Defaults to True.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.
        **kwargs: Arguments of :class:`SumMetric`.
    """

    needs = ('pred_instances',)
    # heading of the printed table
    title = ''

    def __init__(
        self, classwise: bool = True, backend_args: dict | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.classwise = classwise
        self.backend_args = backend_args

    @abstractmethod
    def match(
        self, sample: dict, truth: TrueInstances, detected: DetectedInstances
    ) -> Any:
        """Compare the instances of one image.

        Args:
            sample (dict): The data sample.
            truth (TrueInstances): True instances.
            detected (DetectedInstances): Detections.

        Returns:
            Any: What :meth:`summarize` needs of this image.
        """

    @abstractmethod
    def summarize(self, images: list) -> tuple[dict, dict[str, np.ndarray]]:
        """Compute the values over all images.

        Args:
            images (list): What :meth:`match` gave, in the order of the image ids.

        Returns:
            tuple[dict, dict[str, np.ndarray]]: Values 0..1 over all classes by name,
            and by name those of each class, (C, ); nan where there is nothing to
            measure.
        """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Compare the instances of a batch.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): Each with ``img_id``, ``seg_map_path``,
                ``segments_info`` and ``pred_instances``: ``labels`` and ``scores``
                (N, ), ``masks`` (N, H, W) bool on any device, or N run-length masks.

        Raises:
            KeyError: If the data sample lacks one of these.
            ValueError: If prediction and ground truth differ in size, or do not
                fit the classes or the annotation file.
        """
        for sample in data_samples:
            instances = get_prediction(sample, 'pred_instances')
            detected = DetectedInstances(
                instances['labels'].tolist(),
                instances['scores'].tolist(),
                masks_to_rle(instances['masks']),
            )
            gt_ids = load_gt_ids(sample, self.backend_args)
            try:
                truth = self._true_instances(gt_ids, sample['segments_info'])
                self._check(detected, gt_ids.shape)
            except ValueError as error:
                raise ValueError(
                    f'cannot evaluate against {sample["seg_map_path"]}: {error}'
                ) from error
            record = self.match(sample, truth, detected)
            self.add([(sample['img_id'], record)])

    def compute_from_sums(self, images: list[tuple]) -> dict[str, float]:
        """Compute the values over all images and print them as a table.

        Args:
            images (list[tuple]): Id and record of each image.

        Returns:
            dict[str, float]: Values in percent, see the class.
        """
        images = [record for _, record in sorted(images, key=lambda image: image[0])]
        values, per_class = self.summarize(images)
        classes = self.dataset_meta['thing_classes']
        print_log(_table(self.title, values, per_class, classes), 'current')
        if self.classwise:
            values |= {
                f'{class_name}_{name}': float(numbers[label])
                for label, class_name in enumerate(classes)
                for name, numbers in per_class.items()
            }
        return {
            name: 100 * float(value)
            for name, value in values.items()
            if not np.isnan(value)
        }

    def _true_instances(
        self, gt_ids: np.ndarray, segments: Sequence[dict]
    ) -> TrueInstances:
        """Encode the things of a ground truth, (H, W)."""
        num_things = len(self.dataset_meta['thing_classes'])
        index = index_segments(gt_ids, [segment['id'] for segment in segments])
        things = {
            number: segment
            for number, segment in enumerate(segments, start=1)
            if segment['category'] < num_things
        }
        void_rle, *rles = segments_to_rle(index, [0, *things])
        return TrueInstances(
            [segment['category'] for segment in things.values()],
            [bool(segment['iscrowd']) for segment in things.values()],
            rles,
            void_rle,
        )

    def _check(self, detected: DetectedInstances, shape: tuple[int, int]) -> None:
        """Raise a ValueError if detections fit neither the classes nor the image."""
        things = self.dataset_meta['thing_classes']
        wrong = sorted({k for k in detected.labels if not 0 <= k < len(things)})
        if wrong:
            raise ValueError(
                f'detections have labels {wrong}, but there are {len(things)} thing '
                'classes'
            )
        sizes = {tuple(rle['size']) for rle in detected.rles} - {tuple(shape)}
        if sizes:
            raise ValueError(
                f'masks differ in size: ground truth {tuple(shape)}, prediction '
                f'{sizes.pop()}'
            )


def _table(
    title: str,
    values: dict[str, float],
    per_class: dict[str, np.ndarray],
    classes: Sequence[str],
) -> str:
    """Lay out values over all classes and of each class in percent."""

    def cell(value: float) -> str:
        return '-' if np.isnan(value) else f'{100 * value:.2f}'

    rows = [['', *per_class]]
    rows.append(['All', *(cell(values[name]) for name in per_class)])
    for label, class_name in enumerate(classes):
        rows.append([class_name, *(cell(v[label]) for v in per_class.values())])
    table = AsciiTable(rows)
    table.justify_columns = dict.fromkeys(range(1, len(rows[0])), 'right')
    others = ', '.join(
        f'{name} {cell(value)}'
        for name, value in values.items()
        if name not in per_class
    )
    return f'{title}, in percent:\n{table.table}' + (f'\n{others}' if others else '')
