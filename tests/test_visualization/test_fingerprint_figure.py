# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A figure of many classes, with names of all kinds, drawn once."""

import itertools
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmdet_efficientps.datasets.fingerprint import DataFiles, read_fingerprint
from mmdet_efficientps.testing.data_set_trees import write_own
from mmdet_efficientps.visualization.fingerprint_figure import (
    MOST_TOGETHER,
    plot_fingerprint,
)

NAMES = [
    'road', 'a$x$b', 'axb', '$\\bad{$', 'line\nbreak', 'x' * 200, '\U0010abcd',
    *(f'construction--barrier--of-a-kind-{k}' for k in range(33)),
]  # fmt: skip


@pytest.fixture(scope='module')
def figure(tmp_path_factory):
    """Draw 20 images, of which every second class is in one more; as it is saved."""
    root = tmp_path_factory.mktemp('figure')
    kinds = {k + 1: k + 1 for k in range(len(NAMES))}
    maps = []
    for number in range(20):
        shown = len(NAMES) - 2 * number
        ids = np.arange(40 * 40).reshape(40, 40) // 40 % shown + 1
        maps.append(ids)
    categories = [
        {'id': k + 1, 'name': name, 'isthing': k % 2} for k, name in enumerate(NAMES)
    ]
    files = DataFiles(
        *write_own(root, '$\\c{$', maps, kinds, categories), root / '$\\c{$'
    )
    data = read_fingerprint(files)
    drawn = []
    savefig = Figure.savefig

    def keep(self, *args, **kwargs):
        drawn.append(self)
        savefig(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(Figure, 'savefig', keep)
        # Of missing characters, and of a layout that is not possible.
        warnings.simplefilter('error')
        plot_fingerprint(
            data, root / 'a.png', np.ones(20), np.array([[8.0, 8.0]]), 8, 16, 0.2
        )
    return drawn[0]


def axes_of(figure, title):
    (axes,) = (a for a in figure.axes if a.get_title().startswith(title))
    return axes


def boxes(texts):
    return [text.get_window_extent() for text in texts]


def test_names_are_drawn_as_they_are(figure):
    labels = axes_of(figure, 'Classes').get_yticklabels()
    width = {label.get_text(): label.get_window_extent().width for label in labels}
    assert {'a$x$b', '$\\bad{$', 'line break', 'id 7'} <= set(width)
    # Without the signs, in italics, if it were a formula.
    assert width['a$x$b'] > 1.3 * width['axb']
    assert figure.get_suptitle().startswith('$\\c{$.json: 20 images, 40 x 40 pixels')
    assert 'where no installed font has the name' in figure.get_suptitle()


def test_labels_do_not_overlap(figure):
    matrix = axes_of(figure, 'Share')
    for labels in (
        matrix.get_xticklabels(),
        matrix.get_yticklabels(),
        axes_of(figure, 'Classes').get_yticklabels(),
    ):
        for one, other in itertools.pairwise(boxes(labels)):
            assert not one.overlaps(other)


def test_plots_with_their_texts_do_not_overlap(figure):
    parts = [axes.get_tightbbox() for axes in figure.axes]
    for one, other in itertools.combinations(parts, 2):
        # Half a pixel for rounding.
        assert not one.padded(-0.5).overlaps(other)
    for part in parts:
        assert figure.bbox.padded(1).containsx(part.x0)
        assert figure.bbox.padded(1).containsx(part.x1)


def test_the_most_frequent_classes_that_fit_are_compared(figure):
    matrix = axes_of(figure, 'Share')
    assert len(matrix.get_yticklabels()) == MOST_TOGETHER < len(NAMES)
    assert f'({MOST_TOGETHER} most frequent classes)' in matrix.get_title()
    assert matrix.get_window_extent().width > 250


def test_the_line_of_rare_classes_strikes_no_figure_through(figure):
    axes = axes_of(figure, 'Classes')
    (line,) = axes.lines
    place = line.get_window_extent().x1
    assert len(axes.texts) == len(NAMES)
    assert all(box.x0 > place for box in boxes(axes.texts))
    ends = [bar.get_window_extent().x1 for bar in axes.patches]
    assert all(box.x0 > max(ends) for box in boxes(axes.texts))
    assert min(ends) < place < max(ends)
