# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A picture of what a data set has: classes, sizes, and what is seen together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from mmdet_efficientps.datasets.fingerprint import Fingerprint
from mmdet_efficientps.utils import atomic_path, counted

from .plot_text import Fonts, plot_names, shorten

# What fits: classes in rows, and in rows and columns.
MOST_CLASSES, MOST_TOGETHER = 60, 30
# Height of a row and width of a letter of the matrix, in inches at its font size.
CELL, LETTER, SMALL_FONT = 0.14, 0.062, 7
THING_COLOR, STUFF_COLOR, MARK_COLOR = '#0072b2', '#e69f00', '#b00020'


def plot_fingerprint(
    data: Fingerprint,
    out_file: str | Path,
    factors: np.ndarray,
    anchors: np.ndarray,
    least_side: float,
    min_stuff_area: float,
    rare_share: float,
) -> None:
    """Draw the figures of a data set.

    Args:
        data (Fingerprint): The data set.
        out_file (str | Path): PNG to write.
        factors (np.ndarray): How much every image is scaled for the network, shape
            (N, ): things are drawn at that size.
        anchors (np.ndarray): Widths and heights of the anchors in pixels, shape (A, 2).
        least_side (float): Side of the smallest things that can be seen, in pixels.
        min_stuff_area (float): Area below which stuff is taken for an error, in pixels
            of the images.
        rare_share (float): Share of the images below which a class is rare.
    """
    file_name = shorten(data.files.json_file.name, 60)
    fonts = Fonts([*map(shorten, data.classes.names), file_name])
    file_name = ''.join('?' if c in fonts.missing else c for c in file_name)
    # Names are no formulas, whatever signs they have.
    style: dict[Any, Any] = {'text.parse_math': False, 'font.family': fonts.families}
    with rc_context(style), atomic_path(out_file) as temporary:
        figure = _make_figure(
            data, file_name, fonts, factors, anchors, least_side, min_stuff_area,
            rare_share,
        )  # fmt: skip
        figure.savefig(temporary)


def _make_figure(
    data: Fingerprint,
    file_name: str,
    fonts: Fonts,
    factors: np.ndarray,
    anchors: np.ndarray,
    least_side: float,
    min_stuff_area: float,
    rare_share: float,
) -> Figure:
    """Put the plots together."""
    order = np.argsort(-data.num_images, kind='stable')[:MOST_CLASSES]
    order = order[data.num_images[order] > 0]
    names = plot_names(data.classes.names, [c.id for c in data.classes], fonts)
    matrix = min(len(order), MOST_TOGETHER) * CELL
    label = LETTER * max(len(names[k]) for k in order)
    # The matrix has about 0.6 of the height and, of what the names leave, a fourth of
    # the width.
    width = max(17.0, 2 * label + 4 * matrix)
    height = max(8.0, 0.2 * len(order) + 1.5, (matrix + label + 1) / 0.58)
    figure = Figure(figsize=(width, height), dpi=100, layout='constrained')
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 0.85, 1.15))
    middle = [figure.add_subplot(grid[row, 1]) for row in (0, 1)]
    right = grid[:, 2].subgridspec(2, 1, height_ratios=(1, 1.5))
    _draw_classes(figure.add_subplot(grid[:, 0]), data, order, names, rare_share)
    _draw_thing_sides(middle[0], data, factors, least_side)
    _draw_stuff_areas(middle[1], data, min_stuff_area)
    _draw_boxes(figure.add_subplot(right[0]), data, factors, anchors)
    _draw_together(figure.add_subplot(right[1]), data, order[:MOST_TOGETHER], names)
    width, height = np.median(data.sizes, axis=0)
    left_out = int((data.num_images > 0).sum()) - len(order)
    notes = [
        f'{file_name}: {counted(len(data), "image")}, {width:g} x {height:g} pixels '
        f'at the median, {counted(len(data.segments), "segment")}'
    ]
    if left_out:
        notes.append(f'the rarest {left_out} of the classes not drawn')
    absent = int((data.num_images == 0).sum())
    if absent:
        notes.append(f'{counted(absent, "class", "classes")} without a segment')
    if any(fonts.missing.intersection(name) for name in data.classes.names):
        notes.append('where no installed font has the name, the id of the category')
    figure.suptitle('; '.join(notes), fontsize=13)
    return figure


def _draw_classes(
    axis: Axes,
    data: Fingerprint,
    order: np.ndarray,
    names: list[str],
    rare_share: float,
) -> None:
    """Images of every class, with segments and pixels in figures."""
    counts = data.num_images[order]
    places = np.arange(len(order))
    colors = np.array(data.classes.palette)[order] / 255
    axis.barh(places, counts, color=colors, edgecolor='#606060', linewidth=0.5)
    shares, segments = data.pixel_shares, data.num_segments
    rare = rare_share * len(data)
    # A column beside the longest bar and the line, so that nothing strikes it through.
    end = max(*counts, rare)
    for place, label in enumerate(order):
        axis.text(
            1.05 * end,
            place,
            f'{counted(segments[label], "segment")}, {shares[label]:.2%} of pixels',
            va='center',
            fontsize=7.5,
        )
    axis.axvline(rare, color=MARK_COLOR, linestyle='--')
    kinds = [c.isthing for c in data.classes]
    axis.set(
        yticks=places,
        xlabel='images that show the class (bold: things)',
        title=f'Classes (left of the line: rare, below {rare_share:.0%})',
        xlim=(0, 1.75 * end),
        ylim=(len(order) - 0.4, -0.6),
    )
    axis.set_yticklabels([names[k] for k in order], fontsize=8)
    for label, text in zip(order, axis.get_yticklabels(), strict=True):
        text.set_fontweight('bold' if kinds[label] else 'normal')


def _log_histogram(axis: Axes, values: np.ndarray, color: str) -> None:
    """A histogram over a logarithmic axis."""
    low, high = max(values.min(), 0.5), max(values.max(), 1) * 1.01
    bins = np.geomspace(low, max(high, 2 * low), 40).tolist()
    axis.hist(values, bins=bins, color=color)
    axis.set_xscale('log')
    _label_octaves(axis.xaxis)
    axis.grid(alpha=0.3)


def _label_octaves(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers that do not run into each other."""
    axis.set_major_locator(LogLocator(base=2, numticks=9))
    axis.set_major_formatter(FormatStrFormatter('%g'))
    axis.set_minor_locator(NullLocator())


def _draw_thing_sides(
    axis: Axes, data: Fingerprint, factors: np.ndarray, least_side: float
) -> None:
    """Sides of the things at the size of the network."""
    rows = data.instances
    sides = np.sqrt(rows['area']) * factors[rows['image']]
    _log_histogram(axis, sides, THING_COLOR)
    axis.axvline(least_side, color=MARK_COLOR, linestyle='--')
    small = (sides < least_side).mean()
    axis.set(
        xlabel='root of the area in pixels of the network input',
        ylabel='things',
        title=f'Sizes of {counted(len(sides), "thing")}, {small:.1%} below '
        f'{least_side:g} pixels',
    )


def _draw_stuff_areas(axis: Axes, data: Fingerprint, min_stuff_area: float) -> None:
    """Areas of the stuff."""
    areas = data.stuff_areas
    if len(areas):
        _log_histogram(axis, areas, STUFF_COLOR)
        axis.axvline(min_stuff_area, color=MARK_COLOR, linestyle='--')
    small = (areas < min_stuff_area).mean() if len(areas) else 0
    axis.set(
        xlabel='area in pixels of the images',
        ylabel='stuff regions',
        title=f'Sizes of {counted(len(areas), "stuff region")}, {small:.1%} below '
        f'{min_stuff_area:g} pixels',
    )


def _draw_boxes(
    axis: Axes, data: Fingerprint, factors: np.ndarray, anchors: np.ndarray
) -> None:
    """Boxes of the things and the anchors."""
    rows = data.instances
    scales = factors[rows['image']]
    axis.scatter(
        rows['width'] * scales, rows['height'] * scales, s=5, alpha=0.35,
        color=THING_COLOR, label='things', linewidths=0,
    )  # fmt: skip
    widths, heights = anchors.T
    axis.scatter(widths, heights, s=60, marker='+', color=MARK_COLOR, label='anchors')
    axis.set(
        xscale='log',
        yscale='log',
        xlabel='width of the box in pixels of the network input',
        ylabel='height',
        title='Boxes and anchors',
    )
    for side in (axis.xaxis, axis.yaxis):
        _label_octaves(side)
    axis.legend(loc='upper left')
    axis.grid(alpha=0.3)


def _draw_together(
    axis: Axes, data: Fingerprint, order: np.ndarray, names: list[str]
) -> None:
    """How often two classes are seen in one image."""
    together = data.together[np.ix_(order, order)]
    shares = together / np.maximum(together.diagonal(), 1)[:, None]
    picture = axis.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    shown = [names[k] for k in order]
    places = np.arange(len(order))
    axis.set(xticks=places, yticks=places)
    axis.set_xticklabels(shown, rotation=90, fontsize=SMALL_FONT)
    axis.set_yticklabels(shown, fontsize=SMALL_FONT)
    title = 'Share of the images of a row\nthat show the column'
    if len(order) < (data.num_images > 0).sum():
        title += f'\n({len(order)} most frequent classes)'
    axis.set_title(title, fontsize=11)
    axis.figure.colorbar(picture, cax=axis.inset_axes((1.04, 0.1, 0.04, 0.8)))
