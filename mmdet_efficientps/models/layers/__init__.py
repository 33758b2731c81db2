# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Layers the parts are made of."""

from .activation_checkpointing import checkpoint_activations
from .conv_padding import pad_within_convs
from .inplace_abn import InPlaceABN, InPlaceABNSync, fold_activation
from .separable_conv import SeparableConv

__all__ = [
    'InPlaceABN',
    'InPlaceABNSync',
    'SeparableConv',
    'checkpoint_activations',
    'fold_activation',
    'pad_within_convs',
]
