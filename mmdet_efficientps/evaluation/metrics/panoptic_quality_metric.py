# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic quality for the MMEngine evaluator."""

from collections.abc import Sequence

import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from terminaltables import AsciiTable

from mmdet_efficientps.datasets.transforms.loading import load_panoptic_png
from mmdet_efficientps.evaluation.functional.panoptic_quality import (
    PanopticQualityStat,
    class_quality,
    panoptic_quality_stats,
    summarize,
)

# Suffix of the keys of each group, as mmdet's CocoPanopticMetric names them.
GROUP_SUFFIX = {'All': '', 'Things': '_th', 'Stuff': '_st'}


@METRICS.register_module()
class PanopticQualityMetric(BaseMetric):
    """PQ, SQ and RQ for all classes, things, stuff and each class, in percent.

    Everything is computed in memory: the ground truth PNG is read, the prediction is
    compared with it and left unchanged, and only a few counts per image are kept.
    Equal to ``evalPanopticSemanticLabeling`` of cityscapesscripts. Data sets are
    :class:`PanopticDataset` and what derives from it.

    The keys are PQ, SQ, RQ, PQ_th, SQ_th, RQ_th, PQ_st, SQ_st, RQ_st and, with
    ``classwise``, ``<class>_PQ`` and so on. Classes and groups of which the set shows
    nothing and the model predicts nothing are left out.

    Args:
        classwise (bool): Whether to return the values of each class too; they are
            in the printed table in any case. Defaults to True.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.
        **kwargs: Arguments of MMEngine's ``BaseMetric``.
    """

    default_prefix = 'panoptic'

    def __init__(
        self,
        classwise: bool = True,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.classwise = classwise
        self.backend_args = backend_args

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the matches of a batch.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): Each with ``seg_map_path``,
                ``segments_info`` and ``pred_panoptic_seg``, whose ``sem_seg`` is an
                integer tensor (1, H, W) on any device: label + instance *
                INSTANCE_OFFSET, void = number of classes.

        Raises:
            KeyError: If the data sample lacks one of these.
            ValueError: If prediction and ground truth differ in size, or do not
                fit the classes or the annotation file.
        """
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            for key in ('seg_map_path', 'segments_info'):
                if sample.get(key) is None:
                    raise KeyError(
                        f'the data sample of {sample.get("img_path")} has no {key!r}: '
                        'add it to meta_keys of PackDetInputs, and evaluate only '
                        'images with annotations'
                    )
            path = sample['seg_map_path']
            gt_ids = load_panoptic_png(path, backend_args=self.backend_args)
            encoded = sample['pred_panoptic_seg']['sem_seg'][0].cpu().numpy()
            try:
                pred_ids, pred_segments = decode_panoptic_seg(encoded, num_classes)
                stat = panoptic_quality_stats(
                    gt_ids,
                    sample['segments_info'],
                    pred_ids,
                    pred_segments,
                    num_classes,
                )
            except ValueError as error:
                raise ValueError(f'cannot evaluate against {path}: {error}') from error
            self.results.append(stat)

    def compute_metrics(self, results: list[PanopticQualityStat]) -> dict[str, float]:
        """Compute the values over all images and print them as a table.

        Args:
            results (list[PanopticQualityStat]): Counts of each image.

        Returns:
            dict[str, float]: Values in percent, see the class.
        """
        meta = self.dataset_meta
        labels = {name: label for label, name in enumerate(meta['classes'])}
        groups = {
            'All': list(labels.values()),
            'Things': [labels[name] for name in meta['thing_classes']],
            'Stuff': [labels[name] for name in meta['stuff_classes']],
        }
        stat = sum(results, start=PanopticQualityStat.zeros(len(labels)))
        summary = summarize(stat, groups)
        per_class = class_quality(stat)
        print_log(_table(stat, summary, per_class, groups, meta['classes']), 'current')

        metrics = {
            f'{name.upper()}{suffix}': summary[group][name]
            for group, suffix in GROUP_SUFFIX.items()
            for name in per_class
        }
        if self.classwise:
            for class_name, label in labels.items():
                for name, values in per_class.items():
                    metrics[f'{class_name}_{name.upper()}'] = float(values[label])
        return {
            key: 100 * value for key, value in metrics.items() if not np.isnan(value)
        }


def decode_panoptic_seg(
    encoded: np.ndarray, num_classes: int
) -> tuple[np.ndarray, list[dict]]:
    """Turn mmdet's encoding of a panoptic prediction into segments.

    Args:
        encoded (np.ndarray): label + instance * INSTANCE_OFFSET, void = number of
            classes, shape (H, W), integers.
        num_classes (int): Number of classes.

    Returns:
        tuple[np.ndarray, list[dict]]: Segment ids, shape (H, W), 0 = void, and the
        ``id`` and ``category`` of every segment. The input stays as it is.

    Raises:
        ValueError: If a label is larger than ``num_classes``.
    """
    # One more than the code, because 0 is a valid code but the id of void.
    pred_ids = encoded.astype(np.int32) + 1
    present = np.flatnonzero(np.bincount(pred_ids.ravel())) - 1
    labels = present % INSTANCE_OFFSET
    if (labels > num_classes).any():
        raise ValueError(
            f'the prediction has labels {np.unique(labels[labels > num_classes])}, but '
            f'there are {num_classes} classes'
        )
    for code in present[labels == num_classes]:
        pred_ids[encoded == code] = 0
    segments = [
        {'id': int(code) + 1, 'category': int(label)}
        for code, label in zip(present, labels, strict=True)
        if label != num_classes
    ]
    return pred_ids, segments


def _table(
    stat: PanopticQualityStat,
    summary: dict[str, dict[str, float]],
    per_class: dict[str, np.ndarray],
    groups: dict[str, list[int]],
    class_names: Sequence[str],
) -> str:
    """Lay out the results.

    Args:
        stat (PanopticQualityStat): Counts over all images.
        summary (dict[str, dict[str, float]]): Values of the groups, 0..1.
        per_class (dict[str, np.ndarray]): Values of the classes, 0..1.
        groups (dict[str, list[int]]): Labels of the classes of each group.
        class_names (Sequence[str]): Names of the classes.

    Returns:
        str: A table with values in percent; ``-`` where there is nothing to measure.
    """

    def row(name: str, quality: dict[str, float], labels: list[int] | int) -> list:
        values = [
            '-' if np.isnan(quality[key]) else f'{100 * quality[key]:.2f}'
            for key in per_class
        ]
        counts = [int(c[labels].sum()) for c in (stat.tp, stat.fp, stat.fn)]
        return [name, *values, *counts]

    rows = [['', 'PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN']]
    for group, labels in groups.items():
        name = f'{group} ({summary[group]["n"]} classes)'
        rows.append(row(name, summary[group], labels))
    for label, name in enumerate(class_names):
        quality = {key: values[label] for key, values in per_class.items()}
        rows.append(row(name, quality, label))
    table = AsciiTable(rows)
    table.justify_columns = dict.fromkeys(range(1, 7), 'right')
    return 'Panoptic quality in percent, and counts of segments:\n' + table.table
