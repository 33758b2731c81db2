# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Export of a trained EfficientPS to one ONNX file.

The file is enough to predict: the network is in it, and, as metadata, what comes before
and after. Imports of ``onnx``, ``onnxscript`` and ``onnxruntime`` wait until they are
needed: only this module needs them.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_efficientps.utils import atomic_path
from mmdet_efficientps.version import __version__

from .network import (
    PAD_DIVISOR,
    DeployedNetwork,
    Prediction,
    UnsupportedNetworkError,
    check_supported,
)

METADATA_KEY = 'mmdet_efficientps'
METADATA_FORMAT = 1
RESULTS = Prediction._fields[:5]
PER_LEVEL = ('rpn_logits', 'rpn_deltas')
PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
OPSET = 18
RUNTIME = 'panoptic_onnx.py'
LARGEST_DIFFERENCE = 1e-3

# (height, width) of the network input and of the image in it.
TRACED_SIZE = (128, 160)
CHECKED_SIZES = (((256, 512), (243, 509)), ((320, 192), (320, 180)))


class ExportError(RuntimeError):
    """An exported network that does not compute what the network computes."""


def export_onnx(
    model: Any, path: str | Path, largest_difference: float = LARGEST_DIFFERENCE
) -> dict[str, float]:
    """Write a network as an ONNX file and check that it computes the same.

    Input ``image`` (1, 3, H, W) float32 is normalised, in the channel order that the
    metadata names, and padded at the right and bottom to multiples of 32;
    ``image_size`` (2,) int64 is height and width without the padding. Outputs are the
    first five fields of :class:`~.network.Prediction`, by their names. The metadata is
    that of :func:`describe`, as json.

    Args:
        model (nn.Module): The network, on the CPU, with its config as ``cfg`` and its
            classes as ``dataset_meta``: as :func:`mmdet_efficientps.init_model` gives
            it.
        path (str | Path): Where the file shall be. Nothing is left there if the check
            fails.
        largest_difference (float): How far an output may be from PyTorch's. Defaults
            to ``LARGEST_DIFFERENCE``, which trained networks stay far below.

    Returns:
        dict[str, float]: The largest absolute difference between PyTorch and ONNX
        Runtime in each output and between the parts of the network; boxes in pixels.

    Raises:
        ImportError: If a package is missing; names the command that installs it.
        UnsupportedNetworkError: If the network is none that can be exported.
        ExportError: If a difference is larger than ``largest_difference``.
        OSError: If the file cannot be written.
    """
    onnx = _import_packages()['onnx']
    check_supported(model)
    metadata = describe(model)
    with atomic_path(path) as temporary:
        # Before the work: to find that the folder cannot be written to.
        temporary.touch()
        traced = _trace(model)
        onnx.helper.set_model_props(traced, {METADATA_KEY: json.dumps(metadata)})
        exported = onnx.ModelProto()
        exported.CopyFrom(traced)
        del exported.graph.output[len(RESULTS) :]
        onnx.save(exported, str(temporary))
        differences = compare(model, traced, temporary)
        worst = max(differences, key=lambda name: differences[name])
        if not differences[worst] <= largest_difference:
            raise ExportError(
                f'the exported network differs from PyTorch by '
                f'{differences[worst]:.3g} in {worst}, where {largest_difference:g} is '
                'allowed; all differences: '
                + ', '.join(
                    f'{name} {value:.3g}' for name, value in differences.items()
                )
            )
    return differences


def copy_runtime(folder: str | Path) -> Path | None:
    """Put the program that predicts with an exported network into a folder.

    Args:
        folder (str | Path): The folder of the ONNX file.

    Returns:
        Path | None: The file; None if this installation does not have it.
    """
    source = Path(__file__).with_name(RUNTIME)
    if not source.is_file():
        return None
    with atomic_path(Path(folder) / RUNTIME) as temporary:
        shutil.copyfile(source, temporary)
    return Path(folder) / RUNTIME


def describe(model: Any) -> dict[str, Any]:
    """Describe what comes before and after a network.

    Args:
        model (nn.Module): The network, with ``cfg`` and ``dataset_meta``.

    Returns:
        dict[str, Any]: What json can hold:

        - ``format`` (int): 1; ``version`` (str): of this package.
        - ``categories``: id, name, supercategory, isthing and color of each class, in
          the order of the labels.
        - ``num_things`` (int): How many of them, the first, are things.
        - ``mean``, ``std``: What is subtracted from each channel, and divides it.
        - ``to_rgb`` (bool): Whether the network takes RGB; otherwise BGR.
        - ``scale``: (width, height) that images are resized to, None for none;
          ``keep_ratio`` (bool): whether they are fitted into it.
        - ``pad_divisor`` (int): What sides are padded to multiples of, with zeros.
        - ``fusion``: Settings of the fusion.
        - ``weights_from`` and ``license`` of the checkpoint, where it says so.

    Raises:
        ValueError: If the test pipeline resizes in another way, or there are more or
            fewer classes than the network has.
    """
    preprocessor, head = model.data_preprocessor, model.panoptic_fusion_head
    return {
        'format': METADATA_FORMAT,
        'version': __version__,
        'categories': _categories(model),
        'num_things': head.num_things_classes,
        'mean': _floats(preprocessor.mean),
        'std': _floats(preprocessor.std),
        'to_rgb': bool(model.cfg.model.data_preprocessor.get('bgr_to_rgb', False)),
        **_resize_setting(model.cfg),
        'pad_divisor': math.lcm(PAD_DIVISOR, preprocessor.pad_size_divisor),
        'fusion': {
            **{
                name: (head.test_cfg or {}).get(name, default)
                for name, default in head.DEFAULTS.items()
            },
            'combine': head.combine,
        },
        # The terms of the weights go with them.
        **getattr(model, 'weights_origin', {}),
    }


def _floats(values: Tensor) -> list[float]:
    """Numbers of float32 as short as they were written."""
    return [float(str(value)) for value in values.flatten().numpy()]


def _resize_setting(config: Config) -> dict[str, Any]:
    """``scale`` and ``keep_ratio`` of the test pipeline."""
    for step in get_test_pipeline_cfg(config):
        kind = str(step['type']).rpartition('.')[2]
        if kind in ('PanopticResize', 'Resize'):
            if step.get('scale') is None:
                raise UnsupportedNetworkError(
                    f'{kind} in the test pipeline has no scale: give the size that '
                    'images are fitted into, scale=(width, height)'
                )
            scale = step['scale']
            scale = (scale, scale) if isinstance(scale, int) else scale
            return {
                'scale': [int(side) for side in scale],
                'keep_ratio': bool(step.get('keep_ratio', False)),
            }
        if 'Resize' in kind and kind != 'ResizeImageToLabel':
            raise UnsupportedNetworkError(
                f'{kind} in the test pipeline cannot be exported: use PanopticResize'
            )
    return {'scale': None, 'keep_ratio': True}


def _categories(model: Any) -> list[dict[str, Any]]:
    """Categories in the order of the labels."""
    head, meta = model.panoptic_fusion_head, model.dataset_meta
    names = list(meta['classes'])
    if len(names) != head.num_classes:
        raise ValueError(
            f'there are {len(names)} class names ({", ".join(names)}) for the '
            f'{head.num_classes} classes of the network: use the config the checkpoint '
            'was trained with'
        )
    return list(meta['categories'])


def _import_packages() -> dict[str, Any]:
    """Import what the export needs."""
    try:
        return {name: import_module(name) for name in PACKAGES}
    except ImportError as error:
        raise ImportError(
            f'the export needs the packages {", ".join(PACKAGES)} ({error}). Install '
            f'them with `pip install {" ".join(PACKAGES)}`'
        ) from error


def _trace(model: Any) -> Any:
    """Give the ONNX model of a network, with all of a ``Prediction`` as outputs."""
    network = DeployedNetwork(model)
    height, width = TRACED_SIZE
    rows, columns = (torch.export.Dim(name, min=1, max=2048) for name in 'hw')
    levels = range(len(network.rpn_head.prior_generator.strides))
    names: list[str] = []
    for field in Prediction._fields:
        several = field in PER_LEVEL
        names += [f'{field}_{i}' for i in levels] if several else [field]
    with warnings.catch_warnings():
        # Of PyTorch about itself.
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            network,
            (torch.zeros(1, 3, height, width), torch.tensor(TRACED_SIZE)),
            dynamo=True,
            dynamic_shapes={
                'image': {2: PAD_DIVISOR * rows, 3: PAD_DIVISOR * columns},
                'image_size': None,
            },
            input_names=['image', 'image_size'],
            output_names=names,
            opset_version=OPSET,
            custom_translation_table=_translations(),
            verbose=False,
        )
    assert program is not None
    traced = program.model_proto
    # Shapes inside the network are for its reader to find: here they have odd names.
    del traced.graph.value_info[:]
    for value in (*traced.graph.input, *traced.graph.output):
        _name_dimensions(value)
    return traced


def _name_dimensions(value: Any) -> None:
    """Give names that say something to the dimensions of an input or output."""
    dims = value.type.tensor_type.shape.dim
    free = [dim for dim in dims if dim.dim_param]
    names = ['height', 'width'] if value.name == 'image' else []
    if value.name == 'seg_logits':
        names = ['height/4', 'width/4']
    elif value.name in RESULTS:
        names = ['detections']
    for dim, name in zip(free, names, strict=False):
        dim.dim_param = name


def _translations() -> dict[Any, Any]:
    """How our operators are written in ONNX."""
    op: Any = import_module('onnxscript').opset18

    def top_k(scores: Any, k: int) -> Any:
        number = op.Min(op.Shape(scores), op.Constant(value_ints=[k]))
        return op.TopK(scores, number)

    def nms(
        boxes: Any, scores: Any, iou_thr: float, score_thr: float, max_boxes: int
    ) -> Any:
        chosen = op.NonMaxSuppression(
            op.Unsqueeze(boxes, op.Constant(value_ints=[0])),
            op.Unsqueeze(scores, op.Constant(value_ints=[0, 1])),
            op.Constant(value_ints=[max_boxes]),
            op.Constant(value_floats=[iou_thr]),
            op.Constant(value_floats=[score_thr]),
        )
        # Rows of batch, class and box.
        return op.Gather(chosen, op.Constant(value_int=2), axis=1)

    def align_rois(
        features: Any,
        boxes: Any,
        height: int,
        width: int,
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool,
    ) -> Any:
        return op.RoiAlign(
            features,
            boxes,
            op.Expand(op.Constant(value_int=0), op.Shape(boxes, start=0, end=1)),
            coordinate_transformation_mode='half_pixel'
            if aligned
            else 'output_half_pixel',
            mode='avg',
            output_height=height,
            output_width=width,
            sampling_ratio=sampling_ratio,
            spatial_scale=spatial_scale,
        )

    ours = torch.ops.mmdet_efficientps
    return {
        ours.top_k.default: top_k,
        ours.nms.default: nms,
        ours.roi_align.default: align_rois,
    }


@torch.no_grad()
def compare(model: Any, traced: Any, exported: str | Path) -> dict[str, float]:
    """Compare an exported network with the network, part by part.

    Which boxes are chosen hangs on differences that rounding changes, so that two
    right computations may come to other boxes. So each part of the network is given
    what the exported one gave to it, and of a choice it is asked whether it follows the
    rules: see :func:`broken_rules`.

    All this is done with a ``score_thr`` below 0, so that there are masks to compare
    whatever was trained; then the file has to give those of the detections that exceed
    its ``score_thr``.

    Args:
        model (EfficientPS): The network.
        traced (onnx.ModelProto): The exported network with all of a ``Prediction``.
        exported (str | Path): Its file.

    Returns:
        dict[str, float]: By part, the largest absolute difference over the images of
        ``CHECKED_SIZES``; infinite if there are more or fewer values.
    """
    packages = _import_packages()

    def session(network: str | bytes) -> Any:
        return packages['onnxruntime'].InferenceSession(
            network, providers=['CPUExecutionProvider']
        )

    threshold = next(c for c in traced.graph.initializer if c.name == 'score_thr')
    below = packages['onnx'].numpy_helper.from_array(
        np.full((1, 1), -1, np.float32), 'score_thr'
    )
    threshold.CopyFrom(below)
    everything, final = session(traced.SerializeToString()), session(str(exported))
    differences: dict[str, float] = {}
    for padded, size in CHECKED_SIZES:
        image = torch.zeros(1, 3, *padded)
        noise = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
        image[..., : size[0], : size[1]] = noise
        feeds = {'image': image.numpy(), 'image_size': np.array(size)}
        prediction = _as_prediction(
            everything.run(None, feeds), len(model.rpn_head.prior_generator.strides)
        )
        results = [torch.from_numpy(x) for x in final.run(list(RESULTS), feeds)]
        found = _differences(model, image, size, prediction)
        score_thr = model.roi_head.test_cfg.score_thr
        sure = prediction.scores > score_thr
        expected = [x[sure] for x in prediction[:4]] + [prediction.seg_logits]
        found['results'] = max(map(_largest, expected, results))
        for name, value in found.items():
            differences[name] = max(value, differences.get(name, 0.0))
    return differences


def _as_prediction(outputs: list[np.ndarray], num_levels: int) -> Prediction:
    """The fields of a prediction from the outputs of an exported network."""
    tensors = (torch.from_numpy(output) for output in outputs)
    fields: dict[str, Any] = {}
    for name in Prediction._fields:
        if name in PER_LEVEL:
            fields[name] = tuple(next(tensors) for _ in range(num_levels))
        else:
            fields[name] = next(tensors)
    return Prediction(**fields)


def _differences(
    model: Any, image: Tensor, size: tuple[int, int], exported: Prediction
) -> dict[str, float]:
    """Differences for one image, see :func:`compare`."""
    rpn_head, roi_head = model.rpn_head, model.roi_head
    meta = {'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0)}
    features = model.extract_feat(image)
    seg_logits = model.semantic_head(features)['seg_preds'][0]
    logits, deltas = rpn_head(features)
    pairs = zip(
        (*logits, *deltas), (*exported.rpn_logits, *exported.rpn_deltas), strict=True
    )
    differences = {
        'semantic logits': _largest(seg_logits, exported.seg_logits),
        'rpn': max(_largest(ours, theirs) for ours, theirs in pairs),
    }

    # The best anchors of each level, then what of them is proposed.
    priors = rpn_head.prior_generator.grid_priors(
        [level.shape[-2:] for level in logits], device='cpu'
    )
    every = rpn_head.test_cfg.copy()
    every.update(nms_pre=-1, nms=None, max_per_img=image.numel(), min_bbox_size=-1)
    nms_pre = rpn_head.test_cfg.get('nms_pre', -1)
    levels: list[Tensor] = []
    start = 0
    for logits, deltas, anchors in zip(
        exported.rpn_logits, exported.rpn_deltas, priors, strict=True
    ):
        every_anchor = rpn_head._predict_by_feat_single(
            [logits[0]], [deltas[0]], [None], [anchors], meta, every
        )
        number = len(anchors) if nms_pre <= 0 else min(nms_pre, len(anchors))
        of_level = slice(start, start + number)
        best = exported.anchors[of_level], exported.anchor_scores[of_level]
        value = _largest_of_best(every_anchor, *best, rpn_head.test_cfg)
        differences['anchors'] = max(value, differences.get('anchors', 0.0))
        levels.append(torch.full((number,), len(levels)))
        start += number
    differences['proposals'] = broken_rules(
        exported.anchors,
        exported.anchor_scores,
        torch.cat(levels),
        exported.proposals,
        rpn_head.test_cfg,
    )

    proposals = exported.anchors[exported.proposals]
    rois = torch.nn.functional.pad(proposals, (1, 0))
    boxes_of = roi_head._bbox_forward(features, rois)
    differences['class logits'] = _largest(boxes_of['cls_score'], exported.class_logits)
    differences['box deltas'] = _largest(boxes_of['bbox_pred'], exported.box_deltas)

    # All boxes of all classes, then what of them is detected.
    (raw,) = roi_head.bbox_head.predict_by_feat(
        (rois,), (exported.class_logits,), (exported.box_deltas,), [meta]
    )
    num_classes = roi_head.bbox_head.num_classes
    all_boxes = raw.bboxes.unflatten(1, (-1, 4)).expand(-1, num_classes, 4)
    differences['candidates'] = max(
        _largest(all_boxes.flatten(0, 1), exported.candidates),
        _largest(raw.scores[:, :num_classes].flatten(), exported.candidate_scores),
    )
    differences['detections'] = broken_rules(
        exported.candidates,
        exported.candidate_scores,
        exported.candidate_labels,
        exported.detections,
        roi_head.test_cfg,
    )
    detections = InstanceData(bboxes=exported.bboxes, labels=exported.labels)
    (masks,) = roi_head.predict_mask(features, [meta], [detections])
    differences['mask logits'] = _largest(masks.mask_logits, exported.mask_logits)
    return differences


def broken_rules(
    boxes: Tensor, scores: Tensor, groups: Tensor, chosen: Tensor, cfg: Any
) -> float:
    """By how much a choice of boxes breaks the rules of non-maximum suppression.

    The rules: no two chosen boxes of a group overlap by more than the threshold; each
    other box overlaps a chosen box of its group that is not worse by more than the
    threshold, or it is not better than any of the chosen, if there are as many as there
    may be. There is one choice that follows them, unless scores are equal.

    Args:
        boxes (Tensor): Shape (N, 4), x1, y1, x2, y2.
        scores (Tensor): Shape (N,); boxes with a negative one are not there.
        groups (Tensor): Number of the group of each box, (N,).
        chosen (Tensor): Indices of the chosen boxes, (M,).
        cfg (ConfigDict): With ``nms`` and ``max_per_img``.

    Returns:
        float: The largest difference of an overlap or a score from what would follow
        the rules; 0 if they are followed, infinite if a box is chosen twice or is not
        there.
    """
    if len(chosen.unique()) < len(chosen) or (scores[chosen] < 0).any():
        return math.inf
    threshold = cfg.nms.iou_threshold
    boxes = boxes.double()
    if cfg.nms.get('offset', 0):
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1])
    rest = torch.ones(len(boxes), dtype=torch.bool)
    rest[chosen] = False
    rest &= scores >= 0
    overlaps = bbox_overlaps(boxes[chosen], boxes, eps=1e-12)
    if not cfg.nms.get('class_agnostic', False):
        overlaps[groups[chosen][:, None] != groups] = 0
    among = overlaps[:, chosen].fill_diagonal_(0)
    broken = (among - threshold).clamp(min=0).flatten()
    if rest.any():
        if not len(chosen):
            return math.inf
        worse = scores[rest] - scores[chosen][:, None]
        missing = torch.maximum(threshold - overlaps[:, rest], worse).clamp(min=0)
        if len(chosen) == cfg.max_per_img:
            last = (scores[rest] - scores[chosen].min()).clamp(min=0)
            missing = torch.cat([missing, last[None].double()])
        broken = torch.cat([broken, missing.amin(dim=0)])
    return broken.max().item() if len(broken) else 0.0


def _largest(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two tensors, infinite if their shapes differ."""
    if ours.shape != theirs.shape:
        return math.inf
    return (ours - theirs).abs().max().item() if ours.numel() else 0.0


def _largest_of_best(
    every: InstanceData, boxes: Tensor, scores: Tensor, cfg: Any
) -> float:
    """Largest difference of the best boxes of a level from those that they should be.

    Which of nearly equal scores are among the best is left open: scores are compared in
    their order, each box with the nearest that has nearly its score.

    Args:
        every (InstanceData): All boxes of the level, best first.
        boxes (Tensor): The best ones, (K, 4), best first.
        scores (Tensor): Their scores, (K,), -1 if they are too small.
        cfg (ConfigDict): Says which are too small.
    """
    min_size = cfg.get('min_bbox_size', -1)
    if min_size >= 0:
        sides = every.bboxes[:, 2:] - every.bboxes[:, :2]
        small = (sides <= min_size).any(dim=1)
        every.bboxes[small] = 0
        expected = torch.where(small, -1.0, every.scores)
    else:
        expected = every.scores
    value = 0.0
    for part in torch.arange(len(boxes)).split(100):
        distances = torch.cdist(boxes[part], every.bboxes, p=math.inf)
        unlike = (scores[part, None] - expected).abs() > LARGEST_DIFFERENCE
        distances[unlike] = math.inf
        value = max(value, distances.amin(dim=1).max().item())
    large = scores >= 0
    return max(value, _largest(every.scores[: len(scores)][large], scores[large]))
