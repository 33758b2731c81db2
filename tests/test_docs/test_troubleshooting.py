# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Every message that docs/troubleshooting.md quotes is one that something says."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from mmdet_efficientps.utils.environment import installed_stack

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/troubleshooting.md').read_text(encoding='utf-8')
MESSAGES = re.findall(r'^### `(.*)`$', PAGE, re.M)

# Those of others: where they are in the package that says them.
SAID_BY_OTHERS = {
    'MMCV==… is used but incompatible.': 'mmdet/__init__.py',
    '… is not in the …': 'mmengine/registry/build_functions.py',
    'DataLoader worker (pid(s) …) exited unexpectedly': (
        'torch/utils/data/dataloader.py'
    ),
    'Weights only load failed.': 'torch/serialization.py',
}
# Of one of the two stacks alone.
NOT_SAID_BY_ONEDL = ('MMCV==… is used but incompatible.',)
# What Python says of a module that is not there.
MISSING_MODULES = ("No module named 'mmcv._ext'", "No module named 'pkg_resources'")


def texts(source):
    """Texts in a piece of Python, what is filled in replaced by '…'."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [getattr(part, 'value', '…') for part in node.values]
            yield ''.join(part if isinstance(part, str) else '…' for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def says(text, message):
    """Whether a text has a message, whatever stands for '…' inside of it."""
    parts = message.strip('… ').split('…')
    # Most texts lack a part, and that is quicker to see.
    return all(part in text for part in parts) and re.search(
        '.+?'.join(map(re.escape, parts)), text, re.S
    )


@pytest.fixture(scope='module')
def own_texts():
    files = [*ROOT.glob('mmdet_efficientps/**/*.py'), *ROOT.glob('tools/**/*.py')]
    return [t for file in files for t in texts(file.read_text(encoding='utf-8'))]


def test_page_quotes_messages():
    assert len(MESSAGES) > 40
    assert len(set(MESSAGES)) == len(MESSAGES)
    assert set(SAID_BY_OTHERS) | set(MISSING_MODULES) <= set(MESSAGES)


@pytest.mark.parametrize('message', MESSAGES)
def test_message_is_in_the_code(message, own_texts):
    if message in MISSING_MODULES:
        return
    if message in NOT_SAID_BY_ONEDL and installed_stack() == 'onedl':
        pytest.skip('the mmdet of this stack does not say it')
    if message in SAID_BY_OTHERS:
        package, _, path = SAID_BY_OTHERS[message].partition('/')
        file = Path(importlib.util.find_spec(package).origin).parent / path
        found = texts(file.read_text(encoding='utf-8'))
    else:
        found = own_texts
    assert any(says(text, message) for text in found)
