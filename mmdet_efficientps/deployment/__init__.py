# Licensed under the Apache License, Version 2.0. See LICENSE.
"""From a trained network to a file, and the runtime that needs that file alone.

Each is imported by its module: ``panoptic_onnx`` needs no PyTorch, ``export`` needs a
recent one.
"""
