# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Names that users chose, in plots: of any length and in any script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from matplotlib.font_manager import findfont, fontManager, get_font

MAIN_FONT = 'DejaVu Sans'
# Fonts of boxes, one for each script, that come with matplotlib and macOS.
BOXES = 'LastResort'
REGULAR = 400
LONGEST = 28


def shorten(text: str, length: int = LONGEST) -> str:
    """Leave out the middle of a long name, and all line breaks.

    Example::

        >>> shorten('construction--barrier--guard-rail', 16)
        'construc…rd-rail'

    Args:
        text (str): The name.
        length (int): Number of characters that are left. Defaults to 28.

    Returns:
        str: The name on one line.
    """
    text = ' '.join(text.split())
    if len(text) <= length:
        return text
    return f'{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}'


def plot_names(names: Sequence[str], ids: Sequence[int], fonts: Fonts) -> list[str]:
    """Give names as they can be drawn.

    Args:
        names (Sequence[str]): The names.
        ids (Sequence[int]): An id of each, for names that no font has or that are the
            same as another's if shortened.
        fonts (Fonts): Fonts that are drawn with.

    Returns:
        list[str]: A short name for each, different where the names are.
    """
    short = [shorten(name) for name in names]
    times = Counter(short)
    return [
        f'id {id_}'
        if fonts.missing.intersection(text)
        else f'{text} (id {id_})'
        if times[text] > 1
        else text
        for text, id_ in zip(short, ids, strict=True)
    ]


class Fonts:
    """Fonts for some texts: matplotlib's own, and installed ones for what it lacks.

    Args:
        texts (Iterable[str]): What is drawn.

    Attributes:
        families (list[str]): Names of the fonts, for ``font.family``.
        missing (set[str]): Characters that no installed font has.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.families = [MAIN_FONT]
        self.missing = set(''.join(texts)) - _characters(findfont(MAIN_FONT))
        if not self.missing:
            return
        found = {
            family: self.missing & _characters(path) for family, path in _installed()
        }
        while self.missing and found:
            family = max(found, key=lambda name: len(found[name] & self.missing))
            new = found.pop(family) & self.missing
            if not new:
                break
            self.families.append(family)
            self.missing -= new


def _installed() -> Iterator[tuple[str, str]]:
    """Give name and file of every upright font of usual weight."""
    seen = set()
    for font in sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        is_usual = font.style == 'normal' and font.weight == REGULAR
        is_box = BOXES in font.name.replace(' ', '')
        if is_usual and not is_box and font.name not in seen:
            seen.add(font.name)
            yield font.name, font.fname


def _characters(path: str) -> set[str]:
    """Characters of a font; none if it cannot be read."""
    try:
        return set(map(chr, get_font(path).get_charmap()))
    except (OSError, RuntimeError):
        return set()
