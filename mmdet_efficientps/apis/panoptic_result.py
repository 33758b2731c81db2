# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What is predicted for an image, as a user of the package gets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET
from scipy.ndimage import find_objects

from mmdet_efficientps.structures.panoptic import (
    PanopticClass,
    PanopticClasses,
    decode_panoptic_seg,
    index_segments,
)
from mmdet_efficientps.structures.run_length_masks import segments_to_rle
from mmdet_efficientps.visualization.panoptic_drawing import draw_panoptic

if TYPE_CHECKING:
    from supervision import Detections


@dataclass(frozen=True)
class Segment:
    """A thing, or all of a stuff class, in the panoptic map.

    Attributes:
        id (int): Its number in ``PanopticResult.ids``.
        label (int): Its class, as an index into ``PanopticResult.classes``.
        area (int): Pixels.
        bbox (tuple[int, int, int, int]): Smallest box around the pixels: x and y of
            the upper left one, width, height.
        score (float | None): What the network gives the detection, 0..1. None for
            stuff, which has no such number, and for things where the fusion does not
            tell which detection they are.
        track (int | None): Number of the object in a video; None if it is not tracked.
    """

    id: int
    label: int
    area: int
    bbox: tuple[int, int, int, int]
    score: float | None = None
    track: int | None = None


@dataclass
class Instances:
    """All detections, those too that are too unsure for the panoptic map.

    Unlike segments they may overlap.

    Attributes:
        bboxes (np.ndarray): (N, 4), float32, as x1, y1, x2, y2 in pixels of the image;
            pixel i covers [i, i + 1].
        scores (np.ndarray): (N, ), float32, 0..1, descending.
        labels (np.ndarray): Thing classes, (N, ), int64.
        masks (list[dict]): N run-length masks of the size of the image, as
            pycocotools has them.
    """

    bboxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[dict[str, Any]]


@dataclass
class PanopticResult:
    """Panoptic segmentation of an image.

    Attributes:
        ids (np.ndarray): Segment of every pixel, (H, W), int32; 0 is void. The size is
            that of the image.
        segments (tuple[Segment, ...]): The segments that occur, by id.
        classes (PanopticClasses): Classes in label order, things first.
        instances (Instances | None): All detections; None if not asked for.
        semantic (np.ndarray | None): Class of every pixel by the semantic head alone,
            (H, W), int32; None if not asked for.
        name (str): Where the image is from: a path, or what the caller called it.
    """

    ids: np.ndarray
    segments: tuple[Segment, ...]
    classes: PanopticClasses
    instances: Instances | None = None
    semantic: np.ndarray | None = None
    name: str = ''

    @classmethod
    def from_panoptic_seg(
        cls,
        encoded: np.ndarray,
        classes: PanopticClasses,
        scores: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> PanopticResult:
        """Make a result of a panoptic map as mmdet encodes it.

        Example::

            Void, and the first instance of class 0.

            >>> car = PanopticClass(26, 'car', True, (0, 0, 142))
            >>> result = PanopticResult.from_panoptic_seg(
            ...     np.array([[1, 1000, 1000]]), PanopticClasses((car,)), scores=[0.75])
            >>> result.ids.tolist()
            [[0, 1001, 1001]]
            >>> segment, = result.segments
            >>> segment.area, segment.bbox, segment.score
            (2, (1, 0, 2, 1), 0.75)

        Args:
            encoded (np.ndarray): label + instance * INSTANCE_OFFSET, void = number of
                classes, (H, W), integers.
            classes (PanopticClasses): Classes in label order.
            scores (Sequence[float], optional): Score of instance k at k - 1. Defaults
                to None: not known.
            **kwargs (Any): Other attributes.

        Returns:
            PanopticResult: The result.

        Raises:
            ValueError: If a code has a label beyond the classes.
        """
        ids, entries = decode_panoptic_seg(encoded, len(classes))
        found = [entry['id'] for entry in entries]
        index = index_segments(ids, found)
        areas = np.bincount(index.ravel(), minlength=len(found) + 1)[1:]
        segments = []
        for entry, area, (rows, columns) in zip(
            entries, areas, find_objects(index, len(found)), strict=True
        ):
            instance = (entry['id'] - 1) // INSTANCE_OFFSET
            size = columns.stop - columns.start, rows.stop - rows.start
            segments.append(
                Segment(
                    entry['id'],
                    entry['category'],
                    int(area),
                    (columns.start, rows.start, *size),
                    float(scores[instance - 1]) if scores and instance else None,
                )
            )
        return cls(ids, tuple(segments), classes, **kwargs)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.ids.shape[0], self.ids.shape[1]

    def class_of(self, segment: Segment) -> PanopticClass:
        """Give the class of a segment: name, category id, color, thing or not."""
        return self.classes.classes[segment.label]

    def segment_at(self, x: int, y: int) -> Segment | None:
        """Give what is at a pixel.

        Args:
            x (int): Column, from 0.
            y (int): Row, from 0.

        Returns:
            Segment | None: None for void.

        Raises:
            IndexError: If the pixel is outside of the image.
        """
        height, width = self.shape
        if not (0 <= x < width and 0 <= y < height):
            raise IndexError(f'pixel x={x}, y={y} is outside of {width}x{height}')
        number = int(self.ids[y, x])
        return next((s for s in self.segments if s.id == number), None)

    def mask(self, segment: Segment) -> np.ndarray:
        """Give the pixels of a segment, (H, W), bool."""
        return self.ids == segment.id

    def draw(self, image: np.ndarray, alpha: float = 0.55) -> np.ndarray:
        """Lay the classes over the image and outline the things.

        A thing has a shade of the color of its class: that of its number in the image,
        or, if it is tracked, of its number in the video.

        Args:
            image (np.ndarray): The image, (H, W, 3), uint8, BGR.
            alpha (float): Opacity of the colors in 0..1. Defaults to 0.55.

        Returns:
            np.ndarray: (H, W, 3), uint8, BGR.

        Raises:
            ValueError: If the image has another size than the result.
        """
        codes = self.panoptic_seg(by_track=True)
        drawn = draw_panoptic(image[..., ::-1], codes, self.classes.palette, alpha)
        return np.ascontiguousarray(drawn[..., ::-1])

    def panoptic_seg(self, by_track: bool = False) -> np.ndarray:
        """Give the map as mmdet encodes it.

        Args:
            by_track (bool): Whether tracked things are numbered by their track.
                Defaults to False.

        Returns:
            np.ndarray: (H, W), int32: label + instance * INSTANCE_OFFSET, void = number
            of classes.
        """
        codes = np.zeros(len(self.segments) + 1, dtype=np.int32)
        codes[0] = len(self.classes)
        for number, segment in enumerate(self.segments, start=1):
            codes[number] = segment.id - 1
            if by_track and segment.track is not None:
                codes[number] = segment.label + segment.track * INSTANCE_OFFSET
        return codes[self._index()]

    def _index(self) -> np.ndarray:
        """Number the segments in their order from 1; 0 is void."""
        return index_segments(self.ids, [s.id for s in self.segments])

    def with_tracks(self, tracks: dict[int, int]) -> PanopticResult:
        """Give the same result with numbers of objects of a video.

        Args:
            tracks (dict[int, int]): Number of the track, from 1, of segment ids.

        Returns:
            PanopticResult: Shares its arrays with this one.
        """
        segments = tuple(replace(s, track=tracks.get(s.id)) for s in self.segments)
        return replace(self, segments=segments)

    def to_coco(self) -> list[dict[str, Any]]:
        """List the segments as a panoptic json does.

        Returns:
            list[dict[str, Any]]: ``segments_info``: ``id``, ``category_id``, ``area``,
            ``bbox`` (x, y, width, height), ``iscrowd`` (0), and where they are known
            ``score`` and ``track_id``. :func:`write_panoptic_png` writes ``ids``.
        """
        entries = []
        for segment in self.segments:
            entry: dict[str, Any] = {
                'id': segment.id,
                'category_id': self.class_of(segment).id,
                'area': segment.area,
                'bbox': list(segment.bbox),
                'iscrowd': 0,
            }
            if segment.score is not None:
                entry['score'] = segment.score
            if segment.track is not None:
                entry['track_id'] = segment.track
            entries.append(entry)
        return entries

    def instances_to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """List the detections as a COCO result file does.

        Args:
            image_id (int | str): Id of the image.

        Returns:
            list[dict[str, Any]]: ``image_id``, ``category_id``, ``bbox`` (x, y, width,
            height), ``score`` and ``segmentation``, a run-length mask whose ``counts``
            are text.

        Raises:
            ValueError: If the result has no instances.
        """
        if self.instances is None:
            raise ValueError(
                'this result has no instances: predict with instances=True'
            )
        found = self.instances
        entries = []
        for box, score, label, mask in zip(
            found.bboxes, found.scores, found.labels, found.masks, strict=True
        ):
            x1, y1, x2, y2 = (float(value) for value in box)
            entries.append(
                {
                    'image_id': image_id,
                    'category_id': self.classes.classes[int(label)].id,
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'score': float(score),
                    'segmentation': mask | {'counts': mask['counts'].decode()},
                }
            )
        return entries

    def as_dict(self) -> dict[str, Any]:
        """Give what json can hold: the segments with run-length masks.

        Returns:
            dict[str, Any]: ``name``, ``height``, ``width`` and ``segments``, each with
            the keys of :meth:`to_coco`, ``class``, ``isthing`` and ``segmentation``, a
            run-length mask whose ``counts`` are text. ``score`` is None where it is not
            known.
        """
        height, width = self.shape
        masks = segments_to_rle(self._index(), range(1, len(self.segments) + 1))
        segments = []
        for segment, entry, mask in zip(
            self.segments, self.to_coco(), masks, strict=True
        ):
            of_class = self.class_of(segment)
            segments.append(
                entry
                | {
                    'class': of_class.name,
                    'isthing': of_class.isthing,
                    'score': segment.score,
                    'segmentation': mask | {'counts': mask['counts'].decode()},
                }
            )
        return {
            'name': self.name,
            'height': height,
            'width': width,
            'segments': segments,
        }

    def to_supervision(self) -> Detections:
        """Give the segments as ``supervision.Detections``.

        Things and stuff are both detections, with masks (bool) and boxes.

        Returns:
            supervision.Detections: ``class_id`` are labels; ``data`` has ``class_name``
            and ``isthing``. ``confidence`` is NaN where there is no score, and None if
            no segment has one; ``tracker_id`` is -1 where there is no track, and None
            if none has one.

        Raises:
            ImportError: If the package ``supervision`` is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise ImportError(
                'to_supervision() needs the package supervision: '
                'pip install supervision'
            ) from error
        if not self.segments:
            return Detections.empty()
        scores = [s.score for s in self.segments]
        tracks = [s.track for s in self.segments]
        boxes = np.array([s.bbox for s in self.segments], dtype=np.float32)
        boxes[:, 2:] += boxes[:, :2]
        return Detections(
            xyxy=boxes,
            mask=np.stack([self.mask(s) for s in self.segments]),
            confidence=(
                None
                if all(s is None for s in scores)
                else np.array([np.nan if s is None else s for s in scores])
            ),
            class_id=np.array([s.label for s in self.segments]),
            tracker_id=(
                None
                if all(t is None for t in tracks)
                else np.array([-1 if t is None else t for t in tracks])
            ),
            data={
                'class_name': np.array([self.class_of(s).name for s in self.segments]),
                'isthing': np.array([self.class_of(s).isthing for s in self.segments]),
            },
        )
