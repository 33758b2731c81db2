# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Readers of images and label maps, which name what they cannot read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmdet_efficientps.structures.panoptic import read_panoptic_png, rgb2id
from mmdet_efficientps.structures.panoptic.png import PNG_SIGNATURE

from .jobs import BadInputError

# Color type of grey in the header of a PNG.
_GREY = 0
# Its last chunk, with the checksum.
_END = b'IEND\xaeB`\x82'


@contextmanager
def any_number_of_pixels() -> Iterator[None]:
    """Have Pillow open images of any size: it takes large ones for an attack."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_image_size(path: Path) -> tuple[int, int]:
    """Check that an image can be read to its end and give its size.

    Args:
        path (Path): The image.

    Returns:
        tuple[int, int]: Width and height in pixels, turned as OpenCV turns it by its
        EXIF data: so it is when it is loaded for training.

    Raises:
        BadInputError: If it is missing or damaged.
    """
    if not path.is_file():
        raise BadInputError('image is missing', path)
    try:
        content = path.read_bytes()
        with any_number_of_pixels(), Image.open(io.BytesIO(content)) as picture:
            kind, size = picture.format, picture.size
            if kind == 'PNG':
                # Compares the checksum of every chunk, which is faster than decoding.
                picture.verify()
            else:
                # A JPEG is read to its end but decoded at an eighth of its size.
                picture.draft('L', (1, 1))
                picture.load()
        has_exif = b'Exif' in content or b'eXIf' in content
        if kind in ('JPEG', 'PNG') and not has_exif:
            return size
        # Which EXIF data, and which other formats, OpenCV heeds and how, it knows best.
        decoded = cv2.imdecode(
            np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_GRAYSCALE
        )
    except Exception as error:
        # Decoders raise errors of any kind on data that is no image.
        reason = str(error)
        if reason.startswith('cannot identify image file'):
            reason = 'empty, damaged or no image'
        raise BadInputError(f'image cannot be read ({reason})', path) from error
    if decoded is None:
        raise BadInputError(
            'image cannot be read by OpenCV, which loads it for training: save it as '
            'JPEG or PNG',
            path,
        )
    height, width = decoded.shape
    return width, height


def read_instance_map(path: Path) -> np.ndarray:
    """Read a label PNG of 16-bit grey values.

    Args:
        path (Path): The PNG.

    Returns:
        np.ndarray: Shape (H, W), uint16.

    Raises:
        BadInputError: If it is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise BadInputError('label PNG is missing', path)
    try:
        content = np.fromfile(path, dtype=np.uint8)
        values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error):
        # OpenCV raises on an empty file and gives None on any other damage.
        values = None
    if values is None or values.ndim != 2 or values.dtype != np.uint16:
        raise BadInputError('label PNG is damaged or not 16-bit grey', path)
    return values


def read_color_map(path: Path) -> np.ndarray:
    """Read a label PNG whose values are spread over its three color channels.

    Args:
        path (Path): The PNG.

    Returns:
        np.ndarray: Shape (H, W), int32.

    Raises:
        BadInputError: If it is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise BadInputError('label PNG is missing', path)
    try:
        return read_panoptic_png(str(path))
    except (OSError, ValueError, cv2.error) as error:
        raise BadInputError('label PNG is damaged or not 8-bit RGB', path) from error


def read_plain_map(path: Path, by_color: bool = False) -> np.ndarray:
    """Read a label PNG as drawing programs and labelling tools write them.

    Args:
        path (Path): The PNG: grey of 1 to 16 bits, with a palette, or 8-bit RGB; alpha
            may be there if nothing is transparent.
        by_color (bool): Whether labels are told by color: a palette is looked up, and
            grey is a color. Else by number: of a palette the index, of grey the value.
            Defaults to False.

    Returns:
        np.ndarray: Shape (H, W), int32; a color is R + 256 G + 65536 B.

    Raises:
        BadInputError: If it is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise BadInputError('label PNG is missing', path)
    try:
        content = path.read_bytes()
        if not content.startswith(PNG_SIGNATURE):
            raise BadInputError('label is damaged or no PNG', path)
        if _END not in content:
            raise BadInputError('label PNG is damaged', path)
        with any_number_of_pixels(), Image.open(io.BytesIO(content)) as opened:
            # Compares the checksum of every chunk.
            opened.verify()
        # Those of the header: Pillow widens few bits, and cuts 16 but of grey alone.
        depth, kind = content[24], content[25]
        with any_number_of_pixels(), Image.open(io.BytesIO(content)) as opened:
            picture: Image.Image = opened
            if kind != _GREY and depth == 16:
                raise BadInputError(
                    'label PNG has alpha or colors of 16 bits: save it as grey, or '
                    'with 8 bits',
                    path,
                )
            if picture.mode in ('RGBA', 'LA'):
                if picture.getextrema()[-1] != (255, 255):
                    raise BadInputError(
                        'label PNG is transparent in parts: save it without alpha', path
                    )
                picture = picture.convert(picture.mode.removesuffix('A'))
            if picture.mode == 'P' and by_color:
                picture = picture.convert('RGB')
            values = np.array(picture).astype(np.int32)
    except (OSError, SyntaxError, ValueError, IndexError) as error:
        # Pillow has no error of its own for damage.
        raise BadInputError('label PNG is damaged', path) from error
    if kind == _GREY and 1 < depth < 8:
        values //= 255 // (2**depth - 1)
    if values.ndim == 2 and by_color:
        if depth == 16:
            raise BadInputError('label PNG has numbers of 16 bits, not colors', path)
        values *= 255 // (2**depth - 1) if kind == _GREY else 1
        values = np.stack([values] * 3, axis=-1)
    if values.ndim == 3 and not by_color and (values == values[..., :1]).all():
        # Grey that was saved as color.
        return np.ascontiguousarray(values[..., 0])
    return rgb2id(values) if values.ndim == 3 else values


def check_size(
    image_size: tuple[int, int],
    label_size: tuple[int, ...],
    image_path: Path,
    same_view: bool = False,
) -> None:
    """Check that image and label have one size.

    Args:
        image_size (tuple[int, int]): Width and height of the image.
        label_size (tuple[int, ...]): Width and height of the label.
        image_path (Path): The image, to be named.
        same_view (bool): For data sets that are brought to one size: their aspect
            ratios, which differ by one per cent among KITTI's images, are to be the
            same within two per cent, and the sizes may differ. Defaults to False.

    Raises:
        BadInputError: If they differ.
    """
    products = image_size[0] * label_size[1], image_size[1] * label_size[0]
    fits = same_view and min(products) > 0.98 * max(products)
    if not fits and image_size != label_size:
        raise BadInputError(
            'image and label differ in size (width, height)',
            f'{image_path}: {image_size} and {label_size}',
        )
