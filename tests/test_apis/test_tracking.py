# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from mmdet_efficientps.apis import PanopticResult
from mmdet_efficientps.apis.tracking import SegmentTracker
from mmdet_efficientps.structures.panoptic import PanopticClass, PanopticClasses

if importlib.util.find_spec('trackers') is None:
    pytest.skip('needs trackers: pip install trackers', allow_module_level=True)

CLASSES = PanopticClasses(
    (
        PanopticClass(26, 'car', True, (0, 0, 142)),
        PanopticClass(24, 'person', True, (220, 20, 60)),
        PanopticClass(7, 'road', False, (128, 64, 128)),
    )
)
CAR, PERSON, ROAD = range(3)
HEIGHT, WIDTH = 60, 120


def scene(*objects, scores=True):
    """Objects (label, x, y), 16 x 12, on a road; instances are counted as they come.

    The first is in front.
    """
    encoded = np.full((HEIGHT, WIDTH), ROAD)
    for number, (label, x, y) in reversed([*enumerate(objects, start=1)]):
        encoded[y : y + 12, max(x, 0) : x + 16] = label + 1000 * number
    return PanopticResult.from_panoptic_seg(
        encoded, CLASSES, [0.9] * len(objects) if scores else None
    )


def track_at(result, x, y):
    return result.segment_at(x + 8, y + 6).track


def follow(tracker, frames):
    """Tracks of the objects of every frame, in their order."""
    found = []
    for objects in frames:
        result = tracker.update(scene(*objects))
        found.append([track_at(result, x, y) for _, x, y in objects])
    return found


def moving(label, x, y, speed, count):
    return [(label, x + round(speed * k), y) for k in range(count)]


def test_objects_keep_their_numbers_from_the_first_frame_on():
    right, left = moving(CAR, 5, 5, 2, 20), moving(CAR, 90, 40, -3, 20)
    # The fusion counts anew in every frame: the order says nothing.
    frames = [
        pair[:: (-1) ** k] for k, pair in enumerate(zip(right, left, strict=True))
    ]
    found = follow(SegmentTracker(), frames)
    assert [pair[:: (-1) ** k] for k, pair in enumerate(found)] == [[1, 2]] * 20


def test_objects_that_cross_keep_their_numbers():
    # They overlap by a third of their height in the middle.
    right, left = moving(CAR, 0, 20, 3, 30), moving(CAR, 90, 28, -3, 30)
    found = follow(SegmentTracker(), zip(right, left, strict=True))
    assert found == [[1, 2]] * 30


def test_a_number_stays_with_its_class():
    car, person = moving(CAR, 20, 20, 1, 6), moving(PERSON, 26, 20, 1, 6)
    frames = [[c] for c in car[:3]] + [[p] for p in person[3:]] + [[car[5]]]
    assert follow(SegmentTracker(), frames) == [[1]] * 3 + [[2]] * 3 + [[1]]


@pytest.mark.parametrize('fps', [10, 30, 59.94])
def test_an_object_that_vanishes_for_two_frames_is_recognized(fps):
    car, other = moving(CAR, 5, 5, 2, 20), moving(CAR, 5, 40, 1, 20)
    frames = [[other[k]] if k in (8, 9) else [car[k], other[k]] for k in range(20)]
    found = follow(SegmentTracker(fps), frames)
    assert found == [[2] if k in (8, 9) else [1, 2] for k in range(20)]


def test_an_object_of_a_class_that_vanishes_is_recognized():
    car = moving(CAR, 5, 5, 2, 12)
    frames = [[] if k in (5, 6) else [car[k]] for k in range(12)]
    found = follow(SegmentTracker(), frames)
    assert [numbers for numbers in found if numbers] == [[1]] * 10


def test_an_object_is_another_after_the_gap():
    there = [(CAR, 20, 20)]
    for absent, number in ((5, 1), (6, 2)):
        tracker = SegmentTracker(fps=10, max_gap=0.5)
        found = follow(tracker, [there] * 3 + [[]] * absent + [there])
        assert found[-1] == [number]


def test_a_new_object_has_a_new_number():
    frames = [[(CAR, 5, 5)], [(CAR, 5, 5), (PERSON, 60, 5)], [(CAR, 60, 40)]]
    assert follow(SegmentTracker(), frames) == [[1], [1, 2], [3]]


def test_what_has_no_score_is_tracked_and_stuff_is_not():
    tracker = SegmentTracker()
    for _ in range(3):
        result = tracker.update(scene((CAR, 5, 5), scores=False))
        tracks = {segment.label: segment.track for segment in result.segments}
        assert tracks == {CAR: 1, ROAD: None}
        assert all(segment.score is None for segment in result.segments)


def test_only_the_tracks_are_new():
    before = scene((CAR, 5, 5), (PERSON, 60, 30))
    after = SegmentTracker().update(before)
    assert after.ids is before.ids
    assert [replace(s, track=None) for s in after.segments] == list(before.segments)


def test_another_video_counts_from_one():
    tracker = SegmentTracker()
    follow(tracker, [[(CAR, 5, 5), (CAR, 60, 5)]] * 3)
    tracker.reset()
    assert follow(tracker, [[(CAR, 60, 5)]]) == [[1]]


def test_colors_do_not_flicker():
    car, person = moving(CAR, 5, 8, 2, 25), moving(CAR, 90, 36, -2, 25)
    image = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    tracker = SegmentTracker()
    colors = []
    for k, pair in enumerate(zip(car, person, strict=True)):
        objects = [o for o in pair[:: (-1) ** k] if not (o in car and k in (10, 11))]
        result = tracker.update(scene(*objects))
        drawn = result.draw(image)
        for _, x, y in objects:
            colors.append((y, *drawn[y + 6, x + 8].tolist()))
    # Two objects, told by their row, each of one color.
    assert len(set(colors)) == 2
    assert len({color[1:] for color in colors}) == 2


def test_stored_results_give_the_same_numbers_again():
    rng = np.random.default_rng(0)
    places = rng.integers(0, 45, (8, 2))
    speeds = rng.integers(-2, 3, (8, 2))
    labels = rng.integers(0, 2, 8)
    results = []
    for k in range(30):
        spots = (places + k * speeds).clip(0, 45)
        order = rng.permutation(8)[: rng.integers(4, 9)]
        results.append(scene(*((int(labels[i]), *map(int, spots[i])) for i in order)))
    tracker = SegmentTracker()
    whole = [tracker.update(result) for result in results]
    assert len({s.track for r in whole for s in r.segments if s.track}) > 8
    # Killed after frame 14: what a file keeps of these is gone through first.
    again = SegmentTracker()
    for result, tracked in zip(results[:15], whole, strict=False):
        stored = json.loads(json.dumps(tracked.to_coco()))
        boxes = {entry['id']: tuple(entry['bbox']) for entry in stored}
        segments = [
            replace(s, bbox=boxes[s.id], score=None) for s in reversed(result.segments)
        ]
        again.update(replace(result, segments=tuple(segments)))
    for result, tracked in zip(results[15:], whole[15:], strict=True):
        assert again.update(result).to_coco() == tracked.to_coco()


def test_numbers_are_told_what_is_wrong():
    with pytest.raises(ValueError, match='must be more than 0'):
        SegmentTracker(fps=0)
    with pytest.raises(ValueError, match='must be more than 0'):
        SegmentTracker(max_gap=-1)


def test_the_package_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, 'trackers', None)
    with pytest.raises(ImportError, match='pip install trackers'):
        SegmentTracker()
