# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Region proposals."""

from .float32_rpn_head import Float32RPNHead

__all__ = ['Float32RPNHead']
