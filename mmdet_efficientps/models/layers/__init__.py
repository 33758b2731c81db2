# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Layers the parts are made of."""

from .inplace_abn import InPlaceABN, InPlaceABNSync, fold_activation
from .separable_conv import SeparableConv

__all__ = ['InPlaceABN', 'InPlaceABNSync', 'SeparableConv', 'fold_activation']
