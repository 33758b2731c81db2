# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The views of an image for test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import TestTimeAug
from mmdet.registry import TRANSFORMS

# Those of the paper's multi-scale results, each with and without a flip.
RATIOS = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


@TRANSFORMS.register_module()
class PanopticTestTimeAug(TestTimeAug):
    """mmcv's ``TestTimeAug`` with views of several scales, each mirrored or not.

    Goes where a test pipeline has ``PanopticResize`` and ``PackPanopticTargets``.

    Required Keys: those of ``PanopticResize`` and ``PackPanopticTargets``.

    Result: ``inputs`` and ``data_samples``, a list of one for each view each, by ratio
    and then unflipped first.

    Args:
        scale (Sequence[int]): Width and height into which the image is fitted at ratio
            1, its aspect kept: the ``scale`` of the test pipeline.
        ratios (Sequence[float]): Ratios of the views to that, above 0. Defaults to
            those of the paper, 0.75 to 2 in steps of 0.25.
        flip (bool): Whether each view also comes mirrored. Defaults to True.
        meta_keys (Sequence[str]): As for ``PackPanopticTargets``; without ``flip``,
            ``flip_direction`` and ``scale_factor``, views cannot be merged. Defaults
            to what mmdet packs.

    Raises:
        ValueError: If there are no ratios, or one is not above 0.
    """

    def __init__(
        self,
        scale: Sequence[int],
        ratios: Sequence[float] = RATIOS,
        flip: bool = True,
        meta_keys: Sequence[str] | None = None,
    ) -> None:
        if not ratios or min(ratios) <= 0:
            raise ValueError(
                'ratios of PanopticTestTimeAug are the scales of the views, above 0 '
                f'and at least one, got {tuple(ratios)}'
            )
        pack: dict[str, Any] = {'type': 'PackPanopticTargets'}
        if meta_keys is not None:
            pack['meta_keys'] = tuple(meta_keys)
        probabilities = (0.0, 1.0) if flip else (0.0,)
        super().__init__(
            [
                [
                    {
                        'type': 'PanopticResize',
                        'scale': tuple(max(round(side * ratio), 1) for side in scale),
                        'keep_ratio': True,
                    }
                    for ratio in ratios
                ],
                [{'type': 'RandomFlip', 'prob': p} for p in probabilities],
                [pack],
            ]
        )
