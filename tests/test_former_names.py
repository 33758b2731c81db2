# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib
import subprocess
import sys

import pytest

FORMER = {
    'mmdet_efficientps.datasets.toy_city': 'render_scene',
    'mmdet_efficientps.datasets.transforms.panoptic_map': 'make_index_map',
    'mmdet_efficientps.datasets.transforms.resize_image_to_label': 'ResizeImageToLabel',
    'mmdet_efficientps.utils.release_checkpoint': 'convert_release_state_dict',
}


@pytest.mark.parametrize('module', FORMER)
def test_modules_are_found_under_their_former_names(module):
    found = importlib.import_module(module)
    assert found.__name__ != module
    assert callable(getattr(found, FORMER[module]))


@pytest.mark.slow
def test_former_names_can_be_imported_in_every_way():
    program = (
        'import mmdet_efficientps.utils.release_checkpoint\n'
        'from mmdet_efficientps.utils import release_checkpoint\n'
        'from mmdet_efficientps.datasets.toy_city import render_scene\n'
        'assert mmdet_efficientps.utils.release_checkpoint is release_checkpoint\n'
        'print(render_scene.__module__)'
    )
    result = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True
    )
    assert 'mmdet_efficientps.testing.toy_city' in result.stdout
