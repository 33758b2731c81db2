# Licensed under the Apache License, Version 2.0. See LICENSE.
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'train.py'
CONFIG = 'configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'


def test_conversion_of_iabn_to_plain_batch_norm_is_refused(monkeypatch):
    options = ['--cfg-options', 'sync_bn=torch']
    arguments = ['train.py', str(TOOL.parents[1] / CONFIG), *options]
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit, match="sync_bn='torch'.*InPlaceABNSync"):
        runpy.run_path(str(TOOL), run_name='__main__')
