# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Files of strangers: read within limits, or refused in words they can act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .image_inputs import read_image, to_bgr
from .video import VideoFrame, VideoReader, VideoWriter


class UploadError(ValueError):
    """Why a file is refused, said without any path of this machine."""


@dataclass(frozen=True)
class UploadLimits:
    """What is taken.

    Attributes:
        megabytes (float): Size of a file at most, in 10^6 bytes.
        megapixels (float): Size of an image, or of a frame, at most, in 10^6 pixels.
        video_seconds (float): Length of a video at most.
        video_frames (int): Frames of a video at most.
    """

    megabytes: float = 50
    megapixels: float = 40
    video_seconds: float = 10
    video_frames: int = 300

    def check_size(self, name: str, num_pixels: int) -> None:
        """Refuse what has too many pixels.

        Args:
            name (str): Name of the file, for the message.
            num_pixels (int): Pixels of the image, or of a frame.

        Raises:
            UploadError: If these are too many.
        """
        if num_pixels > 1e6 * self.megapixels:
            raise UploadError(
                f'{name} has {num_pixels / 1e6:.4g} megapixels, and this page takes '
                f'{self.megapixels:g} at most: make it smaller'
            )


def check_bytes(path: str | Path, limits: UploadLimits) -> None:
    """Refuse an empty or too large file.

    Args:
        path (str | Path): The file.
        limits (UploadLimits): What is taken.

    Raises:
        UploadError: If it is one of these.
    """
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        raise UploadError(f'{path.name} is empty')
    if size > 1e6 * limits.megabytes:
        raise UploadError(
            f'{path.name} has {size / 1e6:.1f} MB, and this page takes '
            f'{limits.megabytes:g} MB at most: make it smaller'
        )


def read_uploaded_image(
    path: str | Path, limits: UploadLimits
) -> tuple[np.ndarray, list[str]]:
    """Read an image, whose size is checked before it is decoded.

    Args:
        path (str | Path): The file.
        limits (UploadLimits): What is taken.

    Returns:
        tuple[np.ndarray, list[str]]: (H, W, 3), uint8, BGR, turned by its EXIF data,
        and what the user should know about how it was read.

    Raises:
        UploadError: If it is too large, incomplete or no image.
    """
    path = Path(path)
    check_bytes(path, limits)
    damaged = UploadError(
        f'{path.name} is damaged or incomplete: part of the picture is missing. '
        'Save or copy it again'
    )
    try:
        opened = Image.open(path)
    except Image.DecompressionBombError:
        raise UploadError(
            f'{path.name} has far more than the {limits.megapixels:g} megapixels that '
            'this page takes: make it smaller'
        ) from None
    except Exception as error:  # noqa: BLE001
        # Decoders of broken files raise anything.
        raise UploadError(
            f'{path.name} cannot be read as an image: it is damaged, or of another '
            'type than its name says. JPEG, PNG, WebP, BMP, TIFF and GIF can be read'
        ) from error
    with opened as image:
        limits.check_size(path.name, image.width * image.height)
        notes = _notes(image)
        num_frames = getattr(image, 'n_frames', 1)
        if image.format == 'JPEG':
            # All of the file is read, of the pixels one in 64.
            image.draft('RGB', (image.width // 8, image.height // 8))
        try:
            image.load()
        except Exception as error:  # noqa: BLE001
            raise damaged from error
        try:
            if num_frames > 1:
                return to_bgr(image), notes
            return read_image(path), notes
        except (OSError, ValueError) as error:
            raise damaged from error


def _notes(image: Image.Image) -> list[str]:
    """What of a picture the network does not get to see."""
    notes = []
    num_frames = getattr(image, 'n_frames', 1)
    if num_frames > 1:
        notes.append(
            f'It has {num_frames} frames: this is the first. For all of them make a '
            'video of it'
        )
    if 'A' in image.getbands() or 'transparency' in image.info:
        notes.append('Transparency is left out: the colors below it are taken')
    if image.mode.startswith('I') or image.mode == 'F':
        notes.append('Of 16 bits the upper 8 are taken')
    if image.mode in ('1', 'L', 'LA') or image.mode.startswith('I'):
        notes.append('It has no colors: the network was trained with color images')
    return notes


class UploadedVideo:
    """A short video.

    Args:
        path (str | Path): The file.
        limits (UploadLimits): What is taken.

    Attributes:
        reader (VideoReader): Its frames.

    Raises:
        UploadError: If it is too large or long, or no video.
    """

    def __init__(self, path: str | Path, limits: UploadLimits) -> None:
        self.path = Path(path)
        self.limits = limits
        check_bytes(self.path, limits)
        try:
            self.reader = reader = VideoReader(self.path)
        except ImportError as error:
            raise UploadError(
                f'{self.path.name} is a video, and this server takes images alone: the '
                'package av is not installed there'
            ) from error
        except (OSError, ValueError) as error:
            raise UploadError(self._own_words(error)) from error
        limits.check_size(self.path.name, reader.size[0] * reader.size[1])
        # Not all files tell; the others are watched while they are drawn.
        if reader.num_frames is not None:
            self._check(reader.num_frames, float(reader.num_frames / reader.fps))

    def redraw(self, out: Path, draw: Callable[[VideoFrame], np.ndarray]) -> list[str]:
        """Write the video with something drawn on it.

        Args:
            out (Path): File to write, ``.mp4``.
            draw (Callable[[VideoFrame], np.ndarray]): Gives the picture of a frame that
                is not broken, of the same size, uint8, BGR.

        Returns:
            list[str]: What the user should know about how it was read.

        Raises:
            UploadError: If it is too long, or cannot be read to its end.
        """
        reader, problems = self.reader, []
        try:
            with VideoWriter(
                out, reader.fps, reader.size, self.path, reader.pixel_aspect
            ) as writer:
                for frame in reader:
                    self._check(frame.index + 1, frame.time)
                    if frame.image is None:
                        problems.append(self._own_words(frame.problem))
                    else:
                        writer.write(draw(frame), frame.time)
        except UploadError:
            raise
        except ValueError as error:
            raise UploadError(self._own_words(error)) from error
        return problems

    def _check(self, num_frames: int, seconds: float) -> None:
        limits, name = self.limits, self.path.name
        if seconds > limits.video_seconds or num_frames > limits.video_frames:
            raise UploadError(
                f'{name} is too long: this page takes {limits.video_seconds:g} seconds '
                f'and {limits.video_frames} frames at most. Cut it'
            )

    def _own_words(self, problem: object) -> str:
        """Name the file as its owner knows it."""
        return str(problem).replace(str(self.path), self.path.name)
