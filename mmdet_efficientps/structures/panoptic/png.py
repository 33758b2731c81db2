# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic PNGs: 8-bit RGB with id = R + 256 G + 65536 B."""

import os
import struct
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmengine.fileio import get

from mmdet_efficientps.utils import atomic_path

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
PNG_END = b'\x00\x00\x00\x00IEND\xaeB`\x82'
# Color types of PNGs that are decoded to RGB.
RGB, PALETTE = 2, 3


def read_panoptic_png(
    path: str, imdecode_backend: str = 'cv2', backend_args: dict | None = None
) -> np.ndarray:
    """Read the segment ids of a panoptic PNG.

    Args:
        path (str): The PNG, 8-bit RGB with id = R + 256 G + 65536 B.
        imdecode_backend (str): Decoder for :func:`mmcv.imfrombytes`.
            Defaults to 'cv2'.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.

    Returns:
        np.ndarray: Segment ids, shape (H, W), int32, 0 = void.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not an image or not 8-bit RGB.
    """
    content = get(path, backend_args=backend_args)
    # OpenCV would decode other formats too, and a JPEG changes the ids.
    bgr = (
        mmcv.imfrombytes(content, flag='unchanged', backend=imdecode_backend)
        if content.startswith(PNG_SIGNATURE)
        else None
    )
    if bgr is None:
        raise ValueError(
            f'{path} cannot be decoded as a PNG: it is damaged, incomplete or of '
            'another type. Make it again with the converter that made it'
        )
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8:
        raise ValueError(
            f'{path} is no panoptic PNG: expected 8-bit RGB, got shape {bgr.shape} '
            f"and type {bgr.dtype}. Check that data_prefix['seg'], or the option for "
            'the folder of PNGs, names the right folder'
        )
    # The bytes R, G, B, 255 are a little-endian number: the id and, above it, alpha.
    ids = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGBA).view('<i4')[..., 0]
    ids &= 2**24 - 1
    return ids


def read_png_size(path: str | Path) -> tuple[int, int] | None:
    """Read the size of a panoptic PNG from its first bytes, without decoding it.

    Args:
        path (str | Path): The PNG.

    Returns:
        tuple[int, int] | None: Width and height in pixels; None if the file does not
        begin as a PNG of 8-bit RGB or of a palette, or does not end as a PNG, so that
        only decoding tells what it is.

    Raises:
        OSError: If the file cannot be read.
    """
    # Signature (8 bytes), length and name of the first chunk (4 each), width and height
    # (4 each), bits, color type, and three more.
    with Path(path).open('rb') as file:
        head = file.read(29)
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - len(PNG_END), 0))
        tail = file.read()
    if len(head) < 29 or not head.startswith(PNG_SIGNATURE) or tail != PNG_END:
        return None
    width, height, bits, color_type = struct.unpack('>IIBB', head[16:26])
    is_rgb = (color_type == RGB and bits == 8) or color_type == PALETTE
    return (width, height) if is_rgb else None


def encode_panoptic_png(ids: np.ndarray) -> bytes:
    """Encode segment ids as a panoptic PNG.

    Args:
        ids (np.ndarray): Segment ids, shape (H, W), integers 0..2**24 - 1, 0 = void.

    Returns:
        bytes: The file.

    Raises:
        ValueError: If an id does not fit into three bytes.
    """
    if not 0 <= ids.min() <= ids.max() < 2**24:
        raise ValueError(
            f'segment ids must be in 0..{2**24 - 1}, got {ids.min()}..{ids.max()}'
        )
    # The bytes of a little-endian number are R, G, B and 0.
    rgba = np.ascontiguousarray(ids, dtype='<i4').view(np.uint8)
    bgr = cv2.cvtColor(rgba.reshape(*ids.shape, 4), cv2.COLOR_RGBA2BGR)
    return cv2.imencode('.png', bgr)[1].tobytes()


def write_panoptic_png(path: str | Path, ids: np.ndarray) -> None:
    """Write segment ids as a panoptic PNG, whole or not at all.

    Args:
        path (str | Path): The PNG. Folders on the way are made.
        ids (np.ndarray): Segment ids, shape (H, W), integers 0..2**24 - 1, 0 = void.

    Raises:
        ValueError: If an id does not fit into three bytes.
    """
    try:
        content = encode_panoptic_png(ids)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
