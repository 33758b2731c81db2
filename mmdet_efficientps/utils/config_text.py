# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Configs as text, as checkpoints hold them, read without running them."""

from __future__ import annotations

import ast
from typing import Any


def parse_config_text(text: str) -> dict[str, Any]:
    r"""Read a config as MMEngine writes it into checkpoints.

    ``Config.fromstring`` runs such a text as a program. A checkpoint from somewhere
    else shall not be able to do anything by being opened, so only values are taken
    here, which is all that ``Config.pretty_text`` writes.

    Example::

        >>> parse_config_text("model = dict(type='A', scale=-1.5)\nx = [1, (2, None)]")
        {'model': {'type': 'A', 'scale': -1.5}, 'x': [1, (2, None)]}

    Args:
        text (str): Assignments of numbers, texts, lists, tuples, dicts and calls of
            ``dict``.

    Returns:
        dict[str, Any]: What is assigned to which name.

    Raises:
        ValueError: If it holds anything else; says what and in which line.
    """
    try:
        lines = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(f'line {error.lineno} is no Python: {error.msg}') from error
    fields = {}
    for line in lines:
        if not (
            isinstance(line, ast.Assign)
            and len(line.targets) == 1
            and isinstance(line.targets[0], ast.Name)
        ):
            raise _not_a_value(line)
        fields[line.targets[0].id] = _value(line.value)
    return fields


def _value(node: ast.expr) -> Any:
    """Give the value of an expression without evaluating anything."""
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args:
            raise _not_a_value(node)
        values = {}
        for keyword in node.keywords:
            # ``dict(a=1, **{'b.c': 2})``: keys that are no names are written so.
            if keyword.arg is not None:
                values[keyword.arg] = _value(keyword.value)
                continue
            more = _value(keyword.value)
            if not isinstance(more, dict):
                raise _not_a_value(node)
            values |= more
        return values
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):
            raise _not_a_value(node)
        return {
            _value(key): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise _not_a_value(node) from error


def _not_a_value(node: ast.stmt | ast.expr) -> ValueError:
    return ValueError(f'line {node.lineno} is no value: {ast.unparse(node)[:60]!r}')
