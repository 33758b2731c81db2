# Licensed under the Apache License, Version 2.0. See LICENSE.
from types import SimpleNamespace

import numpy as np
from mmdet.registry import VISBACKENDS


def test_pictures_of_all_steps_are_files_of_their_own():
    backend = VISBACKENDS.build(dict(type='MLflowVisBackend', save_dir='nowhere'))
    files = []
    backend._mlflow = SimpleNamespace(log_image=lambda image, name: files.append(name))
    backend._env_initialized = True
    for step in (10, 20):
        backend.add_image('val_street', np.zeros((4, 4, 3), np.uint8), step)
    assert files == ['val_street_10.png', 'val_street_20.png']
