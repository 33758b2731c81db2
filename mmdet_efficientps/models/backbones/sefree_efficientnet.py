# Licensed under the Apache License, Version 2.0. See LICENSE.
"""EfficientNet without squeeze-and-excitation, the backbone of EfficientPS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmcv.cnn import build_activation_layer
from mmdet.models.backbones import EfficientNet
from mmdet.models.layers import InvertedResidual
from mmdet.registry import MODELS
from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from mmdet_efficientps.utils.checkpoint_loading import (
    CheckpointError,
    check_state_dict,
    find_state_dict,
    read_checkpoint,
)

from ..layers import (
    InPlaceABN,
    checkpoint_activations,
    fold_activation,
    pad_within_convs,
)
from ..layers.inplace_abn import adopt_batch_norm


def _pretrained_cfg(init_cfg: Mapping | Sequence[Mapping] | None) -> Mapping | None:
    """The config of weights from a checkpoint, if there is one among ``init_cfg``."""
    for cfg in [init_cfg] if isinstance(init_cfg, Mapping) else init_cfg or ():
        kind = cfg['type']
        kind = WEIGHT_INITIALIZERS.get(kind) if isinstance(kind, str) else kind
        if kind is PretrainedInit:
            return cfg
    return None


@MODELS.register_module()
class SEFreeEfficientNet(EfficientNet):
    """EfficientNet-B0 to B7 without squeeze-and-excitation (paper, section 3.1).

    The layers and their names are those of mmdet's EfficientNet less the ``se``
    modules, so its checkpoints fit. Norm and activation follow the released
    networks: every expansion, depthwise, stem and last conv is activated, the
    projection of an inverted residual is linear, except in the first stage (which
    has no expansion), where it is activated too, before the residual is added.

    Outputs with the default ``out_indices``, at strides 4, 8, 16 and 32: B0 has
    24, 40, 112 and 1280 channels, B5 40, 64, 176 and 2048.

    ImageNet weights are those that mmpretrain publishes for EfficientNet, by address::

        init_cfg=dict(type='Pretrained', prefix='backbone', checkpoint='https://...')

    docs/checkpoints.md lists them. Their squeeze-and-excitation is left out, and iABN
    layers adopt their batch norms, see
    :func:`~mmdet_efficientps.models.layers.inplace_abn.adopt_batch_norm`; as the
    activation differs too, they are no more than an initialisation. Every other key
    has to fit.

    Args:
        arch (str): 'b0' to 'b7'. Defaults to 'b5'.
        out_indices (Sequence[int]): Stages to output. Defaults to (2, 3, 4, 6).
        norm_cfg (dict): Config of the norm layers.
            Defaults to ``dict(type='InPlaceABN', eps=1e-3)``.
        act_cfg (dict, optional): Config of the activation.
            Defaults to ``dict(type='LeakyReLU', negative_slope=0.01)``.
        linear_first_stage (bool): Make the projection of the first stage linear
            as well. Defaults to False.
        with_cp (bool): Whether blocks are computed again in backward instead of
            keeping their activations, see
            :func:`~mmdet_efficientps.models.layers.checkpoint_activations`.
            Defaults to False.
        kwargs: Other arguments of :class:`mmdet.models.EfficientNet`:
            ``drop_path_rate``, ``frozen_stages``, ``conv_cfg``, ``norm_eval``,
            ``init_cfg``.
    """

    layer_settings = {
        # kernel size, channels, SE ratio, stride, expansion, block type
        'b': [
            [[size, channels, 0, stride, expansion, block] for
             size, channels, _, stride, expansion, block in stage]
            for stage in EfficientNet.layer_settings['b']
        ]
    }  # fmt: skip
    arch_settings = {
        arch: EfficientNet.arch_settings[arch]
        for arch in ('b0', 'b1', 'b2', 'b3', 'b4', 'b5', 'b6', 'b7')
    }

    def __init__(
        self,
        arch: str = 'b5',
        out_indices: Sequence[int] = (2, 3, 4, 6),
        norm_cfg: dict = dict(type='InPlaceABN', eps=1e-3),
        act_cfg: dict | None = dict(type='LeakyReLU', negative_slope=0.01),
        linear_first_stage: bool = False,
        with_cp: bool = False,
        **kwargs,
    ) -> None:
        folded_norm_cfg, folded_act_cfg = fold_activation(norm_cfg, act_cfg)
        super().__init__(
            arch=arch,
            out_indices=out_indices,
            norm_cfg=folded_norm_cfg,
            act_cfg=folded_act_cfg,
            **kwargs,
        )
        # The blocks know it too, but they call the reentrant kind.
        self.with_cp = with_cp
        # Else padded copies of the widest maps are kept for the backward pass.
        pad_within_convs(self)
        # The base class gives the same norm_cfg to all convs and no activation to
        # the projections; which of them are linear is put right here.
        for module in self.modules():
            if not isinstance(module, InvertedResidual):
                continue
            projection = module.linear_conv
            linear = module.with_expand_conv or linear_first_stage
            if isinstance(projection.norm, InPlaceABN):
                if linear:
                    projection.norm.activation = 'identity'
            elif not linear and act_cfg is not None:
                projection.activate = build_activation_layer(act_cfg)
                projection.with_activation = True

    def init_weights(self) -> None:
        """Initialise, from a checkpoint if ``init_cfg`` is 'Pretrained'.

        Raises:
            CheckpointError: If the checkpoint cannot be read, or if it does not fit
                key by key. mmengine would skip what does not fit.
        """
        cfg = _pretrained_cfg(self.init_cfg)
        if self.is_init or cfg is None:  # type: ignore[has-type]
            super().init_weights()
            return
        state = find_state_dict(read_checkpoint(cfg['checkpoint']))
        if prefix := (cfg.get('prefix') or '').rstrip('.'):
            state = {
                key.removeprefix(f'{prefix}.'): value
                for key, value in state.items()
                if key.startswith(f'{prefix}.')
            }
        # Layers behind the last output are not built.
        unused = tuple(
            f'layers.{i}.' for i in range(len(self.layers), len(self.layer_setting))
        )
        state = {k: v for k, v in state.items() if not k.startswith(unused)}
        kept = {key: value for key, value in state.items() if '.se.' not in key}
        num_dropped = len(state) - len(kept)
        own = self.state_dict()
        counters = {k: v for k, v in own.items() if k.endswith('num_batches_tracked')}
        kept = {**counters, **kept}
        try:
            check_state_dict(kept, own, cfg['checkpoint'])
        except CheckpointError as error:
            raise CheckpointError(
                f'{error}\nThese are the weights of another backbone, or '
                f'backbone.init_cfg.prefix={prefix or None!r} is not the one in it '
                "(mmpretrain's checkpoints need prefix='backbone')"
            ) from error
        self.load_state_dict(kept)
        self.is_init = True
        print_log(
            f'{type(self).__name__}: {len(kept)} tensors from {cfg["checkpoint"]}, '
            f'{num_dropped} of squeeze-and-excitation left out',
            logger='current',
        )
        if self._trained_with_batch_norm(state, cfg['checkpoint']) and isinstance(
            self.layers[0].norm, InPlaceABN
        ):
            for module in self.modules():
                if hasattr(module, 'norm') and isinstance(module.norm, InPlaceABN):
                    adopt_batch_norm(module.conv, module.norm)

    def _trained_with_batch_norm(
        self, state: Mapping[str, Tensor], checkpoint: str
    ) -> bool:
        """Whether pretrained weights are of a network with plain batch norm.

        Args:
            state (Mapping[str, Tensor]): State dict as it was read. Where there is
                squeeze-and-excitation, it is an EfficientNet as published.
            checkpoint (str): Where it was read from.

        Returns:
            bool: True if iABN layers have to adopt them.
        """
        return any('.se.' in key for key in state)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features.

        Args:
            x (Tensor): Images, (N, 3, H, W), normalised.

        Returns:
            tuple[Tensor]: The outputs of the stages ``out_indices``.
        """
        if not self.with_cp:
            return super().forward(x)
        outs = []
        for i, layer in enumerate(self.layers):
            for block in layer if isinstance(layer, nn.Sequential) else (layer,):
                x = checkpoint_activations(block, x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> SEFreeEfficientNet:
        """Set training mode; returns self, which the base class forgets to."""
        super().train(mode)
        return self
