# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Numbers of things in messages."""

from __future__ import annotations


def counted(count: int, name: str, names: str = '') -> str:
    """Say how many there are.

    Example::

        >>> counted(1, 'image'), counted(0, 'image'), counted(2, 'class', 'classes')
        ('1 image', '0 images', '2 classes')

    Args:
        count (int): How many.
        name (str): What one of them is called.
        names (str): What several are called. Defaults to '', ``name`` with an s.

    Returns:
        str: Number and name.
    """
    return f'{count} {name if count == 1 else names or f"{name}s"}'
