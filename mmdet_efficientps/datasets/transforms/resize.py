# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Resizing of images and of the maps that belong to them."""

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map of labels or segment numbers, which cannot be mixed.

    Every pixel takes the value of the one whose center is nearest to its own center,
    so the map stays where a bilinearly resized image shows it. What mmcv calls
    'nearest' takes the one under its upper left corner instead: labels lie about half
    a pixel of the result off their image.

    >>> resize_map(np.arange(6, dtype=np.uint8)[None], (2, 1)).tolist()
    [[1, 4]]

    Args:
        values (np.ndarray): Map, shape (H, W).
        size (tuple[int, int]): New width and height in pixels.

    Returns:
        np.ndarray: Map of the new size and the same type.
    """
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT)


def to_color_image(image: np.ndarray) -> np.ndarray:
    """Give an image of another kind the form the network takes.

    Grey images get three equal channels, alpha is left out. Only numbers 0..255 are
    taken: the range that 16 bits or fractions stand for is not known.

    >>> to_color_image(np.full((1, 1), 7, np.uint8)).tolist()
    [[[7, 7, 7]]]

    Args:
        image (np.ndarray): Shape (H, W) or (H, W, 1), grey, (H, W, 3), BGR, or
            (H, W, 4), BGR and alpha; uint8, or float with values 0..255.

    Returns:
        np.ndarray: Shape (H, W, 3), BGR, values 0..255, uint8 or float32.

    Raises:
        ValueError: If it has another shape, is empty, or has another type or range.
    """
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
    if not is_image or not image.size:
        raise ValueError(
            f'has the shape {image.shape}, where (H, W, 3), BGR, is needed; grey '
            '(H, W) and BGR with alpha (H, W, 4) are taken as well'
        )
    if image.dtype != np.uint8:
        if not np.issubdtype(image.dtype, np.floating):
            raise ValueError(
                f'is of type {image.dtype}, where uint8 with values 0..255 is needed; '
                "for 16 bits that is (image / 257).round().astype('uint8')"
            )
        low, high = image.min(), image.max()
        if not (low >= 0 and high <= 255) or 0 < high <= 1:
            raise ValueError(
                f'has fractional numbers in {low:g}..{high:g}, where 0..255 are '
                'needed; from 0..1 multiply them by 255'
            )
        image = image.astype(np.float32)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image[..., :3]


@TRANSFORMS.register_module()
class PanopticResize(Resize):
    """mmdet's ``Resize`` whose map stays where the image is, and which names its image.

    Differs from ``Resize`` in that

    - ``gt_seg_map`` is resized by :func:`resize_map`;
    - the image may be an array of a caller: it is brought to three channels by
      :func:`to_color_image`, or refused;
    - no side gets shorter than a pixel, however thin the image is.

    Keys and arguments are those of ``Resize``.
    """

    def transform(self, results: dict) -> dict:
        """Resize image and map.

        Args:
            results (dict): Result dict.

        Returns:
            dict: The result dict at the new size.

        Raises:
            ValueError: If :func:`to_color_image` does not take the image.
        """
        try:
            results['img'] = to_color_image(results['img'])
        except ValueError as error:
            name = results.get('img_path') or 'the image given as an array'
            raise ValueError(f'{name} {error}') from error
        return super().transform(results)

    def _resize_img(self, results: dict) -> None:
        """Resize the image."""
        height, width = results['img'].shape[:2]
        size = results['scale']
        if self.keep_ratio:
            size = mmcv.rescale_size((width, height), size)
        size = tuple(max(side, 1) for side in size)
        results['img'] = mmcv.imresize(
            results['img'],
            size,
            interpolation=self.interpolation,
            backend=self.backend,
        )
        results['img_shape'] = results['img'].shape[:2]
        results['scale_factor'] = (size[0] / width, size[1] / height)
        results['keep_ratio'] = self.keep_ratio

    def _resize_seg(self, results: dict) -> None:
        """Resize the map to the size of the image."""
        if results.get('gt_seg_map') is not None:
            size = results['img'].shape[1::-1]
            results['gt_seg_map'] = resize_map(results['gt_seg_map'], size)


@TRANSFORMS.register_module()
class ResizeImageToLabel(BaseTransform):
    """Resize an image to the size that the annotation file gives for it.

    For data sets that are trained and scored at a size of their own, as KITTI panoptic
    (1280x384) and IDD (1280x720): their ground truth is stored at it, their images are
    not. From here on that size is the original one: predictions come back at it. Goes
    after loading the image and before loading the ground truth. An image that belongs
    to no data set, as in :func:`mmdet.apis.inference_detector`, passes unchanged.

    Required Keys:

    - img
    - height (optional)
    - width (optional)

    Modified Keys:

    - img
    - img_shape
    - ori_shape
    """

    def transform(self, results: dict) -> dict:
        """Resize the image, bilinearly.

        Args:
            results (dict): Result dict.

        Returns:
            dict: The result dict with the image at its new size.
        """
        if 'width' not in results:
            return results
        size = results['width'], results['height']
        if results['img'].shape[1::-1] != size:
            results['img'] = mmcv.imresize(results['img'], size)
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        """Give the name: there are no arguments."""
        return f'{type(self).__name__}()'
