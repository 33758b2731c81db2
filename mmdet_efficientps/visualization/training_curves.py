# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Curves of a training run from the scalars MMEngine's runner leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from mmdet_efficientps.utils import atomic_path

METRICS = {'PQ': 'PQ, all classes', 'PQ_th': 'PQ, things', 'PQ_st': 'PQ, stuff'}


def read_scalars(path: str | Path) -> list[dict]:
    """Read the ``scalars.json`` of a run, which has one JSON object a line.

    Args:
        path (str | Path): ``<work folder>/<time>/vis_data/scalars.json``.

    Returns:
        list[dict]: The records in order. Those of training have ``loss``, those of
        validation the metrics; all have ``step``.
    """
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def plot_training_curves(
    records: list[dict], out_file: str | Path, prefix: str = 'panoptic'
) -> None:
    """Plot the losses of a run over its iterations and, if it has any, its PQ.

    PQ is over iterations, or over epochs where the run counts those.

    Args:
        records (list[dict]): What :func:`read_scalars` gives.
        out_file (str | Path): PNG to write.
        prefix (str): Prefix of the metrics. Defaults to 'panoptic'.

    Raises:
        ValueError: If no record has a loss.
    """
    training = [r for r in records if 'loss' in r]
    validation = [r for r in records if f'{prefix}/PQ' in r]
    if not training:
        raise ValueError('no training record with a loss among the scalars')
    panels = 2 if validation else 1
    figure = Figure(figsize=(5.5 * panels, 4.4), dpi=110)
    left, *others = figure.subplots(1, panels, squeeze=False)[0]
    names = ['loss'] + sorted(k for k in training[-1] if k.startswith('loss_'))
    for name in names:
        left.plot(
            [r['step'] for r in training],
            [r[name] for r in training],
            label='total' if name == 'loss' else name.removeprefix('loss_'),
            linewidth=2 if name == 'loss' else 1,
        )
    left.set(xlabel='iteration', ylabel='loss', title='Training losses', yscale='log')
    # Below, where it hides no curve.
    left.legend(
        fontsize='small', ncols=4, loc='upper center', bbox_to_anchor=(0.5, -0.15)
    )
    for right in others:
        for name, label in METRICS.items():
            points = [r for r in validation if f'{prefix}/{name}' in r]
            right.plot(
                [r['step'] for r in points],
                [r[f'{prefix}/{name}'] for r in points],
                marker='o',
                label=label,
            )
        # MMEngine writes the epoch into records of epoch-based runs only, and counts
        # the steps of their validations by it.
        unit = 'epoch' if 'epoch' in training[-1] else 'iteration'
        right.set(xlabel=unit, ylabel='PQ (%)', title='Validation', ylim=(0, None))
        right.legend(
            fontsize='small', ncols=3, loc='upper center', bbox_to_anchor=(0.5, -0.15)
        )
    for axis in (left, *others):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    with atomic_path(out_file) as temporary:
        figure.savefig(temporary)
