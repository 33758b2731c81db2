# Licensed under the Apache License, Version 2.0. See LICENSE.
"""In-place activated batch normalisation (iABN).

Rota Bulò et al., "In-Place Activated BatchNorm for Memory-Optimized Training of
DNNs", CVPR 2018. The layer computes

    y = act((x - mean) / sqrt(var + eps) * (|weight| + eps) + bias)

with ``act`` a leaky ReLU or the identity, and keeps only ``y`` for the backward
pass: the normalised input is recovered from it by inverting the activation and
the affine map, both of which are invertible because the slope is positive and
``|weight| + eps`` is never zero. A convolution does not keep its own output, so
one activation per conv-norm-act block is saved instead of two or three.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ENGINES = ('auto', 'compiled', 'torch')
ACTIVATIONS = ('leaky_relu', 'identity')


class _InPlaceABNFunction(torch.autograd.Function):
    """The plain PyTorch engine: iABN that keeps only its output for backward.

    ``slope`` is the slope of the leaky ReLU for negative values, 1 for the
    identity. ``group`` is None for statistics of this process alone, or the
    process group whose ranks share their statistics.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        training: bool,
        momentum: float,
        eps: float,
        slope: float,
        group,
    ) -> Tensor:
        gamma = weight.abs() + eps
        if training and group is not None:
            mean, var, count = _global_mean_var(x, running_mean.dtype, group)
            # The running statistics are those of nn.BatchNorm2d: a moving average,
            # with the unbiased variance; without any value they stay.
            unbiased = var * count / (count - 1).clamp(min=1)
            weight_of_new = momentum * (count > 0).to(mean.dtype)
            running_mean.lerp_(mean, weight_of_new)
            running_var.lerp_(unbiased, weight_of_new)
            invstd = torch.rsqrt(var + eps)
            y = F.batch_norm(x, mean, var, gamma, bias, False, 0.0, eps)
        elif training:
            count = None
            y, _, invstd = torch.native_batch_norm(
                x, gamma, bias, running_mean, running_var, True, momentum, eps
            )
        else:
            count = None
            invstd = torch.rsqrt(running_var + eps)
            y = F.batch_norm(x, running_mean, running_var, gamma, bias, False, 0.0, eps)
        if slope != 1:
            y = F.leaky_relu_(y, slope)
        ctx.save_for_backward(y, weight, bias, invstd)
        ctx.training, ctx.eps, ctx.slope = training, eps, slope
        ctx.group, ctx.count = group, count
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        y, weight, bias, invstd = ctx.saved_tensors
        gamma = weight.abs() + ctx.eps
        view = (1, -1) + (1,) * (y.dim() - 2)
        # As few maps as possible are there at once: this may be the peak of a step.
        if ctx.slope == 1:
            dz, z = dy, y
        else:
            negative = y < 0
            dz = torch.where(negative, dy * ctx.slope, dy)
            z = torch.where(negative, y / ctx.slope, y)
            del negative
        x_hat = z - bias.view(view)
        del z
        x_hat.div_(gamma.view(view))

        if ctx.training and ctx.group is None:
            # The kernel sees x_hat as its input, whose statistics are mean 0 and
            # deviation 1, and the remaining 1 / std as part of the weight.
            dx, dgamma, dbias = torch.ops.aten.native_batch_norm_backward(
                dz.contiguous(),
                x_hat.to(dz.dtype),
                gamma * invstd,
                None,
                None,
                torch.zeros_like(invstd),
                torch.ones_like(invstd),
                True,
                ctx.eps,
                [True, True, True],
            )
        else:
            dims = _reduced_dims(y)
            dbias = dz.sum(dims, dtype=invstd.dtype)
            dgamma = (dz * x_hat).sum(dims, dtype=invstd.dtype)
            dx = dz
            if ctx.training:
                # Parameters get the sums of this rank (DDP averages them), the
                # input gets the means over all ranks, as the statistics did.
                sums = torch.cat([dbias, dgamma])
                dist.all_reduce(sums, group=ctx.group)
                mean_dz, mean_dz_x_hat = (sums / ctx.count.clamp(min=1)).chunk(2)
                dx = dz - mean_dz.view(view) - x_hat * mean_dz_x_hat.view(view)
            dx = (dx * (gamma * invstd).view(view)).to(dy.dtype)
        # The formula has |weight|: its derivative is 1 at zero, as in the compiled
        # engine, so that a weight that reached zero can leave it again.
        dweight = torch.where(weight < 0, -dgamma, dgamma)
        return dx, dweight, dbias, *([None] * 7)


def _reduced_dims(x: Tensor) -> list[int]:
    """The dimensions batch norm reduces over: all but the channels (dim 1)."""
    return [d for d in range(x.dim()) if d != 1]


def _global_mean_var(
    x: Tensor, dtype: torch.dtype, group
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and count per channel over all ranks of ``group``.

    Ranks may hold different numbers of values, none at all included (a mask head
    without any positive RoI): each enters with its own count.
    """
    count = x.numel() // x.size(1)
    if count:
        var, mean = torch.var_mean(x.to(dtype), _reduced_dims(x), correction=0)
    else:
        var = mean = x.new_zeros(x.size(1), dtype=dtype)
    local = torch.cat([mean, var, mean.new_full((1,), count)])
    ranks = [torch.empty_like(local) for _ in range(dist.get_world_size(group))]
    dist.all_gather(ranks, local, group=group)
    stats = torch.stack(ranks)
    counts = stats[:, -1:]
    total = counts.sum()
    means, variances = stats[:, :-1].chunk(2, dim=1)
    share = counts / total.clamp(min=1)
    mean = (share * means).sum(0)
    var = (share * (variances + (means - mean) ** 2)).sum(0)
    return mean, var, total


@lru_cache
def _compiled_engine():
    """The function of the ``inplace-abn`` package, None if it does not import."""
    try:
        from inplace_abn.functions import inplace_abn
    except ImportError:
        return None
    return inplace_abn


@lru_cache
def compiled_engine_serves(device_type: str, dtype: torch.dtype) -> bool:
    """Whether the ``inplace-abn`` package works for a device type and dtype.

    The package may be missing, or built without CUDA, or without kernels for
    half precision: one tiny call tells.

    Args:
        device_type (str): ``torch.device.type``, such as 'cpu' or 'cuda'.
        dtype (torch.dtype): Type of the input.

    Returns:
        bool: True if the compiled engine can be used.
    """
    inplace_abn = _compiled_engine()
    if inplace_abn is None:
        return False
    stat = torch.ones(1, device=device_type)
    x = torch.ones(1, 1, 1, 2, device=device_type, dtype=dtype)
    try:
        inplace_abn(x, stat, stat, stat.clone(), stat.clone(), False)
        # A kernel that is not there for this GPU shows in the next call of CUDA.
        x.add_(1)
        if device_type == 'cuda':
            torch.cuda.synchronize()
    except (RuntimeError, NotImplementedError, TypeError):
        return False
    return True


@MODELS.register_module()
class InPlaceABN(nn.BatchNorm2d):
    """Batch normalisation and activation in one memory-saving layer.

    The state dict is that of :class:`torch.nn.BatchNorm2d`. The two engines give
    the same numbers: ``'compiled'`` is the ``inplace-abn`` package, ``'torch'``
    needs no extension and works on any device and dtype. Note ``|weight| + eps``:
    a plain batch norm followed by the activation is the same function once its
    weight is replaced by ``|weight| + eps``. The derivative of ``|weight|`` at
    zero is taken as 1.

    The compiled engine overwrites its input, as its name says, so the input must
    not be used again; a convolution's output never is.

    Args:
        num_features (int): Number of channels C of the (N, C, H, W) input.
        eps (float): Added to the variance and to ``|weight|``. Defaults to 1e-5.
        momentum (float): Weight of the new batch in the running statistics.
            Defaults to 0.1.
        activation (str): 'leaky_relu' or 'identity'. Defaults to 'leaky_relu'.
        activation_param (float): Slope of the leaky ReLU for negative values,
            must be positive. Defaults to 0.01.
        engine (str): 'compiled', 'torch', or 'auto' for the compiled one where it
            imports and serves the device and dtype of the input. Defaults to
            'auto'.

    Raises:
        ValueError: If ``activation``, ``activation_param`` or ``engine`` is not
            one of the above.
        ImportError: If ``engine='compiled'`` and inplace-abn is not installed.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        activation: str = 'leaky_relu',
        activation_param: float = 0.01,
        engine: str = 'auto',
    ) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f'norm_cfg.activation is {activation!r}, must be one of {ACTIVATIONS}'
            )
        if activation == 'leaky_relu' and activation_param <= 0:
            raise ValueError(
                f'norm_cfg.activation_param is {activation_param}: the slope must be '
                'positive, or the activation could not be inverted in backward'
            )
        if engine not in ENGINES:
            raise ValueError(f'norm_cfg.engine is {engine!r}, must be one of {ENGINES}')
        if engine == 'compiled' and _compiled_engine() is None:
            raise ImportError(
                f"norm_cfg=dict(type='{type(self).__name__}', engine='compiled') needs "
                'the inplace-abn package, which does not import here. Install it with '
                '`pip install setuptools_scm && pip install --no-build-isolation '
                "inplace-abn==1.1.0`, or set engine='torch' (no extension needed) or "
                "engine='auto'."
            )
        self.activation = activation
        self.activation_param = activation_param
        self.engine = engine

    def _process_group(self):
        """The group whose ranks share statistics; None keeps them local."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate.

        Args:
            x (Tensor): Shape (N, C, H, W), floating point. N may be 0.

        Returns:
            Tensor: Same shape and dtype.
        """
        group = self._process_group() if self.training else None
        if x.numel() == 0 and group is None:
            # Nothing to normalise, and no statistics to spoil with 0 / 0. The sum
            # keeps the parameters in the graph, which distributed training expects.
            return x + 0 * (self.weight + self.bias).sum().to(x.dtype)
        if self.training and group is None and x.numel() == x.size(1):
            raise ValueError(
                f'{type(self).__name__} in training mode needs more than one value per '
                f'channel, got {tuple(x.shape)}: use larger crops or '
                'batches, or set norm_eval'
            )
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        compiled = self.engine == 'compiled' or (
            self.engine == 'auto' and compiled_engine_serves(x.device.type, x.dtype)
        )
        arguments = (
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.training,
            self.momentum,
            self.eps,
        )
        # Statistics over ranks always take the torch engine: the compiled one
        # cannot have a rank without any value (a mask head without positives).
        if compiled and group is None:
            # The package launches on the current GPU, whichever holds the input.
            with torch.cuda.device_of(x):
                return _compiled_engine()(
                    *arguments, self.activation, self.activation_param
                )
        slope = self.activation_param if self.activation == 'leaky_relu' else 1.0
        return _InPlaceABNFunction.apply(*arguments, slope, group)

    def extra_repr(self) -> str:
        """The arguments shown by ``print(model)``."""
        return (
            f'{self.num_features}, eps={self.eps}, momentum={self.momentum}, '
            f'activation={self.activation}, '
            f'activation_param={self.activation_param}, engine={self.engine}'
        )


@MODELS.register_module()
class InPlaceABNSync(InPlaceABN):
    """:class:`InPlaceABN` whose training statistics are over all processes.

    Without an initialised ``torch.distributed`` process group, or with one
    process, it is the same as :class:`InPlaceABN`. Ranks may have inputs of
    different sizes, empty ones included. Arguments as :class:`InPlaceABN`.
    """

    def _process_group(self):
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            return dist.group.WORLD
        return None


def _class_of(cfg: dict) -> type | None:
    """The class a config is of, None if there is none of that name.

    ``type`` may be the class itself, or a name in all ways mmengine knows: with or
    without a scope ('mmdet.InPlaceABN'), or with the path of its module.
    """
    kind = cfg.get('type')
    return MODELS.get(kind) if isinstance(kind, str) else kind


def fold_activation(
    norm_cfg: dict | None, act_cfg: dict | None
) -> tuple[dict | None, dict | None]:
    """Move the activation into the norm layer where that is an iABN.

    So every module can be configured the usual way, ``norm_cfg`` and ``act_cfg``,
    and swapping iABN for BN in a config changes one entry. The activation is that of
    ``act_cfg`` whatever ``norm_cfg`` says of one.

    Args:
        norm_cfg (dict, optional): Config of the norm layer. Its type, as that of
            ``act_cfg``, may be a class, or a name with or without a scope.
        act_cfg (dict, optional): Config of the activation, None for none.

    Returns:
        tuple[dict | None, dict | None]: ``norm_cfg`` and ``act_cfg`` to give to
        :class:`mmcv.cnn.ConvModule`: with iABN the activation is in the first and
        the second is None; otherwise both as they were.

    Raises:
        ValueError: If iABN is combined with an activation it cannot invert.

    Examples:
        >>> norm_cfg, act_cfg = fold_activation(dict(type='mmdet.InPlaceABN'), None)
        >>> norm_cfg['activation'], act_cfg
        ('identity', None)
    """
    if norm_cfg is None:
        return norm_cfg, act_cfg
    norm = _class_of(norm_cfg)
    if not (isinstance(norm, type) and issubclass(norm, InPlaceABN)):
        return norm_cfg, act_cfg
    # The class rather than its name: mmcv looks names up in the default scope, which
    # is not set when a module is built on its own.
    norm_cfg = dict(norm_cfg, type=norm)
    activation = nn.Identity if act_cfg is None else _class_of(act_cfg)
    if act_cfg is None or activation is nn.Identity:
        return dict(norm_cfg, activation='identity'), None
    if activation is not nn.LeakyReLU:
        raise ValueError(
            f'act_cfg.type is {act_cfg["type"]!r}, but iABN can only take '
            "'LeakyReLU' or no activation: set act_cfg=dict(type='LeakyReLU', "
            "negative_slope=0.01), or norm_cfg=dict(type='BN')"
        )
    slope = act_cfg.get('negative_slope', 0.01)
    return dict(norm_cfg, activation='leaky_relu', activation_param=slope), None


@torch.no_grad()
def adopt_batch_norm(conv: nn.Conv2d, norm: InPlaceABN) -> None:
    """Make an iABN that holds the weights of a plain batch norm compute the same.

    iABN multiplies by ``|weight| + eps``. A positive weight loses ``eps`` to make
    up for that; a negative one turns its sign, and the filter of the preceding
    conv and the running mean turn theirs, which leaves the product as it was. A
    weight below ``eps`` becomes zero.

    Args:
        conv (nn.Conv2d): The conv before the norm, changed in place; no bias.
        norm (InPlaceABN): Changed in place.
    """
    sign = torch.where(norm.weight < 0, -1.0, 1.0)
    conv.weight.mul_(sign.view(-1, 1, 1, 1))
    norm.running_mean.mul_(sign)  # type: ignore[union-attr]
    norm.weight.copy_((norm.weight.abs() - norm.eps).clamp_(min=0))
