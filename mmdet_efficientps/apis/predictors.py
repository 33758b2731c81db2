# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Networks that predict images, whatever runs them: PyTorch or ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn

from mmdet_efficientps.deployment import panoptic_onnx
from mmdet_efficientps.models import prepare_for_inference
from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import Fused
from mmdet_efficientps.models.test_time_augs import PanopticTTAModel
from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.structures.panoptic import PanopticClasses

from .model_zoo import init_model
from .tiling import check_tiling, predict_tiles

PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class Predictor(Protocol):
    """What the inferencer needs of a network.

    Attributes:
        classes (PanopticClasses): Classes in label order.
        thresholds (dict[str, float]): ``score_thr``, ``overlap_thr`` and
            ``min_stuff_area`` of the fusion.
        mask_thr (float): Probability from which a pixel belongs to the mask of a
            detection.
    """

    classes: PanopticClasses
    thresholds: dict[str, float]
    mask_thr: float

    def prepare(self, image: np.ndarray) -> Any:
        """Make the network input of an image, (H, W, 3), BGR; safe in any thread."""

    def batch_key(self, prepared: Any) -> Any:
        """Images whose keys are equal can be predicted together."""

    def predict(
        self, prepared: Sequence[Any], score_thr: float = 0.0
    ) -> list[FusionInputs]:
        """Run the network on inputs that :meth:`prepare` made.

        Detections below ``score_thr`` are not needed.
        """

    def fingerprint(self) -> str:
        """Give a text that differs for networks whose results do."""

    def fuse(self, inputs: FusionInputs, **thresholds: float) -> Fused:
        """Make the panoptic map; each of ``thresholds`` replaces a configured one."""


class TorchPredictor:
    """A network in PyTorch.

    Args:
        model (nn.Module): Of :func:`~mmdet_efficientps.apis.init_model`.
        precision (str): 'fp32', 'bf16' or 'fp16': what weights and features are in.
            Defaults to 'fp32'.
        prepare (bool): Whether to predict with a copy that is faster and equal up to
            rounding, see :func:`~mmdet_efficientps.models.prepare_for_inference`;
            else half precision is automatic mixed precision. Defaults to True.
        tta (bool): Whether to predict several views of each image, those of
            ``tta_pipeline`` of the config, and merge them. Defaults to False.

    Raises:
        TypeError: If the network is another one than EfficientPS.
        ValueError: If there is no such precision, or the config has no
            ``tta_pipeline``.
    """

    def __init__(
        self,
        model: Any,
        precision: str = 'fp32',
        prepare: bool = True,
        tta: bool = False,
    ) -> None:
        if not hasattr(model, 'predict_fusion_inputs'):
            raise TypeError(
                f'the network is a {type(model).__name__}, and PanopticInferencer '
                'needs an EfficientPS: use mmdet.apis.DetInferencer for others'
            )
        if precision not in PRECISIONS:
            raise ValueError(
                f'precision is {precision!r}, must be one of {list(PRECISIONS)}'
            )
        self._identity = _digest(model, precision, prepare)
        dtype = PRECISIONS[precision]
        self.autocast_dtype = None if prepare else dtype
        if prepare:
            model = prepare_for_inference(model, dtype=dtype)
        self.model: Any = model
        self.device = next(model.parameters()).device
        self.classes = PanopticClasses.from_categories(model.dataset_meta['categories'])
        head = model.panoptic_fusion_head
        self.thresholds = {
            key: head.test_cfg.get(key, default)
            for key, default in head.DEFAULTS.items()
            if key != 'mask_logits_scale'
        }
        init_default_scope(self.model.cfg.get('default_scope', 'mmdet'))
        if tta:
            if 'tta_pipeline' not in self.model.cfg:
                raise ValueError(
                    'the config of the network has no tta_pipeline, which says what '
                    'views of an image to predict: give a config that has one, as '
                    'those of this package do, and the checkpoint'
                )
            steps = self.model.cfg.tta_pipeline
            self.tta_model = PanopticTTAModel(self.model).eval()
        else:
            steps = get_test_pipeline_cfg(self.model.cfg.copy())
        self.tta = tta
        self.mask_thr = self.model.roi_head.test_cfg.mask_thr_binary
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
            dict: ``inputs`` (3, h, w) and ``data_samples``, or for each view a list of
            these.
        """
        shape = image.shape[:2]
        return self.pipeline(
            {'img': image, 'img_shape': shape, 'ori_shape': shape, 'img_id': 0}
        )

    def batch_key(self, prepared: dict) -> list[int]:
        """Give the size after padding: no image gets more of it beside another."""
        views = prepared['inputs'] if self.tta else [prepared['inputs']]
        return [
            -(-side // self.divisor) * self.divisor
            for view in views
            for side in view.shape[-2:]
        ]

    @torch.inference_mode()
    def predict(
        self, prepared: Sequence[dict], score_thr: float = 0.0
    ) -> list[FusionInputs]:
        """Run the network.

        Args:
            prepared (Sequence[dict]): What :meth:`prepare` gave.
            score_thr (float): Detections below cost no mask and are left out.
                Defaults to 0.

        Returns:
            list[FusionInputs]: One for each image.
        """
        data = pseudo_collate(list(prepared))
        dtype = self.autocast_dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            if self.tta:
                return self.tta_model.predict_fusion_inputs(data, score_thr)
            data = self.model.data_preprocessor(data, False)
            return self.model.predict_fusion_inputs(
                data['inputs'], data['data_samples'], score_thr=score_thr
            )

    def fingerprint(self) -> str:
        """Give a hash of the weights, beside what is done to images."""
        return f'{self._identity} {self.pipeline}'

    @torch.inference_mode()
    def fuse(self, inputs: FusionInputs, **thresholds: float) -> Fused:
        """Make the panoptic map with the fusion head of the network."""
        return self.model.panoptic_fusion_head.fuse(inputs, **thresholds)


class OnnxPredictor:
    """An exported network in ONNX Runtime, with the code that needs no PyTorch.

    Args:
        model (str | Path): The ``.onnx``.
        device (str, optional): 'cuda', or with a number, for ONNX Runtime on a GPU.
            Defaults to the CPU, with as many threads as PyTorch has.

    Raises:
        ImportError: If ONNX Runtime is not installed.
        ValueError: If the file is no exported network.
    """

    def __init__(self, model: str | Path, device: str | None = None) -> None:
        on_gpu = device is not None and device.startswith('cuda')
        providers = ['CUDAExecutionProvider'] if on_gpu else None
        self.network = panoptic_onnx.PanopticOnnx(
            model, providers, torch.get_num_threads()
        )
        self.classes = PanopticClasses.from_categories(self.network.categories)
        self.thresholds = {
            key: self.network.metadata['fusion'][key]
            for key in ('score_thr', 'overlap_thr', 'min_stuff_area')
        }
        self.mask_thr = 0.5
        self._identity = hashlib.sha256(Path(model).read_bytes()).hexdigest()

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Take an image: the runtime does the rest."""
        return image.astype(np.uint8, copy=False)

    def batch_key(self, prepared: np.ndarray) -> object:
        """Give a key that no other image has: one goes through at a time."""
        return object()

    def predict(
        self, prepared: Sequence[np.ndarray], score_thr: float = 0.0
    ) -> list[FusionInputs]:
        """Run the network on each image; it gives all that it was exported to give."""
        found = [self.network.logits(image) for image in prepared]
        return [
            FusionInputs(
                torch.from_numpy(logits.bboxes),
                torch.from_numpy(logits.scores),
                torch.from_numpy(logits.labels),
                torch.from_numpy(logits.mask_logits),
                torch.from_numpy(logits.seg_logits),
                logits.valid_shape,
                logits.out_shape,
            )
            for logits in found
        ]

    def fingerprint(self) -> str:
        """Give a hash of the file."""
        return self._identity

    def fuse(self, inputs: FusionInputs, **thresholds: Any) -> Fused:
        """Make the panoptic map with the fusion of the runtime."""
        logits = panoptic_onnx.PanopticLogits(
            inputs.bboxes.numpy(),
            inputs.scores.numpy(),
            inputs.labels.numpy(),
            inputs.mask_logits.numpy(),
            inputs.seg_logits.numpy(),
            inputs.out_shape,
            inputs.valid_shape,
        )
        panoptic, kept = self.network.fuse(logits, **thresholds)
        return Fused(torch.from_numpy(panoptic), kept.tolist())


class TiledPredictor:
    """Predicts images that are larger than a tile in tiles, whatever the network.

    Args:
        predictor (Predictor): The network.
        tile (tuple[int, int]): Width and height of a tile in pixels.
        overlap (float): Share of a tile that the next one shows as well.
        batch_size (int): How many tiles go through the network at once.

    Raises:
        ValueError: If tiles are too small or the overlap too large.
    """

    def __init__(
        self,
        predictor: Predictor,
        tile: tuple[int, int],
        overlap: float,
        batch_size: int,
    ) -> None:
        check_tiling(tile, overlap)
        self.predictor = predictor
        self.tile = tile
        self.overlap = overlap
        self.batch_size = batch_size
        self.classes = predictor.classes
        self.thresholds = predictor.thresholds
        self.mask_thr = predictor.mask_thr

    def prepare(self, image: np.ndarray) -> Any:
        """Prepare an image of one tile; another one stays as it is."""
        height, width = image.shape[:2]
        if width > self.tile[0] or height > self.tile[1]:
            return _LargeImage(image)
        return self.predictor.prepare(image)

    def batch_key(self, prepared: Any) -> Any:
        """Give the key of the network for images of one tile; others are alone."""
        if isinstance(prepared, _LargeImage):
            return object()
        return self.predictor.batch_key(prepared)

    def predict(
        self, prepared: Sequence[Any], score_thr: float = 0.0
    ) -> list[FusionInputs]:
        """Run the network, on one image in tiles or on several of one tile each."""
        if not isinstance(prepared[0], _LargeImage):
            return self.predictor.predict(prepared, score_thr)
        # An object that is sure in one tile is joined with unsure parts in others.
        return [
            predict_tiles(
                large.image, self._predict, self.tile, self.overlap, self.batch_size
            )
            for large in prepared
        ]

    def _predict(self, tiles: list[np.ndarray]) -> list[FusionInputs]:
        return self.predictor.predict([self.predictor.prepare(tile) for tile in tiles])

    def fingerprint(self) -> str:
        """Give that of the network, and the tiles."""
        return f'{self.predictor.fingerprint()} {self.tile} {self.overlap}'

    def fuse(self, inputs: FusionInputs, **thresholds: float) -> Fused:
        """Make the panoptic map as the network does."""
        return self.predictor.fuse(inputs, **thresholds)


@dataclass
class _LargeImage:
    """An image that will be cut into tiles, (H, W, 3), BGR."""

    image: np.ndarray


def build_predictor(
    model: str | Path | nn.Module,
    weights: str | Path | None = None,
    device: str | None = None,
    precision: str = 'fp32',
    prepare: bool = True,
    tta: bool = False,
) -> TorchPredictor | OnnxPredictor:
    """Make the predictor of whatever a user has.

    Args:
        model (str | Path | nn.Module): See :class:`PanopticInferencer`, as for the
            others.
        weights (str | Path, optional): See there.
        device (str, optional): See there.
        precision (str): See there.
        prepare (bool): See there.
        tta (bool): See there.

    Returns:
        TorchPredictor | OnnxPredictor: The predictor.

    Raises:
        ValueError: If weights are missing, or an exported network is to do what it
            cannot.
    """
    if isinstance(model, nn.Module):
        return TorchPredictor(model, precision, prepare, tta)
    if str(model).endswith('.onnx'):
        if weights is not None or tta or precision != 'fp32':
            raise ValueError(
                f'{model} is an exported network: it has its weights and precision, '
                'and there is no test-time augmentation for it'
            )
        return OnnxPredictor(model, device)
    if weights is None and not str(model).endswith(('.pth', '.pt')):
        raise ValueError(
            f'{model} is a config, and there are no weights: give the checkpoint, too'
        )
    network = init_model(model, weights, device or 'auto')
    return TorchPredictor(network, precision, prepare, tta)


def _digest(model: Any, *settings: object) -> str:
    """Give a hash of a network with its weights, and of some settings."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
    return f'{digest.hexdigest()} {settings} {model.cfg.model}'
