# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What a person would have to do to make right labels of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.utils import track_progress_rich
from terminaltables import AsciiTable

from mmdet_efficientps.utils import ProblemList

from .functional.panoptic_quality import (
    PanopticQualityStat,
    SegmentMatches,
    count_matches,
    match_segments,
)
from .functional.quality_report import class_groups
from .functional.segment_overlaps import segment_overlaps
from .panoptic_files import (
    GROUND_TRUTH,
    PREDICTION,
    PanopticFiles,
    pair_annotations,
    read_image,
    take_categories,
)

# What a segment needs, in the order of the tables.
ACTIONS = ('right', 'reshape', 'rename', 'draw', 'remove')


@dataclass
class LabellingEffort:
    """What the segments of some images need.

    Attributes:
        stat (PanopticQualityStat): Counts for PQ.
        counts (np.ndarray): Segments of each class, shape (C, 5), int, as
            :data:`ACTIONS`: right as predicted; found, but not exact enough; of another
            class, which counts for the true one; not found; and predicted where there
            is no such segment.
        classes (list[str]): Names of the classes.
        groups (dict[str, list[int]]): Labels of all classes, things and stuff.
        num_images (int): Number of images.
    """

    stat: PanopticQualityStat
    counts: np.ndarray
    classes: list[str]
    groups: dict[str, list[int]]
    num_images: int = 0

    @property
    def num_segments(self) -> int:
        """Segments that have to be drawn where there are no predictions."""
        return int(self.counts[:, :4].sum())

    @property
    def num_touched(self) -> int:
        """Segments that have to be touched: all but those that are right."""
        return int(self.counts[:, 1:].sum())

    def table(self) -> str:
        """Give the counts as text.

        Returns:
            str: A table with a line for each class that occurs.
        """
        rows = [['class', 'segments', *ACTIONS, 'to touch']]
        total = self.counts.sum(axis=0)
        for name, counts in (
            ('all', total),
            *zip(self.classes, self.counts, strict=True),
        ):
            if counts.any():
                numbers = counts[:4].sum(), *counts, counts[1:].sum()
                rows.append([name, *map(str, numbers)])
        table = AsciiTable(rows)
        table.justify_columns = dict.fromkeys(range(1, len(rows[0])), 'right')
        return table.table


def segment_actions(
    areas: np.ndarray,
    matches: SegmentMatches,
    gt_segments: list[dict],
    pred_segments: list[dict],
    num_classes: int,
    good_iou: float,
) -> np.ndarray:
    """Say what the segments of an image need.

    Example:
        One of two segments is found exactly, the other one has the wrong class.

        >>> areas = np.array([[0, 0, 0], [0, 4, 0], [0, 0, 4]])
        >>> truth = [{'category': k, 'iscrowd': 0} for k in (0, 1)]
        >>> found = [{'category': 0}, {'category': 0}]
        >>> matches = match_segments(areas, truth, found)
        >>> segment_actions(areas, matches, truth, found, 2, good_iou=0.9).tolist()
        [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]

    Args:
        areas (np.ndarray): Pixels of each pair of segments, of
            :func:`~.segment_overlaps`.
        matches (SegmentMatches): Their matches.
        gt_segments (list[dict]): ``category`` (label) of the true segments.
        pred_segments (list[dict]): ``category`` of the predicted segments.
        num_classes (int): Number of classes.
        good_iou (float): From this IoU on an outline is left as it is.

    Returns:
        np.ndarray: Counts, shape (num_classes, 5), int64, see :class:`LabellingEffort`.
    """
    counts = np.zeros((num_classes, len(ACTIONS)), dtype=np.int64)
    for gt, iou in zip(matches.gt.tolist(), matches.iou.tolist(), strict=True):
        counts[gt_segments[gt]['category'], int(iou < good_iou)] += 1
    missed = np.flatnonzero(matches.missed)
    false = np.flatnonzero(matches.false)
    shared = areas[1:, 1:][np.ix_(missed, false)]
    union = areas.sum(axis=1)[missed + 1][:, None] - shared
    union = union + areas[1:].sum(axis=0)[false + 1]
    # Above one half a segment has at most one partner, as in PQ.
    rows, columns = np.nonzero(2 * shared > union)
    for row, gt in enumerate(missed.tolist()):
        counts[gt_segments[gt]['category'], 2 if row in rows else 3] += 1
    for column, pred in enumerate(false.tolist()):
        if column not in columns:
            counts[pred_segments[pred]['category'], 4] += 1
    return counts


def measure_labelling_effort(
    gt_json: str | Path,
    pred_json: str | Path,
    good_iou: float = 0.9,
    nproc: int = 1,
) -> LabellingEffort:
    """Measure what a person would have to correct, from right labels.

    Args:
        gt_json (str | Path): Panoptic json of the right labels, its PNGs beside it.
        pred_json (str | Path): Panoptic json of the predictions of the same images.
        good_iou (float): From this IoU on an outline is left as it is. Defaults to
            0.9.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        LabellingEffort: The counts.

    Raises:
        ValueError: If ``good_iou`` is not in [0.5, 1], or something is wrong with the
            files; the text lists all problems.
    """
    if not 0.5 <= good_iou <= 1:
        raise ValueError(f'the IoU of a good outline must be 0.5..1, got {good_iou}')
    problems = ProblemList(shown=None)
    gt = PanopticFiles.load(GROUND_TRUTH, gt_json, None, problems)
    pred = PanopticFiles.load(PREDICTION, pred_json, None, problems)
    pairs = pair_annotations(gt, pred, problems)
    if problems:
        raise ValueError(problems.summary())
    take_categories(gt, pred)
    classes = gt.content.classes
    measure = partial(
        _measure_image,
        folders=(gt.folder, pred.folder),
        label_of=classes.label_of,
        good_iou=good_iou,
    )
    effort = LabellingEffort(
        PanopticQualityStat.zeros(len(classes)),
        np.zeros((len(classes), len(ACTIONS)), dtype=np.int64),
        list(classes.names),
        class_groups(classes.names, classes.things, classes.stuff),
        len(pairs),
    )
    for found, stat, counts in track_progress_rich(
        measure, pairs, nproc=nproc, description=f'comparing {len(pairs)} images'
    ):
        problems.extend(found)
        if stat is not None:
            effort.stat += stat
            effort.counts += counts
    if problems:
        raise ValueError(problems.summary())
    return effort


def _measure_image(
    gt_annotation: dict,
    pred_annotation: dict,
    folders: tuple[Path, Path],
    label_of: dict[int, int],
    good_iou: float,
) -> tuple[ProblemList, PanopticQualityStat | None, np.ndarray | None]:
    """Compare the files of one image."""
    problems = ProblemList()
    image = read_image(gt_annotation, pred_annotation, folders, label_of, problems)
    if image is None:
        return problems, None, None
    gt_ids, gt_segments, pred_ids, pred_segments = image
    areas = segment_overlaps(
        gt_ids,
        [s['id'] for s in gt_segments],
        pred_ids,
        [s['id'] for s in pred_segments],
    )
    matches = match_segments(areas, gt_segments, pred_segments)
    tables = gt_segments, pred_segments
    stat = count_matches(matches, *tables, len(label_of))
    actions = segment_actions(areas, matches, *tables, len(label_of), good_iou)
    return problems, stat, actions
