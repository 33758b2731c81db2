# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What is to be converted, and what becomes of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdet_efficientps.structures.panoptic import PanopticClasses, default_png_folder
from mmdet_efficientps.utils import ProblemList


class BadInputError(Exception):
    """An image that cannot be converted.

    Args:
        kind (str): What is wrong, as :meth:`ProblemList.add` takes it.
        name (str | Path): What it is wrong with.
        problems (ProblemList | None): All that is wrong, instead of the two.
    """

    def __init__(
        self,
        kind: str = '',
        name: str | Path = '',
        problems: ProblemList | None = None,
    ) -> None:
        if problems is None:
            problems = ProblemList()
            problems.add(kind, name)
        super().__init__(problems.summary())
        self.problems = problems


# Bytes, of a temporary file too.
LONGEST_NAME = 230


def png_name_of(file_name: str) -> str | None:
    r"""Name the PNG of an image.

    Labelling tools also write absolute paths, those of Windows, and some that go up:
    what leads out of a folder is left away.

    Example::

        >>> png_name_of('C:\\photos\\..\\a.jpg')
        'photos/a.png'

    Args:
        file_name (str): Name of the image, with its folders.

    Returns:
        str | None: Relative path; None if no image can have that name.
    """
    parts = [
        part
        for part in re.split(r'[/\\]', file_name)
        if part not in ('', '.', '..') and not re.fullmatch('[A-Za-z]:', part)
    ]
    try:
        is_possible = parts and max(len(os.fsencode(p)) for p in parts) <= LONGEST_NAME
    except UnicodeEncodeError:
        return None
    if not is_possible or '\0' in file_name:
        return None
    return Path(*parts).with_suffix('.png').as_posix()


@dataclass(frozen=True)
class Job:
    """One image to convert.

    Attributes:
        image (dict[str, Any]): Its entry in the json: id, file_name relative to the
            folder of the images; width and height are added if they are missing.
        image_path (Path): The image.
        png_name (str): Where the PNG goes, relative to the folder of the PNGs.
        label_path (Path | None): File with its labels, if it has one of its own.
        labels (Any): Labels that were read from a file for all images, as json.
        object_path (Path | None): File that tells the objects of its labels apart, if
            that is another one.
    """

    image: dict[str, Any]
    image_path: Path
    png_name: str
    label_path: Path | None = None
    labels: Any = None
    object_path: Path | None = None


@dataclass
class Panoptic:
    """Labels of one image.

    Attributes:
        ids (np.ndarray): Segment ids, shape (H, W), integers, 0 = void.
        segments_info (list[dict[str, Any]]): As in the json: id, category_id,
            iscrowd, area and bbox (x, y, width, height in pixels).
        num_dropped (int): Annotations without a visible pixel.
        png_path (Path | None): A PNG that has exactly these ids: it is linked, not
            written again.
        problems (ProblemList): Annotations that were left out.
    """

    ids: np.ndarray
    segments_info: list[dict[str, Any]]
    num_dropped: int = 0
    png_path: Path | None = None
    problems: ProblemList = field(default_factory=ProblemList)


@dataclass
class Split:
    """Part of a data set that gets one json.

    Attributes:
        json_path (Path): The json; PNGs go into the folder of that name without
            suffix.
        classes (PanopticClasses): Classes for the json, in its order.
        jobs (list[Job]): The images.
        draw (Callable[[Job], Panoptic]): Makes the labels of an image; raises a
            :class:`BadInputError`. Runs in other processes.
        problems (ProblemList): Problems found while listing the images.
        sources (list[Path]): Files and folders that were read for all images.
        notes (list[str]): What a user should know, for the summary.
    """

    json_path: Path
    classes: PanopticClasses
    jobs: list[Job]
    draw: Callable[[Job], Panoptic]
    problems: ProblemList = field(default_factory=ProblemList)
    sources: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def png_dir(self) -> Path:
        """Folder of the PNGs."""
        return default_png_folder(self.json_path)

    @property
    def journal_path(self) -> Path:
        """Hidden file that notes the finished images."""
        return self.json_path.with_name(f'.{self.json_path.stem}.journal')
