# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A trained network made ready to predict fast, and for nothing else.

What is done changes no prediction by more than rounding: norm layers become part of
the convs before them, the padding of convs is left to the convs, all maps lie in
channels-last, and RoI features are gathered
(:mod:`~mmdet_efficientps.models.roi_heads.roi_extractors.gathered_roi_align`).
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .layers import InPlaceABN, pad_within_convs
from .roi_heads import Float32RoIExtractor

# What is computed on whole maps, and what on RoIs.
DENSE_PARTS = ('backbone', 'neck', 'semantic_head', 'rpn_head')
ROI_PARTS = ('roi_head.bbox_head', 'roi_head.mask_head')
# Their outputs go to other parts of the network.
INNER_PARTS = ('backbone', 'neck')


@torch.no_grad()
def prepare_for_inference(
    model: nn.Module,
    channels_last: bool = True,
    dtype: torch.dtype | None = None,
    compile: bool = False,
) -> nn.Module:
    """Make a copy of a network that predicts the same faster.

    Args:
        model (nn.Module): :class:`EfficientPS`, or another two-stage detector of
            mmdet. It stays as it is and shares no memory with the copy.
        channels_last (bool): Whether weights and maps lie in channels-last.
            Defaults to True.
        dtype (torch.dtype, optional): Type of the weights and features, such as
            ``torch.float16`` for a GPU; boxes, scores, RoI features and all logits
            are float32 nevertheless. Defaults to None, for float32.
        compile (bool): Whether :func:`torch.compile` compiles backbone, neck,
            semantic head and RPN, at the first image, which takes minutes, and again
            for another size. It needs a C++ compiler, and predictions under
            ``torch.no_grad``. Defaults to False.

    Returns:
        nn.Module: The copy, in evaluation mode, on the device of ``model``. Its state
        dict is another, and it cannot be trained: no parameter asks for gradients.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    fold_norms(model)
    pad_within_convs(model)
    for module in model.modules():
        if isinstance(module, Float32RoIExtractor):
            module.gathers = True
        elif isinstance(module, RoIAlign):
            # It does not look at strides: see Float32RoIExtractor.
            module.register_forward_pre_hook(_make_contiguous)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in model.modules():
            if isinstance(module, ConvFCBBoxHead):
                _flatten_channels_last(module)
    if dtype is not None and dtype != torch.float32:
        for name, part in _parts(model, DENSE_PARTS + ROI_PARTS):
            part.to(dtype)
            part.register_forward_pre_hook(_CastInputs(dtype))
            if name not in INNER_PARTS:
                part.register_forward_hook(_cast_outputs_to_float32)
    if compile:
        # Weights in the layout that the convs of the CPU work on.
        options = {'freezing': True} if _device(model).type == 'cpu' else None
        for _, part in _parts(model, DENSE_PARTS):
            part.compile(options=options)
    return model


def fold_norms(model: nn.Module) -> None:
    """Make batch norms part of the convs whose output they normalise, in place.

    Of iABN its activation remains. A norm layer belongs to a conv if it is the next
    child of the same module, as in :class:`mmcv.cnn.ConvModule` and in the blocks of
    ResNets, and both are used once. Others stay.

    Args:
        model (nn.Module): Any network in evaluation mode.
    """
    # Not `children`, which names a child once that a module has twice.
    uses = Counter(id(c) for m in model.modules() for c in m._modules.values())
    for module in list(model.modules()):
        if isinstance(module, ConvModule) and not _norm_is_next(module):
            continue
        children = list(module._modules.items())
        for (_, conv), (name, norm) in zip(children, children[1:], strict=False):
            if (
                isinstance(conv, nn.Conv2d)
                and isinstance(norm, _BatchNorm)
                and norm.running_mean is not None
                and norm.num_features == conv.out_channels
                and uses[id(conv)] == uses[id(norm)] == 1
            ):
                setattr(module, name, _fold_norm(conv, norm))


def _norm_is_next(module: ConvModule) -> bool:
    return module.order.index('norm') == module.order.index('conv') + 1


def _fold_norm(conv: nn.Conv2d, norm: _BatchNorm) -> nn.Module:
    """Give a conv the weights of itself and its norm; return what follows."""
    weight: Tensor = norm.weight
    slope = None
    if isinstance(norm, InPlaceABN):
        weight = weight.abs() + norm.eps
        if norm.activation == 'leaky_relu':
            slope = norm.activation_param
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        weight,
        norm.bias,
    )
    return nn.Identity() if slope is None else nn.LeakyReLU(slope, inplace=True)


class ChannelsLastLinear(nn.Module):
    """A linear layer on maps, flattened as they lie in memory in channels-last.

    Args:
        linear (nn.Linear): The same layer on maps (N, C, h, w) flattened in this
            order: of C * h * w inputs.
        channels (int): C.
    """

    def __init__(self, linear: nn.Linear, channels: int) -> None:
        super().__init__()
        weight = linear.weight.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1)
        self.weight = nn.Parameter(weight, linear.weight.requires_grad)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, out_features)."""
        return F.linear(x.permute(0, 2, 3, 1).flatten(1), self.weight, self.bias)


def _flatten_channels_last(head: ConvFCBBoxHead) -> None:
    """Spare a head that begins with a linear layer the sorting of its input."""
    if head.num_shared_convs or not head.num_shared_fcs or head.with_avg_pool:
        return
    first, *rest = head.shared_fcs
    # What is in the list of convs is called before the base class flattens, which
    # leaves alone what is flat.
    head.shared_convs = nn.ModuleList(
        [nn.Sequential(ChannelsLastLinear(first, head.in_channels), nn.ReLU())]
    )
    head.shared_fcs = nn.ModuleList(rest)
    head.num_shared_convs, head.num_shared_fcs = 1, len(rest)


def _parts(model: nn.Module, names: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    """Those of the parts that a network has."""
    modules = dict(model.named_modules())
    return [(name, modules[name]) for name in names if name in modules]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _make_contiguous(module: nn.Module, args: tuple) -> tuple:
    return (args[0].contiguous(), *args[1:])


class _CastInputs:
    """Hook that gives a module its floating point inputs in its own type."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, args: tuple) -> Any:
        return _cast(args, self.dtype)


def _cast_outputs_to_float32(module: nn.Module, args: tuple, output: Any) -> Any:
    return _cast(output, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Cast all floating point tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _cast(item, dtype) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_cast(item, dtype) for item in value)
    return value
