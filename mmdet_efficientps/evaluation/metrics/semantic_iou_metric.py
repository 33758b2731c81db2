# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Mean intersection over union for the MMEngine evaluator."""

from collections.abc import Sequence

import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.registry import METRICS
from mmengine.logging import print_log
from terminaltables import AsciiTable

from mmdet_efficientps.evaluation.functional.semantic_iou import (
    class_iou,
    count_classes,
)

from .sample_fields import get_prediction, load_gt_ids
from .sum_metric import SumMetric


@METRICS.register_module()
class SemanticIoUMetric(SumMetric):
    """Intersection over union of each class and its mean, in percent.

    Equal to ``evalPixelLevelSemanticLabeling`` of cityscapesscripts: pixels without
    label are ignored, predicted void is an error, classes that neither occur nor are
    predicted do not count. Data sets are :class:`PanopticDataset` and what derives
    from it.

    The keys are mIoU and, with ``classwise``, ``<class>_IoU``.

    Args:
        source (str): What to measure: ``'pred_sem_seg'``, the semantic head, or
            ``'pred_panoptic_seg'``, the classes of the panoptic map; give a prefix
            to measure both. Defaults to 'pred_sem_seg'.
        classwise (bool): Whether to return the values of each class too; they are
            in the printed table in any case. Defaults to True.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.
        **kwargs: Arguments of :class:`SumMetric`.

    Raises:
        ValueError: If ``source`` is another value.
    """

    default_prefix = 'semantic'

    def __init__(
        self,
        source: str = 'pred_sem_seg',
        classwise: bool = True,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if source not in ('pred_sem_seg', 'pred_panoptic_seg'):
            raise ValueError(
                "source of SemanticIoUMetric must be 'pred_sem_seg' or "
                f"'pred_panoptic_seg', got {source!r}"
            )
        self.source = source
        self.needs = (source,)
        self.classwise = classwise
        self.backend_args = backend_args

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): Each with ``seg_map_path``,
                ``segments_info`` and the prediction, whose ``sem_seg`` is an integer
                tensor (1, H, W) on any device.

        Raises:
            KeyError: If the data sample lacks one of these.
            ValueError: If prediction and ground truth differ in size, or do not
                fit the classes or the annotation file.
        """
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            labels = get_prediction(sample, self.source)['sem_seg'][0].cpu().numpy()
            if self.source == 'pred_panoptic_seg':
                labels = labels % INSTANCE_OFFSET
            gt_ids = load_gt_ids(sample, self.backend_args)
            try:
                counts = count_classes(
                    gt_ids, sample['segments_info'], labels, num_classes
                )
            except ValueError as error:
                raise ValueError(
                    f'cannot evaluate against {sample["seg_map_path"]}: {error}'
                ) from error
            self.add(counts)

    def compute_from_sums(self, counts: np.ndarray) -> dict[str, float]:
        """Compute the values over all images and print them as a table.

        Args:
            counts (np.ndarray): Pixels of all images, see ``count_classes``.

        Returns:
            dict[str, float]: Values in percent, see the class.
        """
        iou = 100 * class_iou(counts)
        seen = ~np.isnan(iou)
        mean = float(iou[seen].mean()) if seen.any() else float('nan')
        classes = self.dataset_meta['classes']
        values = {'mIoU': mean} | {
            f'{name}_IoU': float(value)
            for name, value in zip(classes, iou, strict=True)
        }
        values = {name: v for name, v in values.items() if not np.isnan(v)}
        rows = [['', 'IoU'], [f'mean ({seen.sum()} classes)', f'{mean:.2f}']]
        rows += [
            [name, f'{value:.2f}' if known else '-']
            for name, value, known in zip(classes, iou, seen, strict=True)
        ]
        table = AsciiTable(rows)
        table.justify_columns[1] = 'right'
        print_log(
            f'Intersection over union of {self.source} in percent:\n{table.table}',
            'current',
        )
        if not self.classwise:
            return {name: v for name, v in values.items() if name == 'mIoU'}
        return values
