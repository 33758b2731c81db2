# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The photograph that belongs to a result, as it was predicted."""

from __future__ import annotations

import mmcv
import numpy as np

from mmdet_efficientps.datasets.transforms import LoadCheckedImage


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
    image = load({'img_path': str(path)})['img'][..., ::-1]
    if image.shape[:2] != tuple(shape):
        image = mmcv.imresize(image, tuple(shape)[::-1])
    return np.ascontiguousarray(image)
