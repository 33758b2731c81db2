# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Loading of street images and of panoptic ground truth."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.registry import TRANSFORMS

from mmdet_efficientps.structures.panoptic import read_panoptic_png
from mmdet_efficientps.structures.panoptic.index_map import (
    SEGMENT_DTYPE,
    make_index_map,
    segment_table,
)


@TRANSFORMS.register_module(name=['LoadCheckedImage', 'LoadImageFromFile'])
class LoadCheckedImage(LoadImageFromFile):
    """Load an image and name the file when that fails.

    The arguments, keys and images are those of mmcv's ``LoadImageFromFile``, whose
    error for an empty file comes from the decoder and does not say which file it was.
    Unless ``color_type`` says otherwise, images of all kinds (grey, with alpha or a
    palette, of 16 bits, CMYK) come out as BGR, shape (H, W, 3), uint8.

    In the registry of mmdet it has the name ``LoadImageFromFile`` too: mmdet's
    ``DetInferencer`` knows the loader of a test pipeline by that name alone.

    Required Keys:

    - img_path

    Added Keys:

    - img
    - img_shape
    - ori_shape
    """

    def transform(self, results: dict) -> dict | None:
        """Load the image.

        Args:
            results (dict): Result dict with ``img_path``.

        Returns:
            dict | None: The result dict; None for an unreadable image if
            ``ignore_empty`` was set.

        Raises:
            OSError: If there is no such file, or the system refuses to read it.
            ValueError: If the file cannot be decoded.
        """
        try:
            return super().transform(results)
        except (AssertionError, OSError, SyntaxError, ValueError, cv2.error) as error:
            # Decoders raise any of these; errno is set by the system alone.
            if getattr(error, 'errno', None) is not None:
                raise
            raise undecodable(results['img_path']) from error


def undecodable(name: object) -> ValueError:
    """Give the error for an image that no decoder takes.

    Args:
        name (object): File it is in.

    Returns:
        ValueError: Says which and what to do.
    """
    return ValueError(
        f'{name} cannot be decoded as an image: it is damaged, incomplete or of '
        'another type. Replace the file, or leave it out of the data'
    )


@TRANSFORMS.register_module()
class LoadPanopticMap(BaseTransform):
    """Load a panoptic PNG as an index map.

    For index maps see :mod:`mmdet_efficientps.structures.panoptic.index_map`.

    No boxes and no masks are made: :class:`PackPanopticTargets` makes them of what
    the geometric transforms leave of the map. Between the two, transforms of mmcv and
    mmdet that handle ``gt_seg_map`` (Resize, RandomResize, RandomCrop, RandomFlip,
    Pad, ...) or the image alone work as they are.

    An image without ``seg_map_path`` has no ground truth and passes unchanged.

    Required Keys:

    - ori_shape (or height and width)
    - seg_map_path
    - instances

      - ignore_flag
      - segment_id

    - segments_info

      - id
      - category

    Added Keys:

    - gt_seg_map (np.uint8 | np.uint16), (H, W), index map, 255 = void
    - gt_segments (structured np.ndarray), (M, ), table of the index map with label
      (class label, 255 if not used), is_instance (things, crowds included) and
      is_crowd

    Args:
        imdecode_backend (str): Decoder for :func:`mmcv.imfrombytes`.
            Defaults to 'cv2'.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.
    """

    def __init__(
        self, imdecode_backend: str = 'cv2', backend_args: dict | None = None
    ) -> None:
        self.imdecode_backend = imdecode_backend
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load the ground truth of one image.

        Args:
            results (dict): Result dict of :class:`PanopticDataset`.

        Returns:
            dict: The result dict with the added keys.

        Raises:
            FileNotFoundError: If the PNG is missing.
            ValueError: If the PNG cannot be decoded, has another size than the
                image, or holds an id that the annotation file does not list.
        """
        path = results.get('seg_map_path')
        if path is None:
            return results
        ids = read_panoptic_png(path, self.imdecode_backend, self.backend_args)
        self._check_size(ids, results)
        segments = results['segments_info']
        try:
            index_map = make_index_map(ids, [segment['id'] for segment in segments])
        except ValueError as error:
            raise ValueError(
                f'{path} does not fit the annotation file (segments_info): {error}'
            ) from error
        is_crowd = {i['segment_id']: i['ignore_flag'] for i in results['instances']}
        rows = [
            (s['category'], s['id'] in is_crowd, is_crowd.get(s['id'], False))
            for s in segments
        ]
        results['gt_seg_map'] = index_map
        results['gt_segments'] = segment_table(np.array(rows, dtype=SEGMENT_DTYPE))
        return results

    @staticmethod
    def _check_size(ids: np.ndarray, results: dict) -> None:
        """Compare the size of the PNG with that of the image.

        Args:
            ids (np.ndarray): Segment ids, shape (H, W).
            results (dict): Result dict.

        Raises:
            ValueError: If they differ.
        """
        image_shape = tuple(
            results.get('ori_shape') or (results['height'], results['width'])
        )
        if ids.shape != image_shape:
            raise ValueError(
                f'image and label differ in size (height, width): '
                f'{results["img_path"]} is {image_shape}, '
                f'{results["seg_map_path"]} is {ids.shape}'
            )

    def __repr__(self) -> str:
        """Give the arguments."""
        return (
            f'{type(self).__name__}(imdecode_backend={self.imdecode_backend!r}, '
            f'backend_args={self.backend_args})'
        )
