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
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_efficientps.structures.panoptic import PanopticClasses, read_json
from mmdet_efficientps.utils import atomic_path
from mmdet_efficientps.version import __version__

from .network import PAD_DIVISOR, DeployedNetwork, Prediction, UnsupportedNetworkError

METADATA_KEY = 'mmdet_efficientps'
METADATA_FORMAT = 1
RESULTS = Prediction._fields[:5]
PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
OPSET = 18
RUNTIME = 'panoptic_onnx.py'
LARGEST_DIFFERENCE = 1e-3

# (height, width) of the network input and of the image in it.
TRACED_SIZE = (128, 160)
CHECKED_SIZES = (((256, 512), (243, 509)), ((320, 192), (320, 180)))


class ExportError(RuntimeError):
    """An exported network that does not compute what the network computes."""


def export_onnx(model: nn.Module, path: str | Path) -> dict[str, float]:
    """Write a network as an ONNX file and check that it computes the same.

    Input ``image`` (1, 3, H, W) float32 is normalised, in the channel order that the
    metadata names, and padded at the right and bottom to multiples of 32; ``image_size``
    (2,) int64 is height and width without the padding. Outputs are the first five
    fields of :class:`~.network.Prediction`, by their names. The metadata is that of
    :func:`describe`, as json.

    Args:
        model (nn.Module): The network, on the CPU, with its config as ``cfg`` and its
            classes as ``dataset_meta``: as :func:`mmdet_efficientps.init_model` gives
            it.
        path (str | Path): Where the file shall be. Nothing is left there if the check
            fails.

    Returns:
        dict[str, float]: The largest absolute difference between PyTorch and ONNX
        Runtime in each output and between the parts of the network; boxes in pixels.

    Raises:
        ImportError: If a package is missing; names the command that installs it.
        UnsupportedNetworkError: If the network is none that can be exported.
        ExportError: If a difference is larger than ``LARGEST_DIFFERENCE``.
        OSError: If the file cannot be written.
    """
    onnx = _import_packages()['onnx']
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
        if not differences[worst] <= LARGEST_DIFFERENCE:
            raise ExportError(
                f'the exported network differs from PyTorch by '
                f'{differences[worst]:.3g} in {worst}, where {LARGEST_DIFFERENCE:g} is '
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


def describe(model: nn.Module) -> dict[str, Any]:
    """Describe what comes before and after a network.

    Args:
        model (nn.Module): The network, with ``cfg`` and ``dataset_meta``.

    Returns:
        dict[str, Any]: What json can hold:

        - ``format`` (int): 1; ``version`` (str): of this package.
        - ``categories``: id, name, supercategory, isthing and color of each class in the
          order of the labels. Ids are those of the annotation file of the test set, if
          that is there, and otherwise the labels.
        - ``num_things`` (int): How many of them, the first, are things.
        - ``mean``, ``std``: What is subtracted from each channel, and divides it.
        - ``to_rgb`` (bool): Whether the network takes RGB; otherwise BGR.
        - ``scale``: (width, height) that images are resized to, None for none;
          ``keep_ratio`` (bool): whether they are fitted into it.
        - ``pad_divisor`` (int): What sides are padded to multiples of, with zeros.
        - ``fusion``: Settings of the fusion.

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


def _categories(model: nn.Module) -> list[dict[str, Any]]:
    """Categories in the order of the labels."""
    head, meta = model.panoptic_fusion_head, model.dataset_meta
    names = list(meta['classes'])
    if len(names) != head.num_classes:
        raise ValueError(
            f'there are {len(names)} class names ({", ".join(names)}) for the '
            f'{head.num_classes} classes of the network: use the config the checkpoint '
            'was trained with'
        )
    known = {c['name']: c for c in meta.get('categories') or _annotated(model.cfg)}
    if set(known) != set(names):
        known = {}
    classes = PanopticClasses.from_categories(
        {
            'id': known[name]['id'] if known else label,
            'name': name,
            'supercategory': known[name].get('supercategory') if known else None,
            'isthing': label < head.num_things_classes,
            'color': list(meta['palette'][label]),
        }
        for label, name in enumerate(names)
    )
    return list(classes.categories())


def _annotated(config: Config) -> list[dict[str, Any]]:
    """Categories of the annotation file of the test set; none if it is not there."""
    dataset = DATASETS.build(dict(config.test_dataloader.dataset, lazy_init=True))
    file = getattr(dataset, 'ann_file', None)
    if not file or not Path(file).is_file():
        return []
    return read_json(file).get('categories', [])


def _import_packages() -> dict[str, Any]:
    """Import what the export needs."""
    try:
        return {name: import_module(name) for name in PACKAGES}
    except ImportError as error:
        raise ImportError(
            f'the export needs the packages {", ".join(PACKAGES)} ({error}). Install '
            f'them with `pip install {" ".join(PACKAGES)}`'
        ) from error


def _trace(model: nn.Module) -> Any:
    """Give the ONNX model of a network, with all of a ``Prediction`` as outputs."""
    network = DeployedNetwork(model)
    height, width = TRACED_SIZE
    rows, columns = (torch.export.Dim(name, min=1, max=2048) for name in 'hw')
    levels = range(len(network.rpn_head.prior_generator.strides))
    names: list[str] = []
    for field in Prediction._fields:
        several = field.startswith('rpn_')
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
    from onnxscript import opset18 as op

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
def compare(model: nn.Module, traced: Any, exported: str | Path) -> dict[str, float]:
    """Compare an exported network with the network, part by part.

    Which boxes are chosen hangs on differences that rounding changes, so that two
    right computations may come to other boxes. So each part of the network is given
    what the exported one gave to it: the largest difference is that of one part. Chosen
    boxes are compared as pairs, and if there is not a partner for each, other images
    are tried: what rounding does to one image it does not do to all.

    Besides the file itself, with the detections from ``score_thr``, those of any score
    are compared: there are masks among them whatever was trained.

    Args:
        model (nn.Module): The network.
        traced (onnx.ModelProto): The exported network with all of a ``Prediction``.
        exported (str | Path): Its file.

    Returns:
        dict[str, float]: The largest absolute difference over the images of
        ``CHECKED_SIZES`` in each field of a ``Prediction``; infinite if boxes have no
        partners.
    """
    import onnx
    import onnxruntime

    sure = onnxruntime.InferenceSession(
        str(exported), providers=['CPUExecutionProvider']
    )
    threshold = _initializer(traced, 'score_thr')
    kept = onnx.TensorProto()
    kept.CopyFrom(threshold)
    threshold.CopyFrom(onnx.numpy_helper.from_array(np.float32(0), 'score_thr'))
    everything = onnxruntime.InferenceSession(
        traced.SerializeToString(), providers=['CPUExecutionProvider']
    )
    threshold.CopyFrom(kept)
    differences: dict[str, float] = {}
    for padded, size in CHECKED_SIZES:
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            image = torch.zeros(1, 3, *padded)
            image[..., : size[0], : size[1]] = torch.randn(
                3, *size, generator=generator
            )
            feeds = {'image': image.numpy(), 'image_size': np.array(size)}
            outputs = [torch.from_numpy(x) for x in everything.run(None, feeds)]
            results = [torch.from_numpy(x) for x in sure.run(list(RESULTS), feeds)]
            found = _differences(model, image, size, outputs, results)
            if all(math.isfinite(value) for value in found.values()):
                break
        for name, value in found.items():
            differences[name] = max(value, differences.get(name, 0.0))
    return differences


def _initializer(traced: Any, name: str) -> Any:
    """A constant of an ONNX model."""
    return next(tensor for tensor in traced.graph.initializer if tensor.name == name)


def _differences(
    model: nn.Module,
    image: Tensor,
    size: tuple[int, int],
    outputs: Sequence[Tensor],
    results: Sequence[Tensor],
) -> dict[str, float]:
    """Differences for one image, see :func:`compare`."""
    levels = len(model.rpn_head.prior_generator.strides)
    rpn_scores = list(outputs[5 : 5 + levels])
    rpn_deltas = list(outputs[5 + levels : 5 + 2 * levels])
    proposals, class_logits, box_deltas = outputs[5 + 2 * levels :]
    meta = {
        'img_shape': size,
        'ori_shape': size,
        'batch_input_shape': tuple(image.shape[2:]),
        'pad_shape': tuple(image.shape[2:]),
        'scale_factor': (1.0, 1.0),
    }
    sample = DetDataSample(metainfo=meta)
    features = model.extract_feat(image)
    differences = {
        'seg_logits': _largest(
            model.semantic_head(features)['seg_preds'][0], results[4]
        )
    }
    scores, deltas = model.rpn_head(features)
    pairs = zip((*scores, *deltas), (*rpn_scores, *rpn_deltas), strict=True)
    differences['rpn'] = max(_largest(ours, theirs) for ours, theirs in pairs)
    (found,) = model.rpn_head.predict_by_feat(
        rpn_scores, rpn_deltas, batch_img_metas=[meta], cfg=model.rpn_head.test_cfg
    )
    differences['proposals'] = _largest_of_pairs([found.bboxes], [proposals])
    rois = torch.cat([proposals.new_zeros(len(proposals), 1), proposals], dim=1)
    roi_head = model.roi_head
    boxes = roi_head._bbox_forward(features, rois)
    differences['class_logits'] = _largest(boxes['cls_score'], class_logits)
    differences['box_deltas'] = _largest(boxes['bbox_pred'], box_deltas)
    for detections, score_thr in ((outputs[:4], 0.0), (results[:4], None)):
        cfg = roi_head.test_cfg.copy()
        if score_thr is not None:
            cfg['score_thr'] = score_thr
        (found,) = roi_head.bbox_head.predict_by_feat(
            (rois,), (class_logits,), (box_deltas,), [meta], rcnn_test_cfg=cfg
        )
        bboxes, sure, labels, mask_logits = detections
        ours = [found.bboxes, found.scores, found.labels]
        value = _largest_of_pairs(ours, [bboxes, sure, labels])
        differences['detections'] = max(value, differences.get('detections', 0.0))
        theirs = InstanceData(bboxes=bboxes, scores=sure, labels=labels)
        (masks,) = roi_head.predict_mask(features, [meta], [theirs])
        value = _largest(masks.mask_logits, mask_logits)
        differences['mask_logits'] = max(value, differences.get('mask_logits', 0.0))
    return differences


def _largest(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two tensors, infinite if their shapes differ."""
    if ours.shape != theirs.shape:
        return math.inf
    return (ours - theirs).abs().max().item() if ours.numel() else 0.0


def _largest_of_pairs(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Largest difference of rows of some tensors, each compared with its nearest."""
    a, b = (
        torch.cat([x.reshape(len(x), -1).double() for x in rows], dim=1)
        for rows in (ours, theirs)
    )
    if a.shape != b.shape:
        return math.inf
    if not len(a):
        return 0.0
    distances = torch.cdist(a, b, p=math.inf)
    value = max(distances.amin(dim=dim).max().item() for dim in (0, 1))
    return value if value < 1 else math.inf
