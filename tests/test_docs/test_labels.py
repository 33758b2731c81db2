# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What the pages on labels say is so."""

import re
from pathlib import Path

from mmengine.config import Config

DOCS = Path(__file__).parents[2] / 'docs'


def test_config_of_the_loop_joins_both_labels(tmp_path):
    text = (DOCS / 'labelling_loop.md').read_text(encoding='utf-8')
    (config,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    folder = DOCS.parent / 'configs/efficientps'
    path = tmp_path / 'loop.py'
    path.write_text(config.replace("'./", f"'{folder}/"))
    parts = Config.fromfile(path).train_dataloader.dataset.datasets
    assert [(part.ann_file, dict(part.data_prefix)) for part in parts] == [
        ('panoptic_first.json', {'img': 'train/', 'seg': 'panoptic_first/'}),
        ('panoptic_corrected.json', {'img': 'rest/', 'seg': 'panoptic_corrected/'}),
    ]
    assert all(part.type == 'PanopticDataset' and part.pipeline for part in parts)


def test_every_kind_of_labels_is_described(load_tool):
    text = (DOCS / 'datasets/labels.md').read_text(encoding='utf-8')
    kinds = load_tool('prepare_dataset.py').LABEL_KINDS
    described = re.findall(r'^\| .* \| `([a-z-]+) ', text, re.MULTILINE)
    assert set(kinds) == set(described)
    formats = re.findall(r'^\| `([a-z][a-z-]+)` \|', text, re.MULTILINE)
    assert list(load_tool('export_labels.py').FORMATS) == formats
