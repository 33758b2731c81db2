# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic predictions in files: written by a test run, scored without a model.

The format is COCO's, for ground truth and predictions alike: a json with one entry
per image in ``annotations`` (``image_id``, ``file_name`` and ``segments_info`` with
``id`` and ``category_id``) and a folder of PNGs with the segment ids, by default
beside the json and of its name. Only the ground truth needs ``categories``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.utils import track_progress_rich

from mmdet_efficientps.structures.panoptic import (
    VOID_ID,
    index_segments,
    read_panoptic_png,
    write_panoptic_png,
)
from mmdet_efficientps.utils import ProblemList, atomic_path

from .functional.panoptic_quality import PanopticQualityStat, panoptic_quality_stats
from .functional.quality_report import class_groups
from .functional.segment_overlaps import constant_runs

# What is needed of an annotation and of each of its segments, and its type.
_ANNOTATION_TYPES = {'image_id': int | str, 'file_name': str, 'segments_info': list}
_SEGMENT_TYPES = {'id': int | float, 'category_id': int | float}


@dataclass
class PanopticFiles:
    """A json of panoptic annotations and its folder of PNGs.

    Attributes:
        name (str): What it is, for messages: 'ground truth' or 'prediction'.
        json_file (Path): The json.
        folder (Path): The folder.
        categories (list[dict]): Categories of the json; empty if it has none.
        annotations (dict[int | str, dict]): Annotations by image id.
    """

    name: str
    json_file: Path
    folder: Path
    categories: list[dict]
    annotations: dict[int | str, dict]

    @classmethod
    def load(
        cls,
        name: str,
        json_file: str | Path,
        folder: str | Path | None,
        problems: ProblemList,
    ) -> 'PanopticFiles':
        """Read a json and note what is wrong with it.

        Args:
            name (str): See the class.
            json_file (str | Path): The json.
            folder (str | Path | None): Folder of the PNGs; None for that beside the
                json that has its name.
            problems (ProblemList): Gets the problems.

        Returns:
            PanopticFiles: What could be read.
        """
        json_file = Path(json_file)
        folder = json_file.with_suffix('') if folder is None else Path(folder)
        files = cls(name, json_file, folder, [], {})
        if not folder.is_dir():
            problems.add(f'{name}: folder of PNGs does not exist', folder)
        if not json_file.is_file():
            problems.add(f'{name}: json does not exist', json_file)
            return files
        try:
            content = json.loads(json_file.read_text())
        except ValueError as error:
            problems.add(f'{name}: no valid JSON', f'{json_file}: {error}')
            return files
        annotations = content.get('annotations') if isinstance(content, dict) else None
        if not annotations:
            problems.add(f"{name}: json without 'annotations', or empty", json_file)
            return files
        if not isinstance(annotations, list):
            problems.add(f"{name}: 'annotations' is not a list", json_file)
            return files
        categories = content.get('categories')
        if isinstance(categories, list) and all(
            isinstance(category, dict) for category in categories
        ):
            files.categories = categories
        for number, annotation in enumerate(annotations):
            unusable = _unusable(annotation, _ANNOTATION_TYPES)
            if 'segments_info' not in unusable:
                for segment in annotation['segments_info']:
                    unusable |= _unusable(segment, _SEGMENT_TYPES)
            if unusable:
                image_id = f'annotation {number}'
                if 'image_id' not in unusable:
                    image_id = annotation['image_id']
                problems.add(
                    f'{name}: entries that an annotation lacks or that have the '
                    'wrong type',
                    f'{image_id}: {", ".join(sorted(unusable))}',
                )
            elif annotation['image_id'] in files.annotations:
                problems.add(
                    f'{name}: two annotations for one image', annotation['image_id']
                )
            else:
                files.annotations[annotation['image_id']] = annotation
        return files


def _unusable(entry: Any, types: dict[str, Any]) -> set[str]:
    """Name the keys that something of a json lacks or that have another type."""
    if not isinstance(entry, dict):
        return set(types)
    return {key for key, kind in types.items() if not isinstance(entry.get(key), kind)}


@dataclass
class PanopticFilesQuality:
    """Result of :func:`evaluate_panoptic_files`.

    Attributes:
        stats (list[PanopticQualityStat]): Counts over all images for PQ and, if it
            was asked for, for boundary PQ; classes in the order of the ground truth.
        classes (list[str]): Their names.
        groups (dict[str, list[int]]): Labels of all classes, things and stuff.
    """

    stats: list[PanopticQualityStat]
    classes: list[str]
    groups: dict[str, list[int]]


def evaluate_panoptic_files(
    gt_json: str | Path,
    pred_json: str | Path,
    gt_folder: str | Path | None = None,
    pred_folder: str | Path | None = None,
    dilation_ratio: float | None = None,
    nproc: int = 1,
) -> PanopticFilesQuality:
    """Measure panoptic quality of predictions in files.

    Args:
        gt_json (str | Path): Json of the ground truth.
        pred_json (str | Path): Json of the predictions.
        gt_folder (str | Path | None): Folder of the PNGs of the ground truth.
            Defaults to None, the name of the json without its suffix.
        pred_folder (str | Path | None): The same for the predictions.
        dilation_ratio (float | None): Give it to measure boundary PQ too: the width
            of the boundary regions as a part of the image diagonal, see
            :func:`~.boundary_distance`. Defaults to None.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        PanopticFilesQuality: Counts, to be made values by
        :func:`~.quality_report.report_quality`.

    Raises:
        ValueError: If something is wrong with the files; the text lists all problems
            of all images.
    """
    problems = ProblemList(shown=None)
    gt = PanopticFiles.load('ground truth', gt_json, gt_folder, problems)
    pred = PanopticFiles.load('prediction', pred_json, pred_folder, problems)
    pairs = pair_annotations(gt, pred, problems)
    label_of = {c['id']: label for label, c in enumerate(gt.categories) if 'id' in c}
    score = partial(
        _score_image,
        folders=(gt.folder, pred.folder),
        label_of=label_of,
        dilation_ratio=dilation_ratio,
    )
    results = []
    if pairs and label_of and gt.folder.is_dir() and pred.folder.is_dir():
        results = track_progress_rich(
            score, pairs, nproc=nproc, description=f'scoring {len(pairs)} images'
        )
    stats = [
        PanopticQualityStat.zeros(len(label_of))
        for _ in range(1 if dilation_ratio is None else 2)
    ]
    for found, image_stats in results:
        problems.extend(found)
        for k, stat in enumerate(image_stats):
            stats[k] += stat
    if problems:
        raise ValueError(problems.summary())
    names, groups = classes_of(gt.categories)
    return PanopticFilesQuality(stats, names, groups)


def classes_of(categories: Sequence[dict]) -> tuple[list[str], dict[str, list[int]]]:
    """Give the classes of a json, numbered in its order.

    Args:
        categories (Sequence[dict]): Categories of the json.

    Returns:
        tuple[list[str], dict[str, list[int]]]: Names, and labels of all classes,
        things and stuff.
    """
    names = [c['name'] for c in categories]
    things = [c['name'] for c in categories if c['isthing']]
    stuff = [c['name'] for c in categories if not c['isthing']]
    return names, class_groups(names, things, stuff)


def pair_annotations(
    gt: PanopticFiles, pred: PanopticFiles, problems: ProblemList
) -> list[tuple[dict, dict]]:
    """Find the prediction of every image and note what is missing or too much.

    Args:
        gt (PanopticFiles): Ground truth; its categories are checked too.
        pred (PanopticFiles): Predictions.
        problems (ProblemList): Gets the problems.

    Returns:
        list[tuple[dict, dict]]: Annotations of the images that both have, true and
        predicted, in the order of the ground truth.
    """
    _check_categories(gt, problems)
    if gt.annotations and pred.annotations:
        for kind, files, others in (
            ('images without a prediction', gt, pred),
            ('predictions of images without ground truth', pred, gt),
        ):
            for image_id in files.annotations:
                if image_id not in others.annotations:
                    problems.add(kind, image_id)
    return [
        (annotation, pred.annotations[image_id])
        for image_id, annotation in gt.annotations.items()
        if image_id in pred.annotations
    ]


def _check_categories(gt: PanopticFiles, problems: ProblemList) -> None:
    """Note what is wrong with the categories of the ground truth."""
    if gt.annotations and not gt.categories:
        problems.add("ground truth: json without a list 'categories'", gt.json_file)
    for category in gt.categories:
        missing = {'id', 'name', 'isthing'} - category.keys()
        if missing:
            problems.add(
                'ground truth: entries that a category lacks',
                f'{category}: {", ".join(sorted(missing))}',
            )
    for key in ('id', 'name'):
        values = [c[key] for c in gt.categories if key in c]
        for value in {v for v in values if values.count(v) > 1}:
            problems.add(f'ground truth: two categories of one {key}', value)


def _score_image(
    gt_annotation: dict,
    pred_annotation: dict,
    folders: tuple[Path, Path],
    label_of: dict[int, int],
    dilation_ratio: float | None,
) -> tuple[ProblemList, list[PanopticQualityStat]]:
    """Check and score the files of one image.

    Args:
        gt_annotation (dict): Entry of the image in the json of the ground truth.
        pred_annotation (dict): The same for the prediction.
        folders (tuple[Path, Path]): Folders of their PNGs.
        label_of (dict[int, int]): Label of each category id.
        dilation_ratio (float | None): See :func:`evaluate_panoptic_files`.

    Returns:
        tuple[ProblemList, list[PanopticQualityStat]]: Problems, and counts for PQ and
        boundary PQ; no counts if there are problems.
    """
    problems = ProblemList()
    image = read_image(gt_annotation, pred_annotation, folders, label_of, problems)
    if image is None:
        return problems, []
    stats = [panoptic_quality_stats(*image, len(label_of))]
    if dilation_ratio is not None:
        stats.append(panoptic_quality_stats(*image, len(label_of), dilation_ratio))
    return problems, stats


def read_image(
    gt_annotation: dict,
    pred_annotation: dict,
    folders: tuple[Path, Path],
    label_of: dict[int, int],
    problems: ProblemList,
) -> tuple[np.ndarray, list[dict], np.ndarray, list[dict]] | None:
    """Read and check the files of one image.

    Args:
        gt_annotation (dict): Entry of the image in the json of the ground truth.
        pred_annotation (dict): The same for the prediction.
        folders (tuple[Path, Path]): Folders of their PNGs.
        label_of (dict[int, int]): Label of each category id.
        problems (ProblemList): Gets the problems.

    Returns:
        tuple[np.ndarray, list[dict], np.ndarray, list[dict]] | None: True segment ids,
        shape (H, W), int32, 0 = void, and ``id``, ``category`` (label) and
        ``iscrowd`` of every true segment; the same for the prediction. None if there
        are problems.
    """
    found = ProblemList()
    maps, tables = [], []
    for name, annotation, folder in zip(
        ('ground truth', 'prediction'),
        (gt_annotation, pred_annotation),
        folders,
        strict=True,
    ):
        path = folder / annotation['file_name']
        try:
            ids = read_panoptic_png(str(path))
        except FileNotFoundError:
            found.add(f'{name}: PNG does not exist', path)
            continue
        except ValueError:
            found.add(f'{name}: PNG is damaged or not 8-bit RGB', path)
            continue
        maps.append(ids)
        _check_segments(name, annotation, ids, label_of, found)
        tables.append(annotation['segments_info'])
    if len(maps) == 2 and maps[0].shape != maps[1].shape:
        found.add(
            'ground truth and prediction differ in size (height, width)',
            f'{gt_annotation["image_id"]}: {maps[0].shape}, {maps[1].shape}',
        )
    problems.extend(found)
    if found:
        return None
    gt_segments, pred_segments = (
        [
            {
                'id': segment['id'],
                'category': label_of[segment['category_id']],
                'iscrowd': segment.get('iscrowd', 0),
            }
            for segment in table
        ]
        for table in tables
    )
    return maps[0], gt_segments, maps[1], pred_segments


def _check_segments(
    name: str,
    annotation: dict,
    ids: np.ndarray,
    label_of: dict[int, int],
    problems: ProblemList,
) -> None:
    """Note where the json and the PNG of an image do not fit.

    Args:
        name (str): 'ground truth' or 'prediction'.
        annotation (dict): Entry of the image in the json.
        ids (np.ndarray): Segment ids of the PNG, shape (H, W).
        label_of (dict[int, int]): Label of each category id.
        problems (ProblemList): Gets the problems.
    """
    image_id = annotation['image_id']
    segments = annotation['segments_info']
    listed = [segment['id'] for segment in segments]
    values, lengths = constant_runs(ids)
    present, run_of = np.unique(values, return_inverse=True)
    areas = np.bincount(run_of.ravel(), lengths).astype(int)
    area_of = dict(zip(present.tolist(), areas.tolist(), strict=True))

    def note(kind: str, wrong: Sequence) -> None:
        if wrong:
            problems.add(f'{name}: {kind}', f'{image_id}: {", ".join(map(str, wrong))}')

    note(
        'ids that the json lists twice, or 0',
        sorted({k for k in listed if listed.count(k) > 1 or k == VOID_ID}),
    )
    note(
        'ids in the PNG without an entry in the json',
        sorted(area_of.keys() - set(listed) - {VOID_ID}),
    )
    note(
        'category_id that the ground truth does not have',
        sorted({s['category_id'] for s in segments} - label_of.keys()),
    )
    if name == 'prediction':
        note(
            'ids in the json without pixels in the PNG',
            sorted(set(listed) - area_of.keys()),
        )
    else:
        # A true segment without pixels is one that was missed; its area is 0.
        note(
            'ids whose area in the json is not that in the PNG',
            [
                s['id']
                for s in segments
                if 'area' in s and s['area'] != area_of.get(s['id'], 0)
            ],
        )


def segments_info(
    ids: np.ndarray, segments: Sequence[dict], category_ids: Sequence[int]
) -> list[dict]:
    """List the segments of a prediction as COCO's json does.

    Args:
        ids (np.ndarray): Segment ids, shape (H, W), 0 = void.
        segments (Sequence[dict]): ``id`` and ``category`` (label) of each.
        category_ids (Sequence[int]): Category id of each label.

    Returns:
        list[dict]: ``id``, ``category_id``, ``area`` in pixels and ``iscrowd`` (0).
    """
    values, lengths = constant_runs(ids)
    index = index_segments(values, [segment['id'] for segment in segments])
    areas = np.bincount(index, lengths, minlength=len(segments) + 1)
    return [
        {
            'id': segment['id'],
            'category_id': category_ids[segment['category']],
            'area': int(area),
            'iscrowd': 0,
        }
        for segment, area in zip(segments, areas[1:], strict=True)
    ]


class PanopticOutput:
    """Folder of predictions that a stopped run can continue.

    Files::

        panoptic/<image id>.png   segment ids
        panoptic.json             written last, when all images are there
        progress/run.json         which run this is; gone when it is complete
        progress/rank<r>.jsonl    entries for the json so far, one line an image

    Args:
        folder (str | Path): The folder, shared by all processes of a run.
        run (str): What tells this run from others, such as a hash of checkpoint and
            config: predictions of two runs are not mixed.

    Raises:
        FileExistsError: If the folder has complete predictions, or some of another
            run.
    """

    def __init__(self, folder: str | Path, run: str) -> None:
        self.folder = Path(folder)
        self.json_file = self.folder / 'panoptic.json'
        self.progress = self.folder / 'progress'
        run_file = self.progress / 'run.json'
        if self.json_file.exists():
            raise FileExistsError(
                f'{self.json_file} exists: these predictions are complete. Take '
                'another folder, or remove it to predict again'
            )
        if run_file.exists() and json.loads(run_file.read_text())['run'] == run:
            return
        # A run that failed before its first image, say for a wrong path, left nothing.
        if self.annotations():
            raise FileExistsError(
                f'{self.folder} has predictions of a run that was stopped, with '
                'another checkpoint or config. Take another folder, or remove it'
            )
        with atomic_path(run_file) as temporary:
            temporary.write_text(json.dumps({'run': run}))

    def annotations(self) -> dict[int | str, dict]:
        """Give what has been written so far, by any process.

        Returns:
            dict[int | str, dict]: Entries for the json by image id.
        """
        annotations = {}
        for path in sorted(self.progress.glob('rank*.jsonl')):
            for line in path.read_text().splitlines():
                try:
                    annotation = json.loads(line)
                except json.JSONDecodeError:
                    # The line at which the run was stopped.
                    continue
                annotations[annotation['image_id']] = annotation
        return annotations

    def add(
        self,
        image_id: int | str,
        ids: np.ndarray,
        segments: Sequence[dict],
        category_ids: Sequence[int],
        rank: int = 0,
    ) -> None:
        """Write the prediction of an image.

        Args:
            image_id (int | str): Id of the image in the ground truth.
            ids (np.ndarray): Segment ids, shape (H, W), 0 = void.
            segments (Sequence[dict]): ``id`` and ``category`` (label) of each.
            category_ids (Sequence[int]): Category id of each label.
            rank (int): Number of the process. Defaults to 0.
        """
        file_name = f'{str(image_id).removesuffix(".png")}.png'
        write_panoptic_png(self.json_file.with_suffix('') / file_name, ids)
        annotation = {
            'image_id': image_id,
            'file_name': file_name,
            'segments_info': segments_info(ids, segments, category_ids),
        }
        with (self.progress / f'rank{rank}.jsonl').open('a') as file:
            # The line break comes first: the line before may be half a line.
            file.write(f'\n{json.dumps(annotation)}')

    def finish(self, categories: Sequence[dict]) -> None:
        """Write the json and remove the notes about the progress.

        Args:
            categories (Sequence[dict]): Categories for the json.
        """
        # In one order, whichever process made which.
        annotations = sorted(
            self.annotations().values(), key=lambda entry: entry['file_name']
        )
        content = {
            'annotations': annotations,
            'categories': list(categories),
        }
        with atomic_path(self.json_file) as temporary:
            temporary.write_text(json.dumps(content))
        for path in self.progress.iterdir():
            path.unlink()
        self.progress.rmdir()
