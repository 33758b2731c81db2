# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic quality of predictions in files, without a model.

Ground truth and predictions are each a panoptic json, see
:mod:`mmdet_efficientps.structures.panoptic.annotations`, and a folder of PNGs, by
default the one beside the json that has its name. Only the ground truth needs
``categories``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.utils import track_progress_rich

from mmdet_efficientps.structures.panoptic import (
    VOID_ID,
    PanopticAnnotations,
    constant_runs,
    default_png_folder,
    read_panoptic_png,
)
from mmdet_efficientps.utils import ProblemList

from .functional.panoptic_quality import PanopticQualityStat, panoptic_quality_stats
from .functional.quality_report import class_groups

GROUND_TRUTH, PREDICTION = 'ground truth', 'prediction'


@dataclass
class PanopticFiles:
    """A panoptic json and its folder of PNGs.

    Attributes:
        name (str): 'ground truth' or 'prediction', for messages.
        folder (Path): Folder of the PNGs.
        content (PanopticAnnotations): The json.
    """

    name: str
    folder: Path
    content: PanopticAnnotations

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
            name (str): See the class. The ground truth needs categories.
            json_file (str | Path): The json.
            folder (str | Path | None): Folder of the PNGs; None for that beside the
                json that has its name.
            problems (ProblemList): Gets the problems.

        Returns:
            PanopticFiles: What could be read.
        """
        folder = default_png_folder(json_file) if folder is None else Path(folder)
        if not folder.is_dir():
            problems.add(f'{name}: folder of PNGs does not exist', folder)
        needs = ['annotations']
        if name == GROUND_TRUTH:
            needs.append('categories')
        content = PanopticAnnotations.read(json_file, problems, needs, name)
        if not content.annotations and not problems:
            problems.add(f"{name}: 'annotations' is empty", json_file)
        return cls(name, folder, content)


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
        PanopticFilesQuality: Counts; :func:`~.quality_report.report_quality` turns
        them into values.

    Raises:
        ValueError: If something is wrong with the files; the text lists all problems
            of all images.
    """
    problems = ProblemList(shown=None)
    gt = PanopticFiles.load(GROUND_TRUTH, gt_json, gt_folder, problems)
    pred = PanopticFiles.load(PREDICTION, pred_json, pred_folder, problems)
    pairs = pair_annotations(gt, pred, problems)
    take_categories(gt, pred)
    classes = gt.content.classes
    label_of = classes.label_of
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
    names = list(classes.names)
    groups = class_groups(names, classes.things, classes.stuff)
    return PanopticFilesQuality(stats, names, groups)


def pair_annotations(
    gt: PanopticFiles, pred: PanopticFiles, problems: ProblemList
) -> list[tuple[dict, dict]]:
    """Find the prediction of every image and note missing and surplus ones.

    Images are told by their file name where both jsons have them, or else by their id:
    who predicts photographs knows no ids, and labelling tools give new ones.

    Args:
        gt (PanopticFiles): Ground truth.
        pred (PanopticFiles): Predictions.
        problems (ProblemList): Gets the problems.

    Returns:
        list[tuple[dict, dict]]: Annotations of the images that both have, true and
        predicted, in the order of the ground truth.
    """
    # 1 and '1' are the id of the same image.
    true, predicted = (
        {str(image_id): entry for image_id, entry in files.content.annotations.items()}
        for files in (gt, pred)
    )
    id_of = {image['file_name']: str(image['id']) for image in gt.content.images}
    name_of = {str(i['id']): i['file_name'] for i in pred.content.images}
    names = set(name_of.values())
    if len(names) == len(name_of) and names & id_of.keys():
        predicted = {
            id_of.get(name_of.get(key, key), name_of.get(key, key)): entry
            for key, entry in predicted.items()
        }
    if true and predicted:
        for kind, some, others in (
            ('images without a prediction', true, predicted),
            ('predictions of images without ground truth', predicted, true),
        ):
            for image_id in some:
                if image_id not in others:
                    problems.add(kind, image_id)
    return [(true[k], predicted[k]) for k in true if k in predicted]


def take_categories(gt: PanopticFiles, pred: PanopticFiles) -> None:
    """Give the segments of predictions the category ids of the ground truth.

    Converters number classes as their source does, so that the same classes have other
    ids where labels were made with another tool. Predictions that name all of their
    categories as the ground truth does are matched by name; those of others have the
    ids of the ground truth.

    Args:
        gt (PanopticFiles): Ground truth.
        pred (PanopticFiles): Predictions, changed in place.
    """
    id_of = {c['name']: c['id'] for c in gt.content.categories}
    new_id = {c['id']: id_of.get(c['name']) for c in pred.content.categories}
    if None in new_id.values():
        return
    for annotation in pred.content.annotations.values():
        for segment in annotation['segments_info']:
            given = segment['category_id']
            segment['category_id'] = new_id.get(given, given)


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
        (GROUND_TRUTH, PREDICTION),
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
                'iscrowd': segment['iscrowd'],
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
        'ids in the PNG without an entry in the json',
        sorted(area_of.keys() - set(listed) - {VOID_ID}),
    )
    note(
        'category_id that the ground truth does not have',
        sorted({s['category_id'] for s in segments} - label_of.keys()),
    )
    if name == PREDICTION:
        note(
            'ids in the json without pixels in the PNG',
            sorted(set(listed) - area_of.keys()),
        )
    else:
        # A true segment may have no pixels: its area is 0 and it counts as missed.
        note(
            'ids whose area in the json is not that in the PNG',
            [
                s['id']
                for s in segments
                if s['area'] not in (None, area_of.get(s['id'], 0))
            ],
        )
