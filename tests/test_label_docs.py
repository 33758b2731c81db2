# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The commands of the pages on labels are such as the tools take."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

DOCS = Path(__file__).parents[1] / 'docs'
PAGES = ('datasets/labels.md', 'labelling_loop.md')
TOOLS = ('prepare_dataset', 'export_labels', 'browse_dataset', 'labelling_effort')


def commands():
    """Commands of our tools in the shell blocks, as lists of arguments."""
    for page in PAGES:
        text = (DOCS / page).read_text(encoding='utf-8')
        for block in re.findall(r'```bash\n(.*?)```', text, re.DOTALL):
            variables = dict(re.findall(r'^([A-Z]+)="?(.*?)"?$', text, re.MULTILINE))
            for line in block.replace('\\\n', ' ').splitlines():
                for name, value in variables.items():
                    line = line.replace(f'${name}', value)
                words = shlex.split(line.replace('$split', 'train'), comments=True)
                if words[:1] == ['python'] and Path(words[1]).stem in TOOLS:
                    yield words[1:]


@pytest.mark.parametrize('command', commands(), ids=' '.join)
def test_command_is_taken(command, load_tool, monkeypatch):
    tool = load_tool(Path(command[0]).relative_to('tools'))
    monkeypatch.setattr(sys, 'argv', command)
    tool.parse_args()


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
