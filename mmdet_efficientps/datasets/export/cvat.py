# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Segments as an archive that CVAT imports as "Segmentation mask"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from zipfile import ZIP_STORED, ZipFile

import cv2
import numpy as np

from mmdet_efficientps.structures.panoptic import PanopticClasses
from mmdet_efficientps.structures.panoptic.colors import BLACK, voc_color
from mmdet_efficientps.utils import ProblemList, atomic_path

from .images import LabelledImage, check_file_name, is_text

BACKGROUND = 'background'
# CVAT looks the colors of objects up in a table of 256, black among them.
MAX_OBJECTS = 255


def write_cvat_masks(
    out: str | Path,
    classes: PanopticClasses,
    images: Iterable[LabelledImage],
    problems: ProblemList | None = None,
) -> None:
    """Write masks for CVAT, in the layout of Pascal VOC.

    Every segment is an object, stuff too. The labels of the project in CVAT need the
    names of the classes, and the images the names that they have here.

    Args:
        out (str | Path): Archive to write.
        classes (PanopticClasses): The classes.
        images (Iterable[LabelledImage]): The images.
        problems (ProblemList | None): Gets images that CVAT could not import; they are
            left out. Defaults to None: they are errors.

    Raises:
        FileExistsError: If the archive is there.
        ValueError: If it is no zip, or an image or the name of a class cannot be
            written in this format.
    """
    out = Path(out)
    check_file_name(out, '.zip')
    for name in classes.names:
        # CVAT strips lines, and passes over those that begin with #.
        if name in ('', BACKGROUND) or re.search(r'^[#\s]|:|[\r\n]|\s$', name):
            raise ValueError(
                f'CVAT cannot have a class {name!r} in this format: rename it'
            )
    labels = {c.id: number for number, c in enumerate(classes, start=1)}
    names: set[str] = set()
    # PNGs do not get smaller.
    with (
        atomic_path(out) as temporary,
        ZipFile(temporary, 'w', ZIP_STORED) as archive,
    ):
        lines = ['# label:color_rgb:parts:actions', f'{BACKGROUND}:0,0,0::']
        for c in classes:
            color = ','.join(map(str, voc_color(labels[c.id])))
            lines.append(f'{c.name}:{color}::')
        archive.writestr('labelmap.txt', '\n'.join(lines) + '\n')
        for image in images:
            name = PurePosixPath(image.name).with_suffix('').as_posix()
            wrong = _problem(image, name in names)
            if wrong and problems is None:
                raise ValueError(f'{image.name}: {wrong}')
            if wrong and problems is not None:
                problems.add(wrong, image.name)
                continue
            names.add(name)
            index = image.index()
            numbers = [labels[s['category_id']] for s in image.segments]
            for folder, table in (
                ('SegmentationClass', [0, *numbers]),
                ('SegmentationObject', range(len(numbers) + 1)),
            ):
                colors = np.array([voc_color(k) if k else BLACK for k in table])
                picture = colors.astype(np.uint8)[index]
                content = cv2.imencode('.png', picture[..., ::-1])[1]
                archive.writestr(f'{folder}/{name}.png', content.tobytes())
        listed = ''.join(f'{name}\n' for name in sorted(names))
        archive.writestr('ImageSets/Segmentation/default.txt', listed)


def _problem(image: LabelledImage, is_taken: bool) -> str:
    """Say why an image cannot be written; empty if it can."""
    if is_taken:
        return 'image whose name differs from that of another in the suffix alone'
    if len(image.segments) > MAX_OBJECTS:
        return f'image with more segments than CVAT has colors for, {MAX_OBJECTS}'
    name = image.name
    # The list of images is read as labelmap.txt is.
    if (
        re.search(r'^[#/\s]|[\r\n]', name)
        or '..' in PurePosixPath(name).parts
        or not is_text(name)
    ):
        return 'name that an archive for CVAT cannot have'
    return ''
