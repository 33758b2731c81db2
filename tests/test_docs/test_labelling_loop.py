# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The commands of docs/labelling_loop.md, one after the other, on a tiny data set."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/labelling_loop.md').read_text(encoding='utf-8')
DATA = 'data/pedestrian_zone'
WIDTH, HEIGHT = 128, 64
# One iteration, which needs no ImageNet weights.
TINY = """
_base_ = 'configs/efficientps/efficientps_lite0-small_1xb2-760_pedestrian-zone.py'
model = dict(backbone=dict(init_cfg=None))
train_cfg = dict(max_iters=1, val_interval=1)
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = val_dataloader = test_dataloader = loader
"""


def blocks(language):
    """Code of the page in one language."""
    return re.findall(rf'^```{language}\n(.*?)^```', PAGE, re.M | re.S)


def names_of_classes():
    """Those that the page gives to the commands."""
    (listed,) = re.findall(r'^CLASSES="--things (.*) --stuff (.*)"$', PAGE, re.M)
    return ' '.join(listed).split()


def write_labels(folder, count):
    """Write noise, and a tile of each class on every image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    classes = names_of_classes()
    content = {
        'images': [],
        'annotations': [],
        'categories': [
            {'id': number, 'name': name} for number, name in enumerate(classes, start=1)
        ],
    }
    for image in range(count):
        name = f'street {image}.jpg'
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
        content['images'].append(
            {'id': image, 'file_name': name, 'width': WIDTH, 'height': HEIGHT}
        )
        for number in range(len(classes)):
            x, y = 25 * (number % 5), 32 * (number // 5)
            content['annotations'].append(
                {
                    'id': len(content['annotations']),
                    'image_id': image,
                    'category_id': number + 1,
                    'segmentation': [[x, y, x + 25, y, x + 25, y + 32, x, y + 32]],
                }
            )
    (folder / '_annotations.coco.json').write_text(json.dumps(content))


@pytest.fixture
def checkout(tmp_path):
    """A checkout with data of which the first 20 images are labelled by the page."""
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    write_labels(tmp_path / DATA / 'train', 22)
    write_labels(tmp_path / DATA / 'valid', 1)
    (tmp_path / 'tiny.py').write_text(TINY)
    (config,) = blocks('python')
    base = './efficientps_lite0-small_1xb2-760_pedestrian-zone.py'
    assert base in config
    (tmp_path / 'joined.py').write_text(config.replace(base, './tiny.py'))
    python = tmp_path / 'bin/python'
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return tmp_path


def run(checkout, config, block):
    """Run a block of the page with a config; gives what it prints."""
    variables = re.sub(
        r'^CONFIG=.*$', f'CONFIG={config}', blocks('bash')[0], flags=re.M
    )
    result = subprocess.run(
        ['bash', '-euo', 'pipefail', '-c', variables + block.replace('760', '1')],
        cwd=checkout,
        env=os.environ
        | {
            'PATH': f'{checkout / "bin"}{os.pathsep}{os.environ["PATH"]}',
            'PYTHONPATH': str(ROOT),
            'CUDA_VISIBLE_DEVICES': '-1',
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, f'{block}\n{result.stdout[-4000:]}'
    return result.stdout


def correct(checkout):
    """What a person does in CVAT and in Label Studio: accept what is predicted."""
    with zipfile.ZipFile(checkout / 'work_dirs/prelabels.zip') as archive:
        archive.extractall(checkout / 'corrected')
    tasks = json.loads((checkout / 'work_dirs/tasks.json').read_text())
    for task in tasks:
        task['annotations'] = task.pop('predictions')
    (checkout / 'export.json').write_text(json.dumps(tasks))


@pytest.mark.slow
def test_every_command_of_the_loop_runs_after_the_one_before(checkout):
    _, *commands = blocks('bash')
    printed = []
    for block in commands:
        if 'export.json' in block:
            correct(checkout)
        # The last training is on the labels of both steps.
        config = 'joined.py' if 'loop_all' in block else 'tiny.py'
        printed.append(run(checkout, config, block))
    names = {
        name: {
            image['file_name']
            for image in json.loads(
                (checkout / DATA / f'panoptic_{name}.json').read_text()
            )['images']
        }
        for name in ('train', 'first', 'rest', 'corrected')
    }
    assert len(names['first']) == 20
    assert names['rest'] == names['corrected'] == names['train'] - names['first']
    assert 'PQ' in printed[-1]
