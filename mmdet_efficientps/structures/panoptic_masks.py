# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Instance masks that share one map."""

from collections.abc import Iterator

import mmcv
import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures.mask import BitmapMasks


class PanopticMasks(BitmapMasks):
    """Masks of instances that do not overlap, kept as one map of numbers.

    A bitmap per instance takes N times the memory of the map, in the worker, on the
    way to the main process and in the mask targets. Here a bitmap exists only while
    it is looked at: of the tight box of one instance at a time for mask targets, of
    the whole image for whatever asks for ``masks``. So everything that takes mmdet's
    ``BitmapMasks`` takes these; methods that change the geometry give
    ``BitmapMasks``, except :meth:`pad`.

    Args:
        index_map (np.ndarray): Number of the segment each pixel belongs to, shape
            (H, W), uint8 or uint16.
        numbers (np.ndarray): Number of every instance in the map, shape (N,),
            integers.
        boxes (np.ndarray): Boxes around the instances, tight or larger, shape (N, 4),
            integers, xyxy in pixels; x2 and y2 are one past the last column and row.
        void (int): A number of the map that no instance has. Defaults to 255.

    Examples:
        >>> index_map = np.array([[1, 1, 2], [0, 0, 2]], np.uint8)
        >>> masks = PanopticMasks(index_map, np.array([2]), np.array([[2, 0, 3, 2]]))
        >>> masks.masks
        array([[[0, 0, 1],
                [0, 0, 1]]], dtype=uint8)
    """

    def __init__(
        self,
        index_map: np.ndarray,
        numbers: np.ndarray,
        boxes: np.ndarray,
        void: int = 255,
    ) -> None:
        self.index_map = index_map
        self.numbers = numbers
        self.boxes = boxes
        self.void = void
        self.height, self.width = index_map.shape

    @property
    def masks(self) -> np.ndarray:
        """The bitmaps, shape (N, H, W), uint8; made anew on every access."""
        bitmaps = np.zeros((len(self), self.height, self.width), dtype=np.uint8)
        for bitmap, number, (x1, y1, x2, y2) in zip(
            bitmaps, self.numbers, self.boxes, strict=True
        ):
            bitmap[y1:y2, x1:x2] = self.index_map[y1:y2, x1:x2] == number
        return bitmaps

    def __len__(self) -> int:
        """Number of instances."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Give the bitmaps one by one, shape (H, W), uint8."""
        return (self[k].masks[0] for k in range(len(self)))

    def __repr__(self) -> str:
        """Say how many masks there are and of what size."""
        return (
            f'{type(self).__name__}(num_masks={len(self)}, height={self.height}, '
            f'width={self.width})'
        )

    def __getitem__(self, index: int | slice | np.ndarray) -> 'PanopticMasks':
        """Select instances; the map is shared, not copied.

        Args:
            index (int | slice | np.ndarray): What numpy takes as an index.

        Returns:
            PanopticMasks: The instances selected.
        """
        return PanopticMasks(
            self.index_map,
            self.numbers[index].reshape(-1),
            self.boxes[index].reshape(-1, 4),
            self.void,
        )

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        """Pad at the right and at the bottom.

        Args:
            out_shape (tuple[int, int]): Height and width in pixels.
            pad_val (int): Value of the added pixels in every bitmap. Defaults to 0.

        Returns:
            BitmapMasks: The padded masks, :class:`PanopticMasks` if ``pad_val`` is 0.
        """
        if pad_val:
            return super().pad(out_shape, pad_val)
        padded = mmcv.impad(self.index_map, shape=out_shape, pad_val=self.void)
        return PanopticMasks(padded, self.numbers, self.boxes, self.void)

    def crop_and_resize(
        self,
        bboxes: np.ndarray | torch.Tensor,
        out_shape: tuple[int, int],
        inds: np.ndarray | torch.Tensor,
        device: str | torch.device = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> BitmapMasks:
        """Crop masks to boxes and resize them: the targets of the mask head.

        The result is that of ``BitmapMasks``, which expands one full-size float map
        per box on ``device`` for it. Coordinates are counted from the window of the
        instance, so values differ in the last bits, and so may the rounding of a
        pixel that is exactly half covered.

        Args:
            bboxes (np.ndarray | torch.Tensor): Boxes, shape (M, 4), float, xyxy in
                pixels.
            out_shape (tuple[int, int]): Height and width of the targets.
            inds (np.ndarray | torch.Tensor): Instance of each box, shape (M,).
            device (str | torch.device): Where to compute. Defaults to 'cpu'.
            interpolation (str): Not used, as in ``BitmapMasks``.
            binarize (bool): Whether to round the targets to 0 or 1.
                Defaults to True.

        Returns:
            BitmapMasks: Shape ``(M, *out_shape)``, bool if ``binarize``, else the type
            of ``bboxes``.
        """
        bboxes = torch.as_tensor(bboxes, device=device)
        inds = np.asarray(torch.as_tensor(inds).cpu())
        targets = bboxes.new_zeros((len(bboxes), *out_shape))
        for instance in np.unique(inds):
            rows = torch.from_numpy(np.flatnonzero(inds == instance)).to(device)
            x1, y1, x2, y2 = self.boxes[instance]
            # RoIAlign repeats the border of what it is given, so the window needs a
            # ring of background wherever it does not end with the image.
            x1, y1 = max(x1 - 1, 0), max(y1 - 1, 0)
            window = self.index_map[y1 : y2 + 1, x1 : x2 + 1]
            mask = torch.from_numpy(window == self.numbers[instance])
            mask = mask.to(device, bboxes.dtype)[None, None]
            rois = bboxes[rows] - bboxes.new_tensor([x1, y1, x1, y1])
            rois = torch.cat((rois.new_zeros((len(rois), 1)), rois), dim=1)
            aligned = roi_align(mask, rois, out_shape, 1.0, 0, 'avg', True)
            targets[rows] = aligned.squeeze(1)
        if binarize:
            targets = targets >= 0.5
        return BitmapMasks(targets.cpu().numpy(), *out_shape)

    # What several images have together is no single map any more.
    cat = BitmapMasks.cat
