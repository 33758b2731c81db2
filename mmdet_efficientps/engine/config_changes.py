# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What differs between the configs of two runs, from their texts alone."""

from __future__ import annotations

from typing import Any

from mmdet_efficientps.utils.config_text import parse_config_text

# What a run is told on its way, and where it runs.
_NOT_OF_THE_TRAINING = (
    'resume',
    'load_from',
    'start_from',
    'work_dir',
    'launcher',
    'log_level',
    'experiment_name',
)
_MISSING = object()


def config_changes(old: str, new: str) -> list[str]:
    r"""List what differs between two configs.

    Example::

        >>> config_changes("a = dict(b=1, c=[1, 2])", "a = dict(b=1, c=[1, 3])\nd = 4")
        ['a.c.1: 2 -> 3', 'd: nothing -> 4']

    Args:
        old (str): Text of a config as MMEngine prints it, in checkpoints 'cfg' of
            'meta'. It is read, not run.
        new (str): Text of the other.

    Returns:
        list[str]: 'key: old -> new', in the order of the configs.

    Raises:
        ValueError: If a text is no config.
    """
    changes: list[str] = []
    first, second = parse_config_text(old), parse_config_text(new)
    for key in _NOT_OF_THE_TRAINING:
        first.pop(key, None)
        second.pop(key, None)
    _compare(first, second, '', changes)
    return changes


def _compare(old: Any, new: Any, key: str, changes: list[str]) -> None:
    """Add what differs in a field and below it."""
    pairs: list[tuple[Any, Any, Any]]
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(k, old.get(k, _MISSING), new.get(k, _MISSING)) for k in old | new]
    elif (
        isinstance(old, list | tuple)
        and isinstance(new, list | tuple)
        and len(old) == len(new)
    ):
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
