# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Networks that predict images, whatever runs them: PyTorch or ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn

from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import Fused
from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.structures.panoptic import PanopticClasses

PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class Predictor(Protocol):
    """What the inferencer needs of a network.

    Attributes:
        classes (PanopticClasses): Classes in label order.
        thresholds (dict[str, float]): ``score_thr``, ``overlap_thr`` and
            ``min_stuff_area`` of the fusion.
    """

    classes: PanopticClasses
    thresholds: dict[str, float]

    def prepare(self, image: np.ndarray) -> Any:
        """Make the network input of an image, (H, W, 3), BGR; safe in any thread."""

    def batch_key(self, prepared: Any) -> Any:
        """Images whose keys are equal can be predicted together."""

    def predict(self, prepared: Sequence[Any]) -> list[FusionInputs]:
        """Run the network on inputs that :meth:`prepare` made."""

    def fingerprint(self) -> str:
        """Give a text that differs for networks whose results do."""

    def fuse(self, inputs: FusionInputs, **thresholds: float) -> Fused:
        """Make the panoptic map; each of ``thresholds`` replaces a configured one."""


class TorchPredictor:
    """A network in PyTorch.

    Args:
        model (nn.Module): Of :func:`~mmdet_efficientps.apis.init_model`.
        precision (str): 'fp32', or 'bf16' or 'fp16' for automatic mixed precision.
            Defaults to 'fp32'.

    Raises:
        TypeError: If the network is another one than EfficientPS.
        ValueError: If there is no such precision.
    """

    def __init__(self, model: Any, precision: str = 'fp32') -> None:
        if not hasattr(model, 'predict_fusion_inputs'):
            raise TypeError(
                f'the network is a {type(model).__name__}, and PanopticInferencer '
                'needs an EfficientPS: use mmdet.apis.DetInferencer for others'
            )
        if precision not in PRECISIONS:
            raise ValueError(
                f'precision is {precision!r}, must be one of {list(PRECISIONS)}'
            )
        self.model = model
        self.dtype = PRECISIONS[precision]
        self.device = next(model.parameters()).device
        self.classes = PanopticClasses.from_categories(model.dataset_meta['categories'])
        head = model.panoptic_fusion_head
        self.thresholds = {
            key: head.test_cfg.get(key, default)
            for key, default in head.DEFAULTS.items()
            if key != 'mask_logits_scale'
        }
        init_default_scope(self.model.cfg.get('default_scope', 'mmdet'))
        steps = get_test_pipeline_cfg(self.model.cfg.copy())
        # Images are read by the inferencer, and ground truth there is none.
        self.pipeline = Compose(
            [step for step in steps if not step['type'].startswith('Load')]
        )
        self.divisor = self.model.data_preprocessor.pad_size_divisor

    def prepare(self, image: np.ndarray) -> dict:
        """Run the test pipeline.

        Args:
            image (np.ndarray): (H, W, 3), BGR.

        Returns:
            dict: ``inputs`` (3, h, w) and ``data_samples``.
        """
        shape = image.shape[:2]
        return self.pipeline(
            {'img': image, 'img_shape': shape, 'ori_shape': shape, 'img_id': 0}
        )

    def batch_key(self, prepared: dict) -> tuple[int, ...]:
        """Give the size after padding: no image gets more of it beside another."""
        return tuple(
            -(-side // self.divisor) * self.divisor
            for side in prepared['inputs'].shape[-2:]
        )

    @torch.inference_mode()
    def predict(self, prepared: Sequence[dict]) -> list[FusionInputs]:
        """Run the network.

        Args:
            prepared (Sequence[dict]): What :meth:`prepare` gave.

        Returns:
            list[FusionInputs]: One for each image.
        """
        data = pseudo_collate(list(prepared))
        data = self.model.data_preprocessor(data, False)
        with torch.autocast(
            self.device.type, self.dtype, enabled=self.dtype is not None
        ):
            return self.model.predict_fusion_inputs(
                data['inputs'], data['data_samples']
            )

    def fingerprint(self) -> str:
        """Give a hash of the weights, beside config and precision."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
        config = self.model.cfg
        return f'{digest.hexdigest()} {self.dtype} {config.model} {self.pipeline}'

    @torch.inference_mode()
    def fuse(self, inputs: FusionInputs, **thresholds: float) -> Fused:
        """Make the panoptic map with the fusion head of the network."""
        return self.model.panoptic_fusion_head.fuse(inputs, **thresholds)


def build_predictor(
    model: str | Path | nn.Module,
    weights: str | Path | None,
    device: str | None,
    precision: str,
) -> Predictor:
    """Make the predictor of whatever a user has; see :class:`PanopticInferencer`."""
    from .model_zoo import init_model

    if isinstance(model, nn.Module):
        return TorchPredictor(model, precision)
    if weights is None and not str(model).endswith(('.pth', '.pt')):
        raise ValueError(
            f'{model} is a config, and there are no weights: give the checkpoint, too'
        )
    return TorchPredictor(init_model(model, weights, device or 'auto'), precision)
