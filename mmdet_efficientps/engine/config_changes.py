# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What differs between the configs of two runs, from their texts alone."""

from __future__ import annotations

import ast
from typing import Any

# What a run is told on its way, and where it runs.
_NOT_OF_THE_TRAINING = ('resume', 'load_from', 'work_dir', 'launcher', 'log_level')
_MISSING = object()


def config_changes(old: str, new: str) -> list[str]:
    """List what differs between two configs.

    Example::

        >>> config_changes("a = dict(b=1, c=[1, 2])", "a = dict(b=1, c=[1, 3])\\nd = 4")
        ['a.c.1: 2 -> 3', 'd: nothing -> 4']

    Args:
        old (str): Text of a config as MMEngine prints it, in checkpoints 'cfg' of
            'meta'. It is read, not run.
        new (str): Text of the other.

    Returns:
        list[str]: 'key: old -> new', in the order of the configs.

    Raises:
        SyntaxError: If a text is no config.
    """
    changes: list[str] = []
    first, second = _read(old), _read(new)
    for key in _NOT_OF_THE_TRAINING:
        first.pop(key, None)
        second.pop(key, None)
    _compare(first, second, '', changes)
    return changes


def read_config_text(text: str) -> dict[str, Any]:
    """Read the fields of a config without running it.

    Args:
        text (str): Text of a config as MMEngine prints it.

    Returns:
        dict[str, Any]: The fields. What is no literal is given as its text.

    Raises:
        SyntaxError: If the text is no config.
    """
    return _read(text)


def _read(text: str) -> dict[str, Any]:
    fields = {}
    for line in ast.parse(text).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            fields[line.targets[0].id] = _value(line.value)
    return fields


def _value(node: ast.expr) -> Any:
    """Value of an expression in a config."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        pairs = [(k.arg, _value(k.value)) for k in node.keywords if k.arg]
        return dict(pairs) | {
            key: value
            for k in (*node.args, *(k.value for k in node.keywords if not k.arg))
            if isinstance(inner := _value(k), dict)
            for key, value in inner.items()
        }
    if isinstance(node, ast.Dict):
        keys = [str(_value(k)) for k in node.keys if k is not None]
        return dict(zip(keys, map(_value, node.values), strict=False))
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _compare(old: Any, new: Any, key: str, changes: list[str]) -> None:
    """Add what differs in a field and below it."""
    pairs: list[tuple[Any, Any, Any]]
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(k, old.get(k, _MISSING), new.get(k, _MISSING)) for k in old | new]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(k, *values) for k, values in enumerate(zip(old, new, strict=True))]
    else:
        if old != new:
            changes.append(f'{key}: {_text(old)} -> {_text(new)}')
        return
    for name, first, second in pairs:
        _compare(first, second, f'{key}.{name}' if key else str(name), changes)


def _text(value: Any) -> str:
    """A value in words, shortened."""
    if value is _MISSING:
        return 'nothing'
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
