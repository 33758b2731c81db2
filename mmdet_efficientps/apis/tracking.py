# Licensed under the Apache License, Version 2.0. See LICENSE.
"""One number, and so one color, for an object all through a video."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .panoptic_result import PanopticResult, Segment

if TYPE_CHECKING:
    from trackers import ByteTrackTracker


class SegmentTracker:
    """Recognizes the things of a panoptic result in the next one.

    The tracker is ByteTrack of the package ``trackers``, one for each class, so that
    the number of a car never goes to a person. It predicts where the box of an object
    will be and matches by overlap. All things are tracked, whatever their score or if
    they have none: the fusion has left out those that are too unsure. Stuff is one
    segment of each class and needs no number.

    Only classes and boxes are looked at, and what comes out depends on nothing
    else: over results that were stored it comes to the same numbers again.

    Example::

        tracker = SegmentTracker(reader.fps)
        for frame in reader:
            result = tracker.update(predict(frame.image))
            writer.write(result.draw(frame.image), frame.time)

    Args:
        fps (Fraction | float): Frames per second. Defaults to 30.
        max_gap (float): How long an object may be out of sight and keep its number, in
            seconds; at least one frame. Defaults to 1.
        min_overlap (float): Intersection over union that a box needs with where the
            object is expected, 0..1. Defaults to 0.1.

    Raises:
        ImportError: If the package ``trackers`` is not installed.
        ValueError: If ``fps`` or ``max_gap`` is not positive.
    """

    def __init__(
        self,
        fps: Fraction | float = 30,
        max_gap: float = 1.0,
        min_overlap: float = 0.1,
    ) -> None:
        try:
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise ImportError(
                'tracking needs the package trackers: pip install trackers'
            ) from error
        if not (fps > 0 and max_gap > 0):
            raise ValueError(
                f'fps {fps} and max_gap {max_gap} must be more than 0 (frames per '
                'second, and seconds)'
            )
        self._tracker_class = ByteTrackTracker
        self.fps = float(fps)
        self.max_gap = max_gap
        self.min_overlap = min_overlap
        self.reset()

    def reset(self) -> None:
        """Forget all objects and count from 1 again: before another video."""
        self._trackers: dict[int, ByteTrackTracker] = {}
        self._numbers: Iterator[int] = itertools.count(1)

    def update(self, result: PanopticResult) -> PanopticResult:
        """Give the things of the next frame their numbers.

        Numbers count up from 1 in a video and are not given twice. The first two
        million can be encoded in a panoptic map (``panoptic_seg(by_track=True)``).

        Args:
            result (PanopticResult): What is predicted for the next frame. A frame that
                has no result, since it is broken, is passed over.

        Returns:
            PanopticResult: The same with ``Segment.track`` for every thing.
        """
        things: dict[int, list[Segment]] = {}
        # By id: in which order a file lists them does not matter.
        for segment in sorted(result.segments, key=lambda segment: segment.id):
            if result.class_of(segment).isthing:
                things.setdefault(segment.label, []).append(segment)
        tracks: dict[int, int] = {}
        # A class that is absent goes on, too: its objects are out of sight.
        for label in sorted(self._trackers.keys() | things.keys()):
            if label not in self._trackers:
                self._trackers[label] = self._new_tracker()
            tracks |= self._update_class(self._trackers[label], things.get(label, []))
        return result.with_tracks(tracks)

    def _new_tracker(self) -> ByteTrackTracker:
        """Make the tracker of a class."""
        return self._tracker_class(
            # In thirtieths of a second, whatever the frame rate.
            lost_track_buffer=max(1, round(30 * self.max_gap)),
            frame_rate=self.fps,
            # Whatever is in a panoptic result is to be followed, and at once.
            track_activation_threshold=0.0,
            high_conf_det_threshold=0.0,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=self.min_overlap,
        )

    def _update_class(
        self, tracker: ByteTrackTracker, things: list[Segment]
    ) -> dict[int, int]:
        """Match the things of a class.

        Returns:
            dict[int, int]: Number of every segment id.
        """
        from supervision import Detections

        boxes = np.array([s.bbox for s in things], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = tracker.update(
            Detections(
                xyxy=boxes,
                confidence=np.ones(len(things)),
                data={'segment': np.array([s.id for s in things], dtype=np.int64)},
            )
        )
        if not things:
            return {}
        # An object that is new has no number until it is matched again. Here it gets
        # one of the whole video at once: it would change its color otherwise.
        born = iter([track for track in tracker.tracks if track.tracker_id == -1])
        numbers: dict[int, int] = {}
        assert found.tracker_id is not None
        for segment, number in zip(
            found.data['segment'], found.tracker_id, strict=True
        ):
            if number == -1:
                number = next(born).tracker_id = next(self._numbers)
            numbers[int(segment)] = int(number)
        return numbers
