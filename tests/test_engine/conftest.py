# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.structures.panoptic import id2rgb


@pytest.fixture
def write_set(tmp_path):
    """Write a data set of two images, road above and one car below; gives its config.

    Both classes, their kinds and category ids and what is written of them can be
    changed.
    """

    def _write_set(
        folder,
        classes=(('road', 0), ('car', 1)),
        category_ids=(7, 26),
        crowd=False,
        written=(True, True),
    ):
        root = tmp_path / folder
        for name in ('img', 'seg'):
            (root / name).mkdir(parents=True)
        ids = np.zeros((40, 60), int)
        segments = []
        for k, rows in enumerate((slice(0, 20), slice(24, 36))):
            if written[k]:
                ids[rows, 6:30] = k + 1
                iscrowd = int(crowd and classes[k][1])
                segments.append(
                    dict(id=k + 1, category_id=category_ids[k], iscrowd=iscrowd)
                )
        content = dict(
            images=[],
            annotations=[],
            categories=[
                dict(id=i, name=name, isthing=isthing)
                for i, (name, isthing) in zip(category_ids, classes, strict=True)
            ],
        )
        for k in range(2):
            pixels = np.random.default_rng(k).integers(0, 256, (40, 60, 3), np.uint8)
            Image.fromarray(pixels).save(root / 'img' / f'{k}.jpg')
            Image.fromarray(id2rgb(ids)).save(root / 'seg' / f'{k}.png')
            content['images'].append(
                dict(id=k, file_name=f'{k}.jpg', width=60, height=40)
            )
            content['annotations'].append(
                dict(image_id=k, file_name=f'{k}.png', segments_info=segments)
            )
        (root / 'panoptic.json').write_text(json.dumps(content))
        return dict(
            type='PanopticDataset',
            data_root=str(root),
            ann_file='panoptic.json',
            data_prefix=dict(img='img', seg='seg'),
        )

    return _write_set
