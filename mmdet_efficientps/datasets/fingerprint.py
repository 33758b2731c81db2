# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The figures of a data set: what sizes, classes and pictures it has.

The json is read once and so is every image, as the training reads it, of which a hash
and a small grey copy are kept, so that equal pictures can be found. Sizes of segments
are those of the json. Of a PNG only the size is read, and whether the file is whole; it
is decoded only where the json gives no sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.utils import track_progress_rich

from mmdet_efficientps.structures.panoptic import (
    PanopticAnnotations,
    PanopticClasses,
    read_panoptic_png,
    read_png_size,
)
from mmdet_efficientps.structures.panoptic.index_map import (
    make_index_map,
    measure_segments,
    segment_numbers,
)
from mmdet_efficientps.utils import ProblemList

# Width and height of the small copies.
THUMBNAIL_SIDE = 16

SEGMENT_FIGURES = np.dtype(
    [
        ('image', np.int64),
        ('label', np.int64),
        ('is_crowd', np.bool_),
        ('area', np.float64),
        ('width', np.float64),
        ('height', np.float64),
    ]
)


@dataclass(frozen=True)
class DataFiles:
    """Where a data set is, as the user wrote it.

    Attributes:
        json_file (Path): Panoptic json.
        image_dir (Path): Folder of the images.
        png_dir (Path): Folder of the PNGs.
    """

    json_file: Path
    image_dir: Path
    png_dir: Path


@dataclass(frozen=True)
class Fingerprint:
    """What a data set has.

    Attributes:
        files (DataFiles): Where it is.
        content (PanopticAnnotations): The json, as it was read.
        classes (PanopticClasses): The classes, things first: places are labels.
        images (list[dict]): Entries of the N images in the json.
        sizes (np.ndarray): Width and height of every image in pixels, shape (N, 2),
            int64.
        digests (list[str]): SHA-256 of the size and the pixels of every image.
        thumbnails (np.ndarray): Every image in grey, averaged to 16x16 pixels, shape
            (N, 256), uint8.
        segments (np.ndarray): A row of ``SEGMENT_FIGURES`` for every segment that has
            pixels: place of its image, label, whether it is a crowd, area in pixels,
            and width and height of its box in pixels, both nan for stuff of which the
            json gives none.
    """

    files: DataFiles
    content: PanopticAnnotations
    classes: PanopticClasses
    images: list[dict[str, Any]]
    sizes: np.ndarray
    digests: list[str]
    thumbnails: np.ndarray
    segments: np.ndarray

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def paths(self) -> list[Path]:
        """The image files."""
        return [self.files.image_dir / image['file_name'] for image in self.images]

    @property
    def png_paths(self) -> list[Path]:
        """The PNGs of the segments."""
        annotations = self.content.annotations
        names = (annotations[image['id']]['file_name'] for image in self.images)
        return [self.files.png_dir / name for name in names]

    @cached_property
    def areas(self) -> np.ndarray:
        """Pixels of every class in every image, shape (N, C), float64."""
        areas = np.zeros((len(self), len(self.classes)))
        rows = self.segments
        np.add.at(areas, (rows['image'], rows['label']), rows['area'])
        return areas

    @property
    def presence(self) -> np.ndarray:
        """Which image shows which class, shape (N, C), bool."""
        return self.areas > 0

    @property
    def num_images(self) -> np.ndarray:
        """Number of images that show each class, shape (C, ), int64."""
        return self.presence.sum(axis=0)

    @property
    def num_segments(self) -> np.ndarray:
        """Number of segments of each class, crowds included, shape (C, ), int64."""
        return np.bincount(self.segments['label'], minlength=len(self.classes))

    @property
    def pixel_shares(self) -> np.ndarray:
        """Share of the pixels of all images, 0..1, of each class, shape (C, )."""
        return self.areas.sum(axis=0) / self.sizes.prod(axis=1).sum()

    @property
    def together(self) -> np.ndarray:
        """Number of images that show both of two classes, shape (C, C), int64."""
        shown = self.presence.astype(np.int64)
        return shown.T @ shown

    @property
    def instances(self) -> np.ndarray:
        """Rows of :attr:`segments` that are things and no crowds."""
        rows = self.segments
        is_thing = rows['label'] < self.classes.num_things
        return rows[is_thing & ~rows['is_crowd']]

    @property
    def stuff_areas(self) -> np.ndarray:
        """Pixels of every stuff class in every image that shows it, shape (K, )."""
        areas = self.areas[:, self.classes.num_things :]
        return areas[areas > 0]

    def select(self, places: Sequence[int]) -> Fingerprint:
        """Give the fingerprint of some of the images.

        Args:
            places (Sequence[int]): Places of the images.

        Returns:
            Fingerprint: That of these images in this order, of the same json.
        """
        new_place = np.full(len(self), -1)
        new_place[list(places)] = np.arange(len(places))
        rows = self.segments.copy()
        rows['image'] = new_place[rows['image']]
        return replace(
            self,
            images=[self.images[place] for place in places],
            sizes=self.sizes[list(places)],
            digests=[self.digests[place] for place in places],
            thumbnails=self.thumbnails[list(places)],
            segments=rows[rows['image'] >= 0],
        )


def read_fingerprint(files: DataFiles, nproc: int = 1) -> Fingerprint:
    """Read a data set in the COCO-panoptic format, with a progress bar.

    Args:
        files (DataFiles): Where it is.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        Fingerprint: Its figures.

    Raises:
        ValueError: If something is missing or damaged; names json, files and what to
            do, all problems at once.
    """
    json_file, image_dir, png_dir = files.json_file, files.image_dir, files.png_dir
    problems = ProblemList()
    content = PanopticAnnotations.read(json_file, problems)
    content.check_categories(problems)
    for folder, hint in (
        (image_dir, 'folder of images does not exist: check the path behind the json'),
        (
            png_dir,
            'folder of PNGs does not exist: give it with --seg (--val-seg), or make it '
            'with tools/prepare_dataset.py',
        ),
    ):
        if not folder.is_dir():
            problems.add(hint, folder)
    _refuse(json_file, problems)
    _check_pairs(content, problems)
    _refuse(json_file, problems)

    classes = content.classes.things_first()
    annotations = [content.annotations[image['id']] for image in content.images]
    tasks = [
        (
            image,
            annotation,
            image_dir / image['file_name'],
            png_dir / annotation['file_name'],
            classes.label_of,
            classes.num_things,
        )
        for image, annotation in zip(content.images, annotations, strict=True)
    ]
    results = track_progress_rich(
        _read_image, tasks, nproc=nproc, description=f'reading {json_file.name}'
    )
    for found, *_ in results:
        problems.extend(found)
    _refuse(json_file, problems)
    _, digests, thumbnails, tables = zip(*results, strict=True)
    segments = np.concatenate(tables)
    segments['image'] = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    return Fingerprint(
        files=files,
        content=content,
        classes=classes,
        images=content.images,
        sizes=np.array([(i['width'], i['height']) for i in content.images]),
        digests=list(digests),
        thumbnails=np.stack(thumbnails),
        segments=segments[segments['area'] > 0],
    )


def _refuse(json_file: Path, problems: ProblemList) -> None:
    """Stop if there are problems."""
    if problems:
        raise ValueError(f'{json_file} cannot be used. {problems.summary()}')


def _check_pairs(content: PanopticAnnotations, problems: ProblemList) -> None:
    """Note images without annotation and annotations without image."""
    if not content.images:
        problems.add("the json lists no images in 'images'", content.json_file)
    ids = {image['id'] for image in content.images}
    for image_id, annotation in content.annotations.items():
        if image_id not in ids:
            problems.add(
                "annotation of an image that is not in 'images': remove it, or add the "
                'image',
                f'{annotation["file_name"]} (image_id {image_id})',
            )
    for image in content.images:
        if image['id'] not in content.annotations:
            problems.add(
                "image without an entry in 'annotations', so nothing can be learnt "
                'from it: label it, or remove it from the json',
                f'{image["file_name"]} (id {image["id"]})',
            )


def _read_image(
    image: dict[str, Any],
    annotation: dict[str, Any],
    path: Path,
    png_path: Path,
    label_of: dict[int, int],
    num_things: int,
) -> tuple[ProblemList, str, np.ndarray, np.ndarray]:
    """Read one image and the sizes of its segments.

    Returns:
        tuple: Problems, hash, thumbnail (256, ) and rows of ``SEGMENT_FIGURES``.
    """
    # The processes share the processors already.
    cv2.setNumThreads(1)
    problems = ProblemList()
    size = (image['width'], image['height'])
    digest, thumbnail = '', np.zeros(THUMBNAIL_SIDE**2, dtype=np.uint8)
    try:
        content = path.read_bytes()
        # As LoadCheckedImage does: 8 bits, BGR, turned by its EXIF data.
        bgr = mmcv.imfrombytes(content, flag='color', backend='cv2')
    except (FileNotFoundError, IsADirectoryError):
        problems.add('image is missing: check the folder of the images', path)
    except (OSError, cv2.error):
        problems.add('image cannot be read', path)
    else:
        if bgr is None:
            problems.add('image is damaged or no image: get it again', path)
        else:
            shape = bgr.shape
            digest = hashlib.sha256(repr(shape).encode() + bgr.tobytes()).hexdigest()
            thumbnail = make_thumbnail(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
            if shape[1::-1] != size:
                problems.add(
                    'image has another size (width, height) than the json says: save '
                    'it at that size, or convert the labels again',
                    f'{path}: {shape[1::-1]} and {size}',
                )
            if not bgr.any() and _has_light(content):
                problems.add(
                    'image is read as black: of its 16 bits the training takes the '
                    'upper 8, and all are 0. Save it with 8 bits, or with values up '
                    'to 65535',
                    path,
                )
    rows = _read_segments(annotation, png_path, size, label_of, num_things, problems)
    return problems, digest, thumbnail, rows


def _has_light(content: bytes) -> bool:
    """Whether a file has pixels that are not black, at its own number of bits."""
    pixels = mmcv.imfrombytes(content, flag='unchanged', backend='cv2')
    if pixels is None or pixels.dtype == np.uint8:
        return False
    # Without alpha.
    return bool(np.atleast_3d(pixels)[..., :3].any())


def make_thumbnail(grey: np.ndarray) -> np.ndarray:
    """Average an image to 16x16 pixels.

    Args:
        grey (np.ndarray): Shape (H, W), uint8.

    Returns:
        np.ndarray: Shape (256, ), uint8.
    """
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).ravel()


def _read_segments(
    annotation: dict[str, Any],
    png_path: Path,
    size: tuple[int, int],
    label_of: dict[int, int],
    num_things: int,
    problems: ProblemList,
) -> np.ndarray:
    """Give the sizes of the segments of an image."""
    entries = annotation['segments_info']
    rows = np.zeros(len(entries), dtype=SEGMENT_FIGURES)
    if not png_path.is_file():
        problems.add('PNG of segments is missing: convert the labels again', png_path)
        return rows
    try:
        found_size = read_png_size(png_path)
    except OSError as error:
        problems.add('PNG of segments cannot be read', f'{png_path}: {error.strerror}')
        return rows
    is_measured = found_size is not None
    for row, entry in zip(rows, entries, strict=True):
        label, box = label_of[entry['category_id']], entry['bbox']
        row['label'], row['is_crowd'] = label, entry['iscrowd']
        row['area'] = entry['area'] or 0
        # A segment without pixels is a number that nobody filled in.
        has_area = row['area'] > 0
        row['width'], row['height'] = box[2:] if box else (np.nan, np.nan)
        has_box = box is not None and min(box[2:]) > 0
        is_measured &= has_area and (has_box or label >= num_things)
    if not is_measured:
        try:
            ids = read_panoptic_png(str(png_path))
            index_map = make_index_map(ids, [entry['id'] for entry in entries])
        except ValueError as error:
            text = str(error).removeprefix(f'{png_path} ')
            problems.add('PNG of segments does not fit the json', f'{png_path}: {text}')
            return rows
        found_size = ids.shape[::-1]
    if found_size != size:
        problems.add(
            'PNG of segments has another size (width, height) than the json says: '
            'convert the labels again',
            f'{png_path}: {found_size} and {size}',
        )
    if is_measured:
        return rows
    numbers = segment_numbers(len(entries))
    areas, boxes = measure_segments(index_map, max(256, len(entries) + 1))
    rows['area'] = areas[numbers]
    rows['width'], rows['height'] = (boxes[numbers, 2:] - boxes[numbers, :2]).T
    return rows
