# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Loading of street images and of panoptic ground truth."""

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import LoadPanopticAnnotations
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from mmengine.fileio import get
from scipy import ndimage

from mmdet_efficientps.utils.panoptic_ids import index_segments, rgb2id

IGNORE_INDEX = 255


def load_panoptic_png(
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
    # OpenCV raises on an empty buffer and gives None on any other damage.
    bgr = (
        mmcv.imfrombytes(content, flag='unchanged', backend=imdecode_backend)
        if content
        else None
    )
    if bgr is None:
        raise ValueError(
            f'{path} cannot be decoded as a PNG: it is damaged or incomplete. '
            'Make it again with the converter that made it.'
        )
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8:
        raise ValueError(
            f'{path} is no panoptic PNG: expected 8-bit RGB, got shape {bgr.shape} '
            f"and type {bgr.dtype}. Does data_prefix['seg'] name the right folder?"
        )
    return rgb2id(bgr[..., ::-1])


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """Load an image and name the file when that fails.

    The arguments and keys are those of mmcv's ``LoadImageFromFile``, whose error
    for an empty file comes from the decoder and does not say which file it was.

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
            FileNotFoundError: If there is no such file.
            ValueError: If the file cannot be decoded.
        """
        try:
            return super().transform(results)
        except (AssertionError, cv2.error) as error:
            raise ValueError(
                f'{results["img_path"]} cannot be decoded as an image: it is damaged, '
                'incomplete or of another type. Replace the file or remove its entry '
                'from the annotation file.'
            ) from error


@TRANSFORMS.register_module()
class LoadPanopticSegments(LoadPanopticAnnotations):
    """Load boxes, masks and semantic map from a panoptic PNG.

    Boxes are the tight boxes of the masks, not those of the json: x2 and y2 are
    one past the last column and row of the segment. Crowd (group) things come as
    ignored instances, and the semantic map shows them with their class. A segment
    of the json without any pixel in the PNG has neither box nor mask.

    An image without ``seg_map_path`` has no ground truth and passes unchanged.

    Required Keys:

    - ori_shape (or height and width)
    - seg_map_path
    - instances

      - bbox_label
      - ignore_flag
      - segment_id

    - segments_info

      - id
      - category

    Added Keys:

    - gt_bboxes (BaseBoxes[torch.float32]), (N, 4), xyxy in pixels
    - gt_bboxes_labels (np.int64), (N, )
    - gt_ignore_flags (bool), (N, )
    - gt_masks (BitmapMasks), (N, H, W), one per instance, the ignored included
    - gt_seg_map (np.uint8), (H, W), class labels, 255 = void

    Modified Keys:

    - instances (bbox is set, instances without pixels are dropped)

    Args:
        with_bbox (bool): Whether to give boxes and ignore flags. Defaults to True.
        with_label (bool): Whether to give the labels of the boxes.
            Defaults to True.
        with_mask (bool): Whether to give masks. Defaults to True.
        with_seg (bool): Whether to give the semantic map. Defaults to True.
        box_type (str | None): Box type of mmdet; None gives an array.
            Defaults to 'hbox'.
        imdecode_backend (str): Decoder for :func:`mmcv.imfrombytes`.
            Defaults to 'cv2'.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = True,
        with_seg: bool = True,
        box_type: str | None = 'hbox',
        imdecode_backend: str = 'cv2',
        backend_args: dict | None = None,
    ) -> None:
        # Passes over the parent, which refuses to start without panopticapi.
        super(LoadPanopticAnnotations, self).__init__(
            with_bbox=with_bbox,
            with_label=with_label,
            with_mask=with_mask,
            with_seg=with_seg,
            with_keypoints=False,
            box_type=box_type,
            imdecode_backend=imdecode_backend,
            backend_args=backend_args,
        )

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
        ids = load_panoptic_png(path, self.imdecode_backend, self.backend_args)
        self._check_size(ids, results)
        segments = results['segments_info']
        try:
            index = index_segments(ids, [segment['id'] for segment in segments])
        except ValueError as error:
            raise ValueError(
                f'{path} does not fit the annotation file (segments_info): {error}'
            ) from error

        numbers = {segment['id']: k for k, segment in enumerate(segments, start=1)}
        regions = [None, *ndimage.find_objects(index, max_label=len(segments))]
        visible = []
        masks = []
        for instance in results['instances']:
            number = numbers[instance['segment_id']]
            region = regions[number]
            if region is None:
                continue
            rows, columns = region
            box = [columns.start, rows.start, columns.stop, rows.stop]
            visible.append({**instance, 'bbox': box})
            if self.with_mask:
                mask = np.zeros(index.shape, dtype=np.uint8)
                mask[region] = index[region] == number
                masks.append(mask)
        results['instances'] = visible

        if self.with_bbox:
            self._load_bboxes(results)
        if self.with_label:
            self._load_labels(results)
        if self.with_mask:
            results['gt_masks'] = BitmapMasks(masks, *index.shape)
        if self.with_seg:
            categories = [segment['category'] for segment in segments]
            results['gt_seg_map'] = np.array(
                [IGNORE_INDEX, *categories], dtype=np.uint8
            )[index]
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
