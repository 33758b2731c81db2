# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The ground truth is read once for all metrics, and again when it changes."""

import os

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.evaluation.metrics.sample_fields import load_gt_ids
from mmdet_efficientps.structures.panoptic import id2rgb


def write(path, segment_id):
    Image.fromarray(id2rgb(np.full((4, 6), segment_id))).save(path)


def test_metrics_share_the_decoded_ground_truth(tmp_path):
    write(tmp_path / 'a.png', 7)
    sample = {'seg_map_path': str(tmp_path / 'a.png'), 'segments_info': []}
    first = load_gt_ids(sample)
    assert (first == 7).all()
    assert load_gt_ids(dict(sample)) is first
    with pytest.raises(ValueError, match='read-only'):
        first[0, 0] = 1


def test_changed_file_is_read_again(tmp_path):
    path = tmp_path / 'a.png'
    write(path, 7)
    sample = {'seg_map_path': str(path), 'segments_info': []}
    load_gt_ids(sample)
    write(path, 8)
    os.utime(path, ns=(0, 1))
    assert (load_gt_ids(sample) == 8).all()


def test_missing_file_is_an_error(tmp_path):
    sample = {'seg_map_path': str(tmp_path / 'no.png'), 'segments_info': []}
    with pytest.raises(FileNotFoundError, match='no.png'):
        load_gt_ids(sample)
