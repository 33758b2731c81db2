# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What a conversion did, in numbers and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminaltables import AsciiTable

from mmdet_efficientps.utils import ProblemList

SHOWN_SIZES = 3


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        json_path (Path): The json; it is written if there is at least one image.
        num_images (int): Images in the json.
        num_kept (int): Those of them that a former run had converted.
        segments (dict[str, int]): Segments per class, crowds included.
        crowds (Counter[str]): Crowd segments per class.
        pixels (Counter[str]): Labelled pixels per class.
        sizes (Counter[tuple[int, int]]): Images per size (width, height).
        num_dropped (int): Annotations without a visible pixel.
        problems (ProblemList): What is wrong with images and annotations left out.
        notes (list[str]): What else a user should know.
    """

    json_path: Path
    num_images: int = 0
    num_kept: int = 0
    segments: dict[str, int] = field(default_factory=dict)
    crowds: Counter[str] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    num_dropped: int = 0
    problems: ProblemList = field(default_factory=ProblemList)
    notes: list[str] = field(default_factory=list)

    def count(self, result: dict[str, Any], name_of: Mapping[int, str]) -> None:
        """Count an image.

        Args:
            result (dict[str, Any]): Its width, height, segments_info and num_dropped.
            name_of (Mapping[int, str]): Name of each category id.
        """
        self.num_images += 1
        self.sizes[result['width'], result['height']] += 1
        self.num_dropped += result['num_dropped']
        for segment in result['segments_info']:
            name = name_of[segment['category_id']]
            self.segments[name] += 1
            self.crowds[name] += segment['iscrowd']
            self.pixels[name] += segment['area']

    @property
    def num_pixels(self) -> int:
        """All pixels of the images."""
        return sum(width * height * n for (width, height), n in self.sizes.items())

    @property
    def void_share(self) -> float:
        """Share of pixels without label, 0..1."""
        return 1 - self.pixels.total() / self.num_pixels if self.num_images else 0.0

    def summary(self) -> str:
        """Give the numbers as text.

        Returns:
            str: A table of the classes and some lines, without the problems.
        """
        rows = [['class', 'segments', 'of them crowds', '% of pixels']]
        for name, count in self.segments.items():
            if count:
                share = 100 * self.pixels[name] / self.num_pixels
                rows.append([name, str(count), str(self.crowds[name]), f'{share:.2f}'])
        lines = [*self.notes, AsciiTable(rows).table]
        absent = [name for name, count in self.segments.items() if not count]
        if absent:
            lines.append(f'without segments: {", ".join(absent)}')
        written = self.json_path if self.num_images else 'nothing to write'
        lines.append(
            f'{self.num_images} images, {100 * self.void_share:.1f} % void: {written}'
        )
        sizes = [
            f'{width}x{height} ({count})'
            for (width, height), count in self.sizes.most_common(SHOWN_SIZES)
        ]
        if len(self.sizes) > SHOWN_SIZES:
            sizes.append(f'{len(self.sizes) - SHOWN_SIZES} more')
        if sizes:
            lines.append(f'sizes: {", ".join(sizes)}')
        if self.num_images and self.num_kept == self.num_images:
            lines.append(f'{self.json_path} is up to date')
        elif self.num_kept:
            lines.append(f'{self.num_kept} images were there from a former run')
        if self.num_dropped:
            lines.append(
                f'annotations without a visible pixel, dropped: {self.num_dropped}'
            )
        return '\n'.join(lines)
