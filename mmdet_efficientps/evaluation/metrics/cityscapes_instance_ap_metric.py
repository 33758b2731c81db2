# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Instance AP by the definition of Cityscapes for the MMEngine evaluator."""

from pathlib import Path

import mmcv
import numpy as np
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from mmdet.registry import METRICS
from mmengine.fileio import get

from mmdet_efficientps.evaluation.functional.cityscapes_ap import (
    InstanceOverlaps,
    average_precision,
    instance_overlaps,
)
from mmdet_efficientps.structures.run_length_masks import segments_to_rle

from .instance_metric import DetectedInstances, InstanceMetric, TrueInstances

_IGNORED_IDS = [label.id for label in cityscapes_labels if label.ignoreInEval]


@METRICS.register_module()
class CityscapesInstanceAPMetric(InstanceMetric):
    """AP and AP50 of instances by the definition of Cityscapes, in percent.

    Equal to ``evalInstanceLevelSemanticLabeling`` of cityscapesscripts: average over
    overlaps of 0.5 to 0.95 and over classes; true objects below 100 pixels, crowds and
    void are ignored regions. Works for every :class:`PanopticDataset`.

    The keys are AP, AP50 and, with ``classwise``, ``<class>_AP`` and ``<class>_AP50``.
    Classes without an object in the data set are left out.

    Args:
        void_from_instance_ids (bool | None): Single caravans and trailers are void in
            the panoptic PNGs of Cityscapes. The official script reads instanceIds
            PNGs, where they have ids of their own that it does not take for void.
            True reads void from those PNGs and gives the official numbers; False
            takes void from the panoptic PNG; None is True where panoptic PNGs are
            named as in Cityscapes, else False. Defaults to None.
        **kwargs: Arguments of :class:`InstanceMetric`.
    """

    default_prefix = 'instance'
    title = 'AP of instances by the definition of Cityscapes'

    def __init__(self, void_from_instance_ids: bool | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.void_from_instance_ids = void_from_instance_ids

    def match(
        self, sample: dict, truth: TrueInstances, detected: DetectedInstances
    ) -> InstanceOverlaps:
        """Count what detections and true objects have in common.

        Args:
            sample (dict): The data sample.
            truth (TrueInstances): True instances.
            detected (DetectedInstances): Detections.

        Returns:
            InstanceOverlaps: The counts.

        Raises:
            FileNotFoundError: If the instanceIds PNG is needed and missing.
        """
        official = self.void_from_instance_ids
        if official is None:
            official = sample['seg_map_path'].endswith('_gtFine_panoptic.png')
        return instance_overlaps(
            truth.rles,
            truth.labels,
            truth.is_crowd,
            self._official_void(sample) if official else truth.void_rle,
            detected.rles,
            detected.labels,
            detected.scores,
        )

    def summarize(
        self, images: list[InstanceOverlaps]
    ) -> tuple[dict, dict[str, np.ndarray]]:
        """Compute AP over all images.

        Args:
            images (list[InstanceOverlaps]): Counts of each image.

        Returns:
            tuple[dict, dict[str, np.ndarray]]: Over all classes and of each.
        """
        num_classes = len(self.dataset_meta['thing_classes'])
        precision = average_precision(images, num_classes)
        per_class = {'AP': precision.mean(axis=1), 'AP50': precision[:, 0]}
        seen = ~np.isnan(per_class['AP'])
        values = {
            name: float(numbers[seen].mean()) if seen.any() else float('nan')
            for name, numbers in per_class.items()
        }
        return values, per_class

    def _official_void(self, sample: dict) -> dict:
        """Encode what is void in the instanceIds PNG of an image."""
        path = instance_ids_path(sample['seg_map_path'])
        try:
            content = get(path, backend_args=self.backend_args)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{path} does not exist. Put the instanceIds PNGs of Cityscapes there, '
                'or set void_from_instance_ids=False in CityscapesInstanceAPMetric: '
                'void is then taken from the panoptic PNG, and AP may differ a little '
                'from the official one'
            ) from error
        ids = mmcv.imfrombytes(content, flag='unchanged')
        (void_rle,) = segments_to_rle(np.isin(ids, _IGNORED_IDS), [True])
        return void_rle


def instance_ids_path(seg_map_path: str) -> str:
    """Name the instanceIds PNG that a panoptic PNG was made from.

    Args:
        seg_map_path (str):
            ``.../gtFine/cityscapes_panoptic_<split>/<image>_gtFine_panoptic.png``.

    Returns:
        str: ``.../gtFine/<split>/<city>/<image>_gtFine_instanceIds.png``.
    """
    path = Path(seg_map_path)
    split = path.parent.name.removeprefix('cityscapes_panoptic_')
    city = path.name.split('_')[0]
    name = path.name.replace('_panoptic.png', '_instanceIds.png')
    return str(path.parents[1] / split / city / name)
