# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The photograph that belongs to a result, as it was predicted, and its name."""

from __future__ import annotations

import os.path as osp

import mmcv
import numpy as np
from torch.utils.data import Dataset

from mmdet_efficientps.datasets.parts import data_set_parts
from mmdet_efficientps.datasets.transforms import LoadCheckedImage

PICTURE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


def load_predicted_image(
    path: str, shape: tuple[int, int], backend_args: dict | None = None
) -> np.ndarray:
    """Read a photograph at the size of the result that was predicted for it.

    Data sets that are scored at a size of their own, as KITTI panoptic and IDD, have
    photographs of another size. Whoever shows a result or a ground truth over its
    photograph takes it from here.

    Args:
        path (str): The photograph.
        shape (tuple[int, int]): Height and width of the result in pixels.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.

    Returns:
        np.ndarray: Shape (height, width, 3), uint8, RGB, turned by its EXIF data as in
        training.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be decoded; names the file.
    """
    load = LoadCheckedImage(backend_args=backend_args)
    return at_size(load({'img_path': str(path)})['img'][..., ::-1], shape)


def at_size(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bring a photograph to the size of its result, as the pipeline does.

    Example::

        >>> at_size(np.zeros((4, 6, 3), np.uint8), (2, 3)).shape
        (2, 3, 3)

    Args:
        image (np.ndarray): Shape (H, W, 3), uint8.
        shape (tuple[int, int]): Height and width of the result in pixels.

    Returns:
        np.ndarray: Shape (height, width, 3), uint8.
    """
    if image.shape[:2] != tuple(shape):
        image = mmcv.imresize(image, tuple(shape)[::-1])
    return np.ascontiguousarray(image)


def image_name(img_path: str, dataset: Dataset) -> str:
    """Name an image by where it lies in its data set.

    Args:
        img_path (str): Path or address of the image.
        dataset (Dataset): Data set it is from, which may wrap others.

    Returns:
        str: Path below the folder of the images, or below the folder that all folders
        of images have in common where the data set joins several; the name of the file
        if it does not lie there.
    """
    prefixes = {
        osp.normpath(prefix)
        for part in data_set_parts(dataset)
        if (prefix := (getattr(part, 'data_prefix', None) or {}).get('img'))
    }
    path = osp.normpath(img_path)
    # Some may be absolute and some relative: they have nothing in common then.
    if len({osp.isabs(prefix) for prefix in prefixes}) == 1:
        root = osp.commonpath(prefixes)
        if path.startswith(osp.join(root, '')):
            return osp.relpath(path, root)
    return osp.basename(path)


def picture_name(img_path: str, dataset: Dataset) -> str:
    """Name the picture of an image: as the image, with a suffix for pictures.

    Args:
        img_path (str): See :func:`image_name`.
        dataset (Dataset): See :func:`image_name`.

    Returns:
        str: Relative path.
    """
    name = image_name(img_path, dataset)
    is_picture = osp.splitext(name)[1].lower() in PICTURE_SUFFIXES
    return name if is_picture else f'{name}.png'
