# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Brings images to the size of their ground truth."""

import mmcv
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


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
