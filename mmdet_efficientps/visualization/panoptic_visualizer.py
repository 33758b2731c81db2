# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Visualizer of panoptic predictions for MMEngine's runner and hooks."""

from __future__ import annotations

import mmcv
import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.palette import get_palette
from mmengine.dist import is_main_process

from ..datasets.transforms.resize import to_color_image
from ..structures.panoptic import (
    encode_panoptic,
    index_segments,
    read_panoptic_png,
)
from .panoptic_drawing import draw_comparison
from .predicted_image import at_size


@VISUALIZERS.register_module()
class PanopticVisualizer(DetLocalVisualizer):
    """Draws image, ground truth and prediction side by side, with a legend.

    mmdet's visualizer lays instances, semantic map and panoptic map over each other
    when a sample has all three, and needs a full-size mask for every segment. This
    one draws the panoptic map alone, instances outlined. The ground truth is read
    from the ``seg_map_path`` and ``segments_info`` of the sample where it has them.
    A sample without ``pred_panoptic_seg`` is drawn by the base class.

    Args:
        name (str): Name of the instance. Defaults to 'visualizer'.
        max_width (int): Wider pictures are scaled to this width before the backends
            get them, since training gives them some after every validation. Files and
            windows have them in full. Defaults to 2048.
        backend_args (dict | None): Storage backend of ``mmengine.fileio`` for the
            ground truth. Defaults to None, in which case
            :class:`PanopticVisualizationHook` gives it its own.
        **kwargs: Other arguments of the base class.
    """

    # what it draws, for PredictionNeedsHook
    needs = ('pred_panoptic_seg',)

    def __init__(
        self,
        name: str = 'visualizer',
        max_width: int = 2048,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(name, **kwargs)
        self.max_width = max_width
        self.backend_args = backend_args

    @property
    def dataset_meta(self) -> dict:
        """Metainfo of the data set, in every process.

        MMEngine's visualizer has it in the main process only, and each one of a test
        draws the images that it has predicted.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self._dataset_meta = dataset_meta

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.3,
        step: int = 0,
    ) -> None:
        """Draw a sample, and show it, write it, or give it to the backends.

        Every process of a test writes files; windows and backends are the main one's.

        Args:
            name (str): Identifier of the picture.
            image (np.ndarray): Shape (H, W, 3), uint8, RGB.
            data_sample (DetDataSample, optional): Sample with
                ``pred_panoptic_seg``.
            draw_gt (bool): Whether to draw the ground truth. Defaults to True.
            draw_pred (bool): Whether to draw the prediction. Defaults to True.
            show (bool): Whether to open a window. Defaults to False.
            wait_time (float): Seconds to show the window, 0 for until a key is
                pressed. Defaults to 0.
            out_file (str, optional): File to write; the backends get nothing then.
            pred_score_thr (float): Used by the base class only.
            step (int): Step given to the backends. Defaults to 0.
        """
        if data_sample is None or 'pred_panoptic_seg' not in data_sample:
            super().add_datasample(
                name,
                image,
                data_sample,
                draw_gt=draw_gt,
                draw_pred=draw_pred,
                show=show,
                wait_time=wait_time,
                out_file=out_file,
                pred_score_thr=pred_score_thr,
                step=step,
            )
            return
        classes = self.dataset_meta['classes']
        palette = self._palette(len(classes))
        prediction = data_sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()
        # mmdet's DetInferencer has arrays drawn as they were given, and its hook reads
        # photographs at their own size.
        image = at_size(to_color_image(image).astype(np.uint8), prediction.shape)
        panels = {}
        if draw_gt and data_sample.get('seg_map_path') is not None:
            panels['ground truth'] = self._ground_truth(data_sample, len(classes))
        if draw_pred:
            panels['prediction'] = prediction
        picture = draw_comparison(image, panels, classes, palette)
        if out_file is None and not is_main_process():
            return
        self.set_image(picture)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            if not mmcv.imwrite(picture[..., ::-1], out_file):
                height, width = picture.shape[:2]
                raise ValueError(
                    f'a picture of {width} x {height} pixels cannot be written to '
                    f'{out_file}: its format does not allow it, take .png'
                )
        else:
            height, width = picture.shape[:2]
            if width > self.max_width:
                size = self.max_width, round(height * self.max_width / width)
                picture = mmcv.imresize(picture, size, interpolation='area')
            self.add_image(name, picture, step)

    def _palette(self, num_classes: int) -> list[tuple[int, int, int]]:
        """Colors of the classes: those of the data set, or one of mmdet's by name."""
        palette = self.dataset_meta.get('palette')
        if isinstance(palette, str) or palette is None:
            try:
                return get_palette(palette, num_classes)
            except AssertionError:
                # it has too few colors
                return get_palette('random', num_classes)
        return list(palette)

    def _ground_truth(self, data_sample: DetDataSample, num_classes: int) -> np.ndarray:
        """Read the panoptic PNG of a sample in mmdet's encoding, (H, W)."""
        segments = data_sample.segments_info
        ids = read_panoptic_png(
            data_sample.seg_map_path, backend_args=self.backend_args
        )
        index = index_segments(ids, [s['id'] for s in segments])
        return encode_panoptic(
            index,
            [s['category'] for s in segments],
            [s['is_thing'] for s in segments],
            num_classes,
        )
