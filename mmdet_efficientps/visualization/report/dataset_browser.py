# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What comes out of a training pipeline, as a page and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET

from ..panoptic_drawing import draw_comparison, panoptic_overlay
from .page import write_page
from .pictures import shrink, to_webp

VIEWS = {'image': 'Image', 'instances': 'Instances', 'semantic': 'Semantic map'}


@dataclass
class TrainingSample:
    """One image and its targets as the network gets them.

    Attributes:
        name (str): Name of the image.
        image (np.ndarray): Shape (H, W, 3), uint8, RGB.
        instances (np.ndarray): Class + instance * INSTANCE_OFFSET, void = number of
            classes, shape (H, W), int64. Ignored instances (crowds) have the class
            alone.
        semantic (np.ndarray): Class, void = number of classes, shape (H, W), int64.
        labels (np.ndarray): Class of every instance, shape (N, ), int.
        num_ignored (int): Number of ignored instances.
        num_dropped (int): Number of instances that are visible but were dropped.
        notes (list[str]): What was done to the image.
    """

    name: str
    image: np.ndarray
    instances: np.ndarray
    semantic: np.ndarray
    labels: np.ndarray
    num_ignored: int
    num_dropped: int
    notes: list[str]

    @classmethod
    def from_packed(
        cls, packed: dict, num_classes: int, name: str | None = None
    ) -> TrainingSample:
        """Read what a pipeline packed.

        Args:
            packed (dict): ``inputs``, uint8 tensor (3, H, W), BGR, and
                ``data_samples``, a ``DetDataSample`` with ``gt_instances``,
                ``ignored_instances`` and ``gt_sem_seg``. Masks are what mmdet's
                ``BitmapMasks`` is or is derived from it.
            num_classes (int): Number of classes.
            name (str | None): Name of the image. Defaults to None, that of its file.

        Returns:
            TrainingSample: The same as arrays.

        Raises:
            ValueError: If it has no instances or no semantic map: the pipeline is one
                for testing.
        """
        sample = packed['data_samples']
        for key in ('gt_instances', 'gt_sem_seg'):
            if key not in sample or not len(sample.get(key).keys()):
                raise ValueError(
                    f'{sample.img_path} came out of the pipeline without {key}: is it '
                    'a pipeline for training, with ground truth?'
                )
        semantic = sample.gt_sem_seg.sem_seg[0].numpy().astype(np.int64)
        semantic[semantic >= num_classes] = num_classes
        instances = np.full(semantic.shape, num_classes, dtype=np.int64)
        crowds = sample.ignored_instances
        for label, mask in zip(crowds.labels.tolist(), crowds.masks, strict=True):
            instances[mask.astype(bool)] = label
        things = sample.gt_instances
        for number, (label, mask) in enumerate(
            zip(things.labels.tolist(), things.masks, strict=True), start=1
        ):
            instances[mask.astype(bool)] = label + number * INSTANCE_OFFSET
        return cls(
            name=name or Path(sample.img_path).name,
            image=packed['inputs'].numpy()[::-1].transpose(1, 2, 0),
            instances=instances,
            semantic=semantic,
            labels=things.labels.numpy(),
            num_ignored=len(crowds),
            num_dropped=sample.get('num_dropped_instances', 0),
            notes=_notes(sample.metainfo),
        )

    def areas(self, num_classes: int) -> np.ndarray:
        """Measure the classes.

        Args:
            num_classes (int): Number of classes C.

        Returns:
            np.ndarray: Share of the pixels of every class and, last, of void, shape
            (C + 1, ), float.
        """
        counts = np.bincount(self.semantic.ravel(), minlength=num_classes + 1)
        return counts / self.semantic.size

    def pictures(
        self, palette: Sequence[Sequence[int]], width: int
    ) -> dict[str, bytes]:
        """Make the pictures for the page.

        Args:
            palette (Sequence[Sequence[int]]): RGB color of every class.
            width (int): Width in pixels at most.

        Returns:
            dict[str, bytes]: WebP file of every view.
        """
        maps = {'instances': self.instances, 'semantic': self.semantic}
        overlays = {
            key: to_webp(panoptic_overlay(shrink(array, width), palette))
            for key, array in maps.items()
        }
        return {'image': to_webp(shrink(self.image, width)), **overlays}

    def record(self, num_classes: int) -> dict:
        """Give what the gallery shows.

        Args:
            num_classes (int): Number of classes.

        Returns:
            dict: Entry of ``records``, see :func:`write_page`.
        """
        areas = self.areas(num_classes)
        counts = np.bincount(self.labels, minlength=num_classes)
        height, width = self.semantic.shape
        seen = np.flatnonzero((areas[:-1] > 0) | (counts > 0))
        return {
            'name': self.name,
            'size': (width, height),
            'notes': self.notes,
            'values': {
                'instances': len(self.labels),
                'dropped': self.num_dropped,
                'ignored': self.num_ignored,
                'void': round(float(areas[-1]), 6),
            },
            'classes': {
                int(label): {
                    'instances': int(counts[label]),
                    'area': round(float(areas[label]), 6),
                }
                for label in seen
            },
            'errors': {},
        }


def _notes(meta: dict) -> list[str]:
    """Say what the pipeline did to an image, as far as its meta information tells."""
    notes = []
    if meta.get('scale_factor') is not None:
        scale = ' x '.join(f'{factor:.2f}' for factor in meta['scale_factor'])
        notes.append(f'scaled by {scale} (width x height)')
    if meta.get('flip'):
        notes.append(f'flipped ({meta.get("flip_direction")})')
    return notes


def write_browser(
    path: str | Path,
    records: Sequence[dict],
    pictures: Sequence[dict[str, bytes]],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    title: str,
    subtitle: str = '',
) -> None:
    """Write the page.

    Args:
        path (str | Path): HTML file.
        records (Sequence[dict]): :meth:`TrainingSample.record` of every image.
        pictures (Sequence[dict[str, bytes]]): :meth:`TrainingSample.pictures`.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[Sequence[int]]): RGB color of every class.
        title (str): Heading.
        subtitle (str): A line below it. Defaults to ''.
    """
    values = [record['values'] for record in records]
    data = {
        'title': title,
        'subtitle': subtitle,
        'totals': [
            {'name': 'Instances', 'value': str(sum(v['instances'] for v in values))},
            {
                'name': 'Instances dropped: too small after the crop',
                'value': str(sum(v['dropped'] for v in values)),
            },
            {
                'name': 'Void',
                'value': f'{100 * np.mean([v["void"] for v in values]):.1f} %',
            },
        ],
        'classes': [
            {'name': name, 'color': list(map(int, color))}
            for name, color in zip(classes, palette, strict=True)
        ],
        'records': records,
        'gallery': {
            'views': [{'key': key, 'label': label} for key, label in VIEWS.items()],
            'order': 'name:1',
            'values': [
                {'key': 'instances', 'label': 'Instances'},
                {'key': 'dropped', 'label': 'Dropped'},
                {'key': 'ignored', 'label': 'Crowds ignored'},
                {'key': 'void', 'label': 'Void', 'share': True},
                {'key': 'area', 'label': 'Area of the class', 'share': True},
            ],
            'filters': [
                {'key': 'dropped', 'label': 'Images with dropped instances'},
                {'key': 'ignored', 'label': 'Images with ignored crowds'},
                {'key': 'void', 'label': 'Images with void'},
                {'key': 'instances', 'label': 'Images with instances'},
            ],
            'legend': [],
        },
    }
    write_page(path, 'dataset_browser.js', data, pictures)


def draw_sample(
    sample: TrainingSample, classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> np.ndarray:
    """Draw a sample and its targets side by side, with a line of notes above.

    Args:
        sample (TrainingSample): The sample.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[Sequence[int]]): RGB color of every class.

    Returns:
        np.ndarray: RGB picture, uint8.
    """
    panels = {'instances': sample.instances, 'semantic map': sample.semantic}
    picture = draw_comparison(sample.image, panels, classes, palette)
    void = 100 * sample.areas(len(classes))[-1]
    text = ', '.join(
        [
            sample.name,
            f'{len(sample.labels)} instances',
            f'{sample.num_dropped} dropped',
            f'{sample.num_ignored} crowds ignored',
            f'{void:.1f} % void',
            *sample.notes,
        ]
    )
    line = np.full((30, picture.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(
        line, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
    )
    return np.concatenate([line, picture])


def stack_pictures(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put pictures on top of each other, narrow ones filled up with white.

    Args:
        pictures (Sequence[np.ndarray]): RGB pictures, uint8.

    Returns:
        np.ndarray: RGB picture, uint8.
    """
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate(
        [
            np.pad(
                picture,
                ((0, 0), (0, width - picture.shape[1]), (0, 0)),
                constant_values=255,
            )
            for picture in pictures
        ]
    )
