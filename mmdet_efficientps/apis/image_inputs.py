# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What a user wants predicted: files, folders, arrays and all the rest, as images."""

from __future__ import annotations

import glob
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from PIL import Image, ImageOps

from mmdet_efficientps.datasets.transforms import LoadCheckedImage
from mmdet_efficientps.datasets.transforms.loading import undecodable
from mmdet_efficientps.datasets.transforms.resize import to_color_image

from .video import VIDEO_SUFFIXES, CameraReader, VideoReader

IMAGE_SUFFIXES = (
    *('.jpg', '.jpeg', '.jpe', '.png', '.bmp', '.dib', '.webp', '.tif', '.tiff'),
    *('.ppm', '.pgm', '.pbm', '.pnm', '.jp2', '.gif', '.avif'),
)
# Those that may be more than one image.
_ANIMATED_SUFFIXES = ('.gif', '.png', '.apng', '.webp', '.avif', '.tif', '.tiff')


@dataclass
class InputImage:
    """An image to predict, or the reason why there is none.

    Attributes:
        name (str): Relative path, below the folder that was given, with the suffix of
            the file; of a file its name alone. Frames of a video are
            ``<video>/<number>``; images that are no files are ``<number>``, their place
            in a list.
        image (np.ndarray | None): (H, W, 3), uint8, BGR.
        path (Path | None): File it is from.
        problem (Exception | None): Why there is no image.
        time (float | None): When a frame is shown, in seconds from the start of its
            video.
    """

    name: str
    image: np.ndarray | None = None
    path: Path | None = None
    problem: Exception | None = None
    time: float | None = None


def is_video(path: str | Path) -> bool:
    """Whether a path is that of a video, by its suffix."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES and not Path(path).is_dir()


def list_images(
    inputs: str | Path, leave_out: Path | None = None
) -> list[tuple[str, Path]]:
    """List the image files of a folder, a pattern or a path.

    Args:
        inputs (str | Path): A file; a folder, of which all images count, those in
            folders below too, but no videos and no hidden files; or a pattern as the
            shell has them: ``*`` stands for names, ``**`` for folders.
        leave_out (Path, optional): Folder below the given one whose files do not
            count: the one that results of a former run are in. Defaults to None.

    Returns:
        list[tuple[str, Path]]: Name, relative to what all have in common, and path of
        each, sorted by path.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no image in it.
    """
    path = Path(inputs).expanduser()
    if path.is_file():
        return [(path.name, path)]
    if path.is_dir():
        root = path
        files = sorted(
            file
            for file in path.rglob('*')
            if file.suffix.lower() in IMAGE_SUFFIXES
            and file.is_file()
            and not _is_hidden(file.relative_to(path))
        )
        where = f'the folder {path}'
    elif glob.has_magic(str(inputs)):
        names = glob.glob(str(path), recursive=True)
        files = sorted(file for name in names if (file := Path(name)).is_file())
        parts = path.parts
        plain = next(k for k, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:plain])
        where = f'what {inputs} stands for'
    elif '://' in str(inputs):
        raise FileNotFoundError(f'{inputs} is an address: download it first')
    else:
        raise FileNotFoundError(f'{inputs} does not exist: give a file or a folder')
    if leave_out is not None:
        results = leave_out.resolve()
        files = [file for file in files if results not in file.resolve().parents]
    if not files:
        raise FileNotFoundError(
            f'there is no image in {where}: files end in one of '
            f'{", ".join(IMAGE_SUFFIXES)}'
        )
    return [(file.relative_to(root).as_posix(), file) for file in files]


def _is_hidden(name: Path) -> bool:
    """Whether a file is one that systems and tools keep for themselves."""
    return any(part.startswith('.') for part in name.parts)


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as training does: turned by its EXIF data, in three channels.

    Args:
        path (str | Path): The file.

    Returns:
        np.ndarray: (H, W, 3), uint8, BGR.

    Raises:
        OSError: If there is no such file, or the system refuses to read it.
        ValueError: If it cannot be decoded, or is an animation.
    """
    path = Path(path)
    _check_frames(path, path)
    return LoadCheckedImage()({'img_path': str(path)})['img']


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode an image as :func:`read_image` does that reads a file.

    Args:
        content (bytes): What is in the file.
        name (str): Its path or address, with the suffix.

    Returns:
        np.ndarray: (H, W, 3), uint8, BGR.

    Raises:
        ValueError: If it cannot be decoded, or is an animation.
    """
    _check_frames(name, io.BytesIO(content))
    try:
        image = mmcv.imfrombytes(content)
    # Decoders raise any of these.
    except (AssertionError, OSError, SyntaxError, ValueError, cv2.error) as error:
        raise undecodable(name) from error
    if image is None:
        raise undecodable(name)
    return image


def _check_frames(name: str | Path, file: Path | io.BytesIO) -> None:
    """Refuse an animation."""
    if Path(name).suffix.lower() in _ANIMATED_SUFFIXES:
        num_frames = _count_frames(file)
        if num_frames > 1:
            raise ValueError(
                f'{name} has {num_frames} frames and would be one image: make a video '
                'of it (ffmpeg -i in.gif out.mp4), or a file of each frame'
            )


def _count_frames(file: Path | io.BytesIO) -> int:
    """How many images a file holds; 1 if that cannot be told."""
    try:
        with Image.open(file) as image:
            return getattr(image, 'n_frames', 1)
    # What cannot be opened here is up to the decoder, which says what is wrong.
    except Exception:  # noqa: BLE001
        return 1


def to_bgr(image: np.ndarray | Image.Image) -> np.ndarray:
    """Take an image that a caller has in memory.

    Args:
        image (np.ndarray | Image.Image): Array as
            :func:`~mmdet_efficientps.datasets.transforms.resize.to_color_image` takes
            it, channels as BGR; or a PIL image, which is turned by its EXIF data.

    Returns:
        np.ndarray: (H, W, 3), BGR, uint8, or float32 with values 0..255.

    Raises:
        ValueError: If the array is no image.
    """
    if isinstance(image, np.ndarray):
        try:
            return to_color_image(image)
        except ValueError as error:
            raise ValueError(f'the image given as an array {error}') from error
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I') or image.mode == 'F':
        # PIL would cut numbers above 255 off; OpenCV takes the upper byte of 16 bits.
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535 or image.mode == 'F':
            raise ValueError(
                f'the PIL image is of mode {image.mode}: bring it to RGB with the '
                'range that its numbers stand for'
            )
        return to_color_image((values >> 8).astype(np.uint8))
    return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])


def iterate_inputs(
    inputs: Any, loader: Callable[[str], np.ndarray] | None = None
) -> Iterator[InputImage]:
    """Go through anything that can be predicted, one image at a time.

    Args:
        inputs (Any): Path of an image or video (str or Path), folder, pattern, number
            of a camera, address if there is a ``loader``, array (BGR), PIL image, or
            a list or other iterable of these.
        loader (Callable[[str], np.ndarray], optional): Reads an address with ``://``,
            gives the image as BGR. Defaults to None.

    Yields:
        InputImage: Each image, or why it cannot be read.

    Raises:
        FileNotFoundError: If a path does not exist or a folder has no images.
        TypeError: If an input is none of these.
        ValueError: If it is an address and there is no ``loader``.
    """
    for number, item in enumerate(_flatten(inputs)):
        yield from _iterate_one(item, number, loader)


def _flatten(inputs: Any) -> Iterator[Any]:
    """Go through nested lists and generators."""
    if isinstance(inputs, (str, Path, int, np.ndarray, Image.Image)):
        yield inputs
    elif isinstance(inputs, Iterable):
        for item in inputs:
            yield from _flatten(item)
    else:
        raise TypeError(
            f'{type(inputs).__name__} is nothing to predict: give a path, a folder, '
            'a camera number, an array (BGR), a PIL image, or a list of these'
        )


def _iterate_one(
    item: Any, number: int, loader: Callable[[str], np.ndarray] | None
) -> Iterator[InputImage]:
    """Go through the images of one input."""
    if isinstance(item, (np.ndarray, Image.Image)):
        yield _try_read(f'{number:06d}', partial(to_bgr, item))
    elif isinstance(item, (int, np.integer)):
        for frame in CameraReader(int(item)):
            yield InputImage(f'camera{item}/{frame.index:06d}', frame.image)
    elif '://' in str(item):
        if loader is None:
            raise ValueError(
                f'{item} is an address: give the function that reads it as `loader`, '
                'or download it first'
            )
        address = str(item)
        yield _try_read(address.split('://', 1)[1], partial(loader, address))
    elif is_video(item):
        yield from iterate_video(Path(item), Path(item).name)
    else:
        yield from iterate_files(list_images(item))


def iterate_files(
    files: Iterable[tuple[str, Path]], skip: Callable[[str], bool] = lambda name: False
) -> Iterator[InputImage]:
    """Read image files.

    Args:
        files (Iterable[tuple[str, Path]]): Name and path of each.
        skip (Callable[[str], bool]): Whether the image of this name need not be read;
            it is left out. Defaults to never.

    Yields:
        InputImage: Each image, or why it cannot be read.
    """
    for name, path in files:
        if not skip(name):
            yield _try_read(name, partial(read_image, path), path)


def iterate_video(
    path: Path, name: str, skip: Callable[[str], bool] = lambda name: False
) -> Iterator[InputImage]:
    """Go through the frames of a video.

    Args:
        path (Path): The video.
        name (str): What its frames are named after.
        skip (Callable[[str], bool]): As for :func:`iterate_files`.

    Yields:
        InputImage: Frame ``<name>/<number>``, counted from 0, or why it cannot be
        decoded.
    """
    for frame in VideoReader(path):
        frame_name = f'{name}/{frame.index:06d}'
        if not skip(frame_name):
            problem = None
            if frame.image is None:
                problem = ValueError(frame.problem)
            yield InputImage(frame_name, frame.image, path, problem, frame.time)


def _try_read(
    name: str, read: Callable[[], np.ndarray], path: Path | None = None
) -> InputImage:
    """Read an image, or keep what went wrong."""
    try:
        return InputImage(name, read(), path)
    except (OSError, ValueError, MemoryError) as error:
        return InputImage(name, path=path, problem=error)
