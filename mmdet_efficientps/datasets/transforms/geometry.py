# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Random scale and crop in one step."""

import random
from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import RandomResize
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS

from mmdet_efficientps.structures.panoptic.index_map import label_map

from .resize import resize_map


def scaled_window(
    image_size: tuple[int, int], factor: float, crop_size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Find the part of an image that fills a crop of the scaled image.

    Args:
        image_size (tuple[int, int]): Width and height of the image in pixels.
        factor (float): Scale of the image, above 0.
        crop_size (tuple[int, int]): Width and height of the crop in pixels.

    Returns:
        tuple: Width and height of the part in pixels of the image, and those of what
        it becomes. The latter is ``crop_size`` unless the scaled image is smaller.
    """
    out_width, out_height = (
        max(min(crop, round(factor * image)), 1)
        for image, crop in zip(image_size, crop_size, strict=True)
    )
    width, height = (
        max(min(round(out / factor), image), 1)
        for image, out in zip(image_size, (out_width, out_height), strict=True)
    )
    return (width, height), (out_width, out_height)


@TRANSFORMS.register_module()
class RandomScaleCrop(RandomResize):
    """Scale the image by a random factor and crop it, in the other order.

    What mmcv's ``RandomResize`` and mmdet's ``RandomCrop`` do in turn: the same
    scales, the same sizes and as many crops. But the crop is chosen in pixels of the
    source and only what it keeps is resized, the image bilinearly and the map to the
    nearest pixel, see :func:`~.resize.resize_map`. Corners of the crop lie on pixels of
    the source, so the two sides are scaled alike but for the rounding of the window to
    whole pixels.

    A scaled image smaller than the crop is kept whole, and the data preprocessor pads
    the batch.

    Required Keys:

    - img
    - gt_seg_map (np.uint8 | np.uint16), index map (optional)
    - gt_segments (optional, needed for ``rare_classes``)

    Modified Keys:

    - img
    - img_shape
    - gt_seg_map

    Added Keys:

    - scale_factor (tuple[float, float]), of x and y
    - crop_window (tuple[int, int, int, int]), xyxy in pixels of the image before

    Args:
        scale (tuple[int, int]): Width and height into which the image is fitted at
            ratio 1, its aspect kept.
        crop_size (tuple[int, int]): Width and height of the crop in pixels.
        ratio_range (tuple[float, float]): Lowest and highest ratio of the scale.
            Defaults to (1.0, 1.0).
        rare_classes (Sequence[int]): Labels of rare classes. An image that shows one
            is cropped around one of its pixels, with the probability ``rare_prob``;
            several rare classes are equally likely. Defaults to (): no class.
        rare_prob (float): Probability for ``rare_classes``. Defaults to 0.5.

    Raises:
        ValueError: If a size or ratio is not above 0, or ``rare_prob`` not in 0..1.
    """

    def __init__(
        self,
        scale: tuple[int, int],
        crop_size: tuple[int, int],
        ratio_range: tuple[float, float] = (1.0, 1.0),
        rare_classes: Sequence[int] = (),
        rare_prob: float = 0.5,
    ) -> None:
        if min(*scale, *crop_size) < 1:
            raise ValueError(
                'scale and crop_size of RandomScaleCrop are (width, height) in pixels, '
                f'above 0, got {scale} and {crop_size}'
            )
        if not 0 < ratio_range[0] <= ratio_range[1]:
            raise ValueError(
                'ratio_range of RandomScaleCrop is (lowest, highest), above 0, got '
                f'{ratio_range}'
            )
        if not 0 <= rare_prob <= 1:
            raise ValueError(
                f'rare_prob of RandomScaleCrop must be in 0..1, got {rare_prob}'
            )
        super().__init__(tuple(scale), tuple(ratio_range), keep_ratio=True)
        width, height = crop_size
        self.crop_size = (width, height)
        self.rare_classes = tuple(rare_classes)
        self.rare_prob = rare_prob

    def transform(self, results: dict) -> dict:
        """Scale and crop.

        Args:
            results (dict): Result dict.

        Returns:
            dict: The result dict with the image and map of the crop.
        """
        height, width = results['img'].shape[:2]
        size = (width, height)
        factor = mmcv.rescale_size(size, self._random_scale(), return_scale=True)[1]
        window, out_size = scaled_window(size, factor, self.crop_size)
        x, y = self._random_corner(results, size, window)
        columns, rows = slice(x, x + window[0]), slice(y, y + window[1])
        results['img'] = mmcv.imresize(results['img'][rows, columns], out_size)
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = resize_map(
                results['gt_seg_map'][rows, columns], out_size
            )
        results['img_shape'] = results['img'].shape[:2]
        results['scale_factor'] = (out_size[0] / window[0], out_size[1] / window[1])
        results['crop_window'] = (x, y, columns.stop, rows.stop)
        return results

    @cache_randomness
    def _random_corner(
        self, results: dict, size: tuple[int, int], window: tuple[int, int]
    ) -> tuple[int, int]:
        """Choose where the window begins.

        Args:
            results (dict): Result dict.
            size (tuple[int, int]): Width and height of the image.
            window (tuple[int, int]): Width and height of the window.

        Returns:
            tuple[int, int]: x and y of its first pixel.
        """
        lowest = np.zeros(2, dtype=int)
        highest = np.subtract(size, window)
        if self.rare_classes and highest.any() and random.random() < self.rare_prob:
            pixel = self._rare_pixel(results)
            if pixel is not None:
                highest = np.minimum(highest, pixel)
                lowest = np.maximum(lowest, np.subtract(pixel, window) + 1)
        x, y = (
            random.randint(int(low), int(high))
            for low, high in zip(lowest, highest, strict=True)
        )
        return x, y

    def _rare_pixel(self, results: dict) -> tuple[int, int] | None:
        """Choose a pixel of a rare class.

        Args:
            results (dict): Result dict with index map and table.

        Returns:
            tuple[int, int] | None: Its x and y; None if the image has no rare class.
        """
        index_map, segments = results['gt_seg_map'], results['gt_segments']
        # The table has the classes of the image, so most images need no look at pixels.
        labels = np.intersect1d(segments['label'], self.rare_classes)
        if not len(labels):
            return None
        is_rare = label_map(index_map, segments) == random.choice(labels)
        pixels = np.flatnonzero(is_rare)
        if not len(pixels):
            return None
        row, column = divmod(random.choice(pixels), index_map.shape[1])
        return column, row

    def __repr__(self) -> str:
        """Give the arguments."""
        return (
            f'{type(self).__name__}(scale={self.scale}, crop_size={self.crop_size}, '
            f'ratio_range={self.ratio_range}, rare_classes={self.rare_classes}, '
            f'rare_prob={self.rare_prob})'
        )
