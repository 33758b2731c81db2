# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Images with their segments, to be exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmdet_efficientps.structures.panoptic import (
    PanopticAnnotations,
    default_png_folder,
    index_segments,
    path_inside,
    read_panoptic_png,
)
from mmdet_efficientps.structures.panoptic.annotations import number
from mmdet_efficientps.utils import ProblemList


@dataclass(frozen=True)
class LabelledImage:
    """The segments of an image.

    Attributes:
        name (str): Path of the image below the folder of the images, with slashes.
        ids (np.ndarray): Segment ids, shape (H, W), integers, 0 = void.
        segments (Sequence[dict[str, Any]]): ``id`` and ``category_id`` of each that
            occurs, and ``iscrowd`` and ``score`` where there is one.
    """

    name: str
    ids: np.ndarray
    segments: Sequence[dict[str, Any]]

    def index(self) -> np.ndarray:
        """Number the segments.

        Returns:
            np.ndarray: Shape (H, W), int32: 0 for void, k + 1 for segment k.

        Raises:
            ValueError: If a segment is not listed.
        """
        return index_segments(self.ids, [segment['id'] for segment in self.segments])


def is_text(name: str) -> bool:
    """Say whether a name can be written as UTF-8; those of files may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def score_of(segment: dict[str, Any]) -> float | None:
    """Give the score of a segment, None if it has none."""
    return number(segment.get('score'))


def panoptic_images(
    content: PanopticAnnotations, problems: ProblemList
) -> Iterator[LabelledImage]:
    """Read the images of a panoptic json with their PNGs.

    Args:
        content (PanopticAnnotations): The json; its PNGs lie in the folder beside it
            that has its name.
        problems (ProblemList): Gets images that cannot be read; they are left out.

    Yields:
        LabelledImage: The images that have annotations, in the order of the json.
    """
    folder = default_png_folder(content.json_file)
    known = {category['id'] for category in content.categories}
    for image in content.images:
        annotation = content.annotations.get(image['id'])
        if annotation is None:
            problems.add('image without an annotation', str(image['id']))
            continue
        segments = annotation['segments_info']
        try:
            path = path_inside(folder, annotation['file_name'])
            labelled = LabelledImage(
                image['file_name'], read_panoptic_png(str(path)), segments
            )
            present = np.unique(labelled.index())
        except (OSError, ValueError) as error:
            problems.add('segments cannot be read', f'{image["file_name"]}: {error}')
            continue
        if wrong := {s['category_id'] for s in segments} - known:
            problems.add(
                'category_id that is not in categories',
                f'{image["file_name"]}: {sorted(wrong)}',
            )
            continue
        visible = [s for k, s in enumerate(segments, start=1) if k in present]
        yield LabelledImage(labelled.name, labelled.ids, visible)


def check_file_name(path: Path, suffix: str) -> None:
    """Check the name of a file that is to be written.

    Args:
        path (Path): The file.
        suffix (str): Suffix it must have.

    Raises:
        FileExistsError: If it is there: it may be what somebody has corrected.
        ValueError: If it has another suffix.
    """
    if path.suffix.lower() != suffix:
        raise ValueError(f'the file must end with {suffix}, got {path}')
    if path.exists():
        raise FileExistsError(f'{path} exists: give another name, or remove it')
