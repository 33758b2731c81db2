# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Pictures of panoptic segmentations and of training runs."""

from .mlflow_backend import PictureMLflowVisBackend
from .panoptic_drawing import (
    draw_comparison,
    draw_legend,
    draw_panoptic,
    panoptic_overlay,
)
from .panoptic_visualizer import PanopticVisualizer
from .predicted_image import load_predicted_image
from .training_curves import plot_training_curves, read_scalars

__all__ = [
    'PanopticVisualizer',
    'PictureMLflowVisBackend',
    'draw_comparison',
    'draw_legend',
    'draw_panoptic',
    'load_predicted_image',
    'panoptic_overlay',
    'plot_training_curves',
    'read_scalars',
]
