# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Region proposals, right in mixed precision and for images of any size."""

from __future__ import annotations

from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers import checkpoint_activations


@MODELS.register_module()
class Float32RPNHead(RPNHead):
    """:class:`mmdet.models.RPNHead` whose outputs are float32 under autocast.

    mmdet makes anchors of the type of the scores. In half precision, pixels beyond
    1024 are then rounded, to whole ones in float16 and to eights in bfloat16, many
    scores become equal, and mmcv's NMS takes no half. The convolutions still run in
    half precision.

    An image narrower than every anchor, which ends the training in mmdet, is trained
    on all its anchors instead of those within ``train_cfg.allowed_border``.

    Elsewhere nothing differs.

    Args:
        with_cp (bool): Whether the convs are computed again in backward instead of
            keeping their activations. Defaults to False.
        kwargs: Arguments of the base class.
    """

    def __init__(self, with_cp: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.with_cp = with_cp

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict on one level.

        Args:
            x (Tensor): Features, (N, C, h, w).

        Returns:
            tuple[Tensor, Tensor]: Objectness (N, anchors, h, w) and box deltas
            (N, 4 * anchors, h, w), float32.
        """
        predict = super().forward_single
        score, deltas = (
            checkpoint_activations(predict, x) if self.with_cp else predict(x)
        )
        return score.float(), deltas.float()

    def _get_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
        *args,
        **kwargs,
    ) -> tuple:
        """Make the targets of one image; arguments and result as the base class."""
        cfg: dict = self.train_cfg  # type: ignore[has-type]
        shape = img_meta['img_shape'][:2]
        border = cfg['allowed_border']
        if not anchor_inside_flags(flat_anchors, valid_flags, shape, border).any():
            self.train_cfg = {**cfg, 'allowed_border': -1}
        try:
            return super()._get_targets_single(
                flat_anchors, valid_flags, gt_instances, img_meta, *args, **kwargs
            )
        finally:
            self.train_cfg = cfg
