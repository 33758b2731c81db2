# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.visualization import plot_training_curves, read_scalars

TRAINING = [
    {'loss': 4.0, 'loss_seg': 3.0, 'lr': 0.1, 'step': 1},
    {'loss': 2.0, 'loss_seg': 1.5, 'lr': 0.1, 'step': 2},
]
VALIDATION = [{'panoptic/PQ': 20.0, 'panoptic/PQ_th': 10.0, 'step': 2}]


def halves(path):
    """Left and right half of a picture."""
    pixels = np.array(Image.open(path).convert('RGB'))
    middle = pixels.shape[1] // 2
    return pixels[:, :middle], pixels[:, middle:]


def test_scalars_are_read_line_by_line(tmp_path):
    path = tmp_path / 'scalars.json'
    records = TRAINING + VALIDATION
    path.write_text(''.join(json.dumps(record) + '\n' for record in records))
    assert read_scalars(path) == records


def test_curves_are_written_as_png(tmp_path):
    plot_training_curves(TRAINING + VALIDATION, tmp_path / 'curves.png')
    with Image.open(tmp_path / 'curves.png') as picture:
        assert picture.format == 'PNG'
        assert picture.width > picture.height > 100


def test_curves_are_not_written_through_a_link(tmp_path):
    (tmp_path / 'photo.png').write_bytes(b'photo')
    (tmp_path / 'curves.png').symlink_to(tmp_path / 'photo.png')
    plot_training_curves(TRAINING, tmp_path / 'curves.png')
    assert (tmp_path / 'photo.png').read_bytes() == b'photo'


@pytest.mark.parametrize(
    ('records', 'changed'),
    [
        (TRAINING + [VALIDATION[0] | {'panoptic/PQ_th': 12.0}], 'right'),
        ([TRAINING[0] | {'loss_seg': 3.5}, TRAINING[1], *VALIDATION], 'left'),
        ([TRAINING[0] | {'lr': 0.9}, TRAINING[1], *VALIDATION], None),
    ],
)
def test_losses_are_on_the_left_and_pq_on_the_right(tmp_path, records, changed):
    plot_training_curves(TRAINING + VALIDATION, tmp_path / 'a.png')
    plot_training_curves(records, tmp_path / 'b.png')
    for side, old, new in zip(
        ('left', 'right'),
        halves(tmp_path / 'a.png'),
        halves(tmp_path / 'b.png'),
        strict=True,
    ):
        assert (old != new).any() == (side == changed)


def test_run_without_validation_has_no_empty_panel(tmp_path):
    plot_training_curves(TRAINING + VALIDATION, tmp_path / 'both.png')
    plot_training_curves(TRAINING, tmp_path / 'losses.png')
    both = Image.open(tmp_path / 'both.png').width
    assert Image.open(tmp_path / 'losses.png').width == pytest.approx(both / 2, abs=1)


def test_validations_of_epochs_are_over_epochs(tmp_path):
    epochs = [record | {'epoch': 1} for record in TRAINING]
    plot_training_curves(TRAINING + VALIDATION, tmp_path / 'a.png')
    plot_training_curves(epochs + VALIDATION, tmp_path / 'b.png')
    (left, right), (old_left, old_right) = (
        halves(tmp_path / f'{name}.png') for name in 'ba'
    )
    assert (left == old_left).all()
    # the word below the axis alone
    rows = np.flatnonzero((right != old_right).any(axis=(1, 2)))
    assert len(rows)
    assert rows.min() > right.shape[0] * 0.7


def test_metrics_are_found_by_their_prefix(tmp_path):
    other = [{'coco/PQ': 20.0, 'coco/PQ_th': 10.0, 'step': 2}]
    plot_training_curves(TRAINING + VALIDATION, tmp_path / 'a.png')
    plot_training_curves(TRAINING + other, tmp_path / 'b.png', prefix='coco')
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_no_loss_raises_an_error(tmp_path):
    with pytest.raises(ValueError, match='no training record with a loss'):
        plot_training_curves(VALIDATION, tmp_path / 'curves.png')
    assert not (tmp_path / 'curves.png').exists()
