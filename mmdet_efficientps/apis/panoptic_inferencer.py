# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic results of images of any kind."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import semantic_argmax
from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.structures.panoptic import PanopticClasses
from mmdet_efficientps.structures.roi_masks import run_length_masks

from .image_inputs import InputImage, iterate_inputs
from .panoptic_result import Instances, PanopticResult
from .predictors import Predictor, TiledPredictor, build_predictor

Problem = Callable[[InputImage, Exception], None]

_OUT_OF_MEMORY = (
    'out of memory',
    'not enough memory',
    'insufficient memory',
    "can't allocate memory",
    'failed to allocate memory',
    'bad allocation',
    'bad_alloc',
)


class PanopticInferencer:
    """Predicts images, folders, videos and arrays with a trained network.

    Example::

        inferencer = PanopticInferencer('work_dirs/mine/iter_5000.pth')
        (result,) = inferencer('street.jpg')
        for segment in result.segments:
            print(result.class_of(segment).name, segment.area, segment.score)
        cv2.imwrite('drawn.png', result.draw(cv2.imread('street.jpg')))

    Args:
        model (str | Path | nn.Module): A checkpoint of a training run, which holds its
            config; or a config file or the name of one that comes with the package,
            with ``weights``; or an exported ``.onnx``; or a network of
            :func:`~mmdet_efficientps.apis.init_model`.
        weights (str | Path, optional): Checkpoint, file or address, for a config.
        device (str, optional): Torch device. Defaults to the GPU if there is one, else
            the CPU.
        precision (str): 'fp32', 'bf16' or 'fp16'. Defaults to 'fp32'.
        batch_size (int): How many images go through the network at once, if they are
            of one size after padding. Results do not depend on it. Defaults to 1.
        score_thr (float, optional): Detections below are not fused. Defaults to what
            the config says, as do the next two.
        overlap_thr (float, optional): Largest share of a thing that may be covered by
            surer ones.
        min_stuff_area (int, optional): Stuff classes with fewer pixels become void.
        tta (bool): Whether to predict each image in several sizes and mirrored, as the
            ``tta_pipeline`` of the config says, and to merge that before the fusion:
            slower, and mostly better. Defaults to False.
        tile (tuple[int, int], optional): Width and height in pixels of the overlapping
            tiles in which larger images are predicted. Each is an image to the network:
            choose the size of the images it was trained on. Defaults to None, for the
            whole image at once.
        overlap (float): Share of a tile that the next one shows as well. Defaults to
            0.2.
        prepare (bool): Whether a network in PyTorch is made faster, which changes
            results by no more than rounding. Defaults to True.
        instances (bool): Whether results have all detections, too. Defaults to False.
        semantic (bool): Whether results have the map of the semantic head, too.
            Defaults to False.
        loader (Callable[[str], np.ndarray], optional): Reads addresses with ``://``,
            gives (H, W, 3), uint8, BGR.

    Attributes:
        classes (PanopticClasses): Classes in label order, things first.
        thresholds (dict[str, float]): Those in use.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the checkpoint cannot be read or is of another network.
        TypeError: If the network is another one than EfficientPS.
        ValueError: If an argument is out of range, or weights are missing.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        weights: str | Path | None = None,
        device: str | None = None,
        precision: str = 'fp32',
        batch_size: int = 1,
        score_thr: float | None = None,
        overlap_thr: float | None = None,
        min_stuff_area: int | None = None,
        tta: bool = False,
        tile: tuple[int, int] | None = None,
        overlap: float = 0.2,
        prepare: bool = True,
        instances: bool = False,
        semantic: bool = False,
        loader: Callable[[str], np.ndarray] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f'batch_size is {batch_size}, must be 1 or more')
        given: dict[str, float] = {}
        for key, value, largest in (
            ('score_thr', score_thr, 1.0),
            ('overlap_thr', overlap_thr, 1.0),
            ('min_stuff_area', min_stuff_area, float('inf')),
        ):
            if value is None:
                continue
            if not 0 <= value <= largest:
                raise ValueError(f'{key} is {value}, must be from 0 to {largest:g}')
            given[key] = value
        predictor: Predictor = build_predictor(
            model, weights, device, precision, prepare, tta
        )
        if tile is not None:
            predictor = TiledPredictor(predictor, tile, overlap, batch_size)
        self.predictor = predictor
        self.thresholds = self.predictor.thresholds | given
        self.batch_size = batch_size
        self.instances = instances
        self.semantic = semantic
        self.loader = loader

    @property
    def classes(self) -> PanopticClasses:
        """Classes in label order, things first."""
        return self.predictor.classes

    def __call__(self, inputs: Any) -> list[PanopticResult]:
        """Predict all of the inputs and keep all results.

        Args:
            inputs (Any): As for :meth:`stream`.

        Returns:
            list[PanopticResult]: One for each image.

        Raises:
            Exception: What went wrong with the first image that cannot be predicted.
        """
        return list(self.stream(inputs))

    def stream(
        self, inputs: Any, problem: Problem | None = None
    ) -> Iterator[PanopticResult]:
        """Predict the inputs and give the results one by one, in their order.

        Images are read and prepared while the network works, a few ahead: memory does
        not grow with their number.

        Args:
            inputs (Any): Path of an image or video, folder, pattern (``*``), number of
                a camera, array (H, W, 3), BGR, PIL image, or a list or generator of
                these.
            problem (Callable[[InputImage, Exception], None], optional): Called for
                each image that cannot be predicted, which is left out. Defaults to
                None: the error is raised.

        Yields:
            PanopticResult: Of the size of its image.

        Raises:
            FileNotFoundError: If a path does not exist or a folder has no images.
            Exception: What is wrong with an image, without ``problem``.
        """
        images = iterate_inputs(inputs, self.loader)
        for _, result in self.stream_images(images, problem):
            yield result

    def stream_images(
        self,
        images: Iterable[InputImage],
        problem: Problem | None = None,
        known: Callable[[InputImage], PanopticResult | None] = lambda image: None,
    ) -> Iterator[tuple[InputImage, PanopticResult]]:
        """Predict images that were read, and give them beside their results.

        Args:
            images (Iterable[InputImage]): The images; they are taken in another
                thread, a few ahead.
            problem (Callable[[InputImage, Exception], None], optional): As for
                :meth:`stream`.
            known (Callable[[InputImage], PanopticResult | None]): Gives the result of
                an image that was predicted before. Defaults to none.

        Yields:
            tuple[InputImage, PanopticResult]: Both, in the order of the images.
        """
        batch: list[tuple[InputImage, Any]] = []
        key = None
        for image, prepared in _ahead(
            self._prepare(images, known), self.batch_size + 2
        ):
            if image.problem is not None or isinstance(prepared, PanopticResult):
                # What is before it comes first.
                yield from self._predict_batch(batch, problem)
                batch = []
                if image.problem is not None:
                    _report(image, image.problem, problem)
                else:
                    yield image, prepared
                continue
            own_key = self.predictor.batch_key(prepared)
            if batch and own_key != key:
                yield from self._predict_batch(batch, problem)
                batch = []
            key = own_key
            batch.append((image, prepared))
            if len(batch) == self.batch_size:
                yield from self._predict_batch(batch, problem)
                batch = []
        yield from self._predict_batch(batch, problem)

    def fingerprint(self) -> str:
        """Tell runs apart whose results differ.

        Returns:
            str: Hash of the network, its weights, and what was asked for; batch size
            and device do not count.
        """
        settings = (self.thresholds, self.instances, self.semantic)
        text = f'{self.predictor.fingerprint()} {settings}'
        return hashlib.sha256(text.encode()).hexdigest()

    def predict_fusion_inputs(self, images: list[np.ndarray]) -> list[FusionInputs]:
        """Run the network alone; :meth:`fuse` makes the results.

        Args:
            images (list[np.ndarray]): Each (H, W, 3), uint8, BGR.

        Returns:
            list[FusionInputs]: What the network says about each.
        """
        return [
            self.predictor.predict([self.predictor.prepare(image)])[0]
            for image in images
        ]

    def fuse(
        self, inputs: FusionInputs, name: str = '', **thresholds: float
    ) -> PanopticResult:
        """Make the result of what the network says: fast, without the network.

        Args:
            inputs (FusionInputs): What :meth:`predict_fusion_inputs` gave.
            name (str): Name of the image. Defaults to ''.
            **thresholds (float): ``score_thr``, ``overlap_thr`` or ``min_stuff_area``
                in place of :attr:`thresholds`.

        Returns:
            PanopticResult: The result.
        """
        fused = self.predictor.fuse(inputs, **(self.thresholds | thresholds))
        scores = None
        if fused.detections is not None:
            scores = inputs.scores[fused.detections].tolist()
        return PanopticResult.from_panoptic_seg(
            fused.panoptic.cpu().numpy(),
            self.classes,
            scores,
            instances=(
                _instances(inputs, self.predictor.mask_thr) if self.instances else None
            ),
            semantic=_semantic(inputs) if self.semantic else None,
            name=name,
        )

    def _prepare(
        self,
        images: Iterable[InputImage],
        known: Callable[[InputImage], PanopticResult | None],
    ) -> Iterator[tuple[InputImage, Any]]:
        """Bring images into the form that the network takes, or give their result."""
        for image in images:
            prepared: Any = None
            if image.image is not None:
                prepared = known(image)
            if image.image is not None and prepared is None:
                try:
                    prepared = self.predictor.prepare(image.image)
                except Exception as error:
                    # PyTorch says in a RuntimeError that memory is short.
                    is_of_image = isinstance(error, (ValueError, cv2.error))
                    if not is_of_image and not is_out_of_memory(error):
                        raise
                    image.problem = _explained(error, image)
            yield image, prepared

    def _predict_batch(
        self,
        batch: list[tuple[InputImage, Any]],
        problem: Problem | None,
        retry: bool = True,
    ) -> Iterator[tuple[InputImage, PanopticResult]]:
        """Predict some images at once, or one by one if memory is short."""
        if not batch:
            return
        try:
            inputs = self.predictor.predict(
                [prepared for _, prepared in batch],
                # The fusion takes the sure ones only.
                0.0 if self.instances else self.thresholds['score_thr'],
            )
            results = [
                self.fuse(found, image.name)
                for (image, _), found in zip(batch, inputs, strict=True)
            ]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # It holds on to the tensors of the attempt.
            failure = error.with_traceback(None)
        else:
            for (image, _), result in zip(batch, results, strict=True):
                yield image, result
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) > 1:
            for one in batch:
                yield from self._predict_batch([one], problem)
        elif retry and torch.cuda.is_available():
            yield from self._predict_batch(batch, problem, retry=False)
        else:
            image = batch[0][0]
            _report(image, _explained(failure, image), problem)


def _report(image: InputImage, error: Exception, problem: Problem | None) -> None:
    """Tell that an image cannot be predicted, or raise that."""
    if problem is None:
        raise error
    problem(image, error)


def _explained(error: Exception, image: InputImage) -> Exception:
    """Give an error that says which image it was, and how large, if memory is short."""
    if not is_out_of_memory(error) or image.image is None:
        return error
    height, width = image.image.shape[:2]
    return MemoryError(
        f'{image.path or image.name} ({width}x{height} pixels) does not fit into '
        'memory: predict it in tiles, with a smaller batch, or make it smaller'
    )


def _instances(inputs: FusionInputs, mask_thr: float) -> Instances:
    """All detections, with masks of the size of the image."""
    masks = run_length_masks(
        inputs.bboxes, inputs.mask_logits, inputs.out_shape, mask_thr
    )
    return Instances(
        inputs.bboxes.float().cpu().numpy(),
        inputs.scores.float().cpu().numpy(),
        inputs.labels.cpu().numpy(),
        masks,
    )


def _semantic(inputs: FusionInputs) -> np.ndarray:
    """Class of every pixel."""
    classes = semantic_argmax(inputs.seg_logits, inputs.out_shape, inputs.valid_shape)
    return classes.cpu().numpy()


_END = object()


def _ahead(items: Iterable[Any], count: int) -> Iterator[Any]:
    """Make the items in another thread, as many ahead as ``count``, in their order.

    An error there is raised here, after the items before it. The thread ends soon
    after whoever takes the items stops doing so.
    """
    ready: queue.Queue = queue.Queue(maxsize=count)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # noqa: BLE001
            put(_END, error)
        else:
            put(_END)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join(timeout=5)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory.

    Args:
        error (BaseException): Any error.

    Returns:
        bool: True for those of Python, of PyTorch on GPU and CPU, of OpenCV and of
        ONNX Runtime.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(words in text for words in _OUT_OF_MEMORY)
