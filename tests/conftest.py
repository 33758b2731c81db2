# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
from mmdet.utils import register_all_modules

import mmdet_efficientps  # noqa: F401


@pytest.fixture(scope='session', autouse=True)
def _default_scope():
    """The scope configs are read in: every one of them sets default_scope."""
    register_all_modules(init_default_scope=True)
