# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Pictures of a training in MLflow."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.registry import VISBACKENDS
from mmengine.visualization import MLflowVisBackend


# In configs by MMEngine's name: nobody wants a training to end at its first picture.
@VISBACKENDS.register_module(name=['PictureMLflowVisBackend', 'MLflowVisBackend'])
class PictureMLflowVisBackend(MLflowVisBackend):
    """MMEngine's backend, which takes pictures by any name.

    MMEngine gives the name to MLflow as that of a file, which fails without a suffix
    and overwrites the picture of the step before. Arguments as the base class.
    """

    def add_image(
        self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any
    ) -> None:
        """Keep a picture as ``<name>_<step>.png``, as MMEngine's local backend does.

        Args:
            name (str): Identifier of the picture.
            image (np.ndarray): Shape (H, W, 3), uint8, RGB.
            step (int): Step of the training. Defaults to 0.
            **kwargs (Any): Not used.
        """
        super().add_image(f'{name}_{step}.png', image, step, **kwargs)
