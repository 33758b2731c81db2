# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What holds for the preparation of every data set."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import set_random_seed
from PIL import Image

from mmdet_efficientps.structures.panoptic import read_panoptic_png

CONFIGS = Path(__file__).parents[2] / 'configs'
fromfile = cache(Config.fromfile)


def build(tree, root, loader):
    """Build the data set of a loader of the config on a folder."""
    config = fromfile(CONFIGS / f'_base_/datasets/{tree.config}.py')
    return DATASETS.build(config[loader]['dataset'] | {'data_root': f'{root}/'})


def cut_short(path, bytes_lost):
    """Take the end off a file."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - bytes_lost])


def resize(path, size):
    """Change the size of an image file."""
    Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)


def snapshot(root):
    """Path, type and time of everything in a folder."""
    return {str(p): (p.is_symlink(), p.stat().st_mtime_ns) for p in root.rglob('*')}


# Of a PNG, of polygons.
UNREADABLE = r'label PNG is damaged or not|polygons cannot be read'
SPOILERS = {
    'image missing': (lambda tree: tree.image.unlink(), 'image is missing'),
    'image cut short': (lambda tree: cut_short(tree.image, 30), 'image cannot be read'),
    'image empty': (lambda tree: tree.image.write_bytes(b''), 'image cannot be read'),
    'image turned': (lambda tree: resize(tree.image, (8, 16)), 'differ in size'),
    'label missing': (lambda tree: tree.label.unlink(), 'is missing'),
    'label cut short': (lambda tree: cut_short(tree.label, 30), UNREADABLE),
    'label empty': (lambda tree: tree.label.write_bytes(b''), UNREADABLE),
    'label unknown': (lambda tree: tree.spoil(), 'unknown'),
    'label depth': (lambda tree: tree.wrong_depth(), 'label PNG is damaged or not'),
}


CASES = [
    (kind, spoiler)
    for kind in ('cityscapes', 'kitti', 'idd', 'vistas', 'vistas-instances')
    for spoiler in SPOILERS
    # Polygons have no bit depth.
    if (kind, spoiler) != ('idd', 'label depth')
]


@pytest.mark.parametrize(('kind', 'spoiler'), CASES)
def test_problem_is_reported_and_the_good_image_kept(
    write_tree, kind, spoiler, prepare, capsys
):
    tree = write_tree(kind)
    spoil, message = SPOILERS[spoiler]
    spoil(tree)
    with pytest.raises(SystemExit) as error:
        prepare(tree.kind, tree.root, '--nproc', '1')
    assert error.value.code == 1
    printed = capsys.readouterr().out
    assert '1 problem:' in printed
    assert re.search(message, printed.partition('1 problem:')[2])
    content = tree.read()
    assert len(content['images']) == len(content['annotations']) == 1
    assert 'good' in content['images'][0]['file_name']
    png_dir = (tree.root / tree.jsons[0]).with_suffix('')
    assert [path.name for path in png_dir.iterdir()] == [
        content['annotations'][0]['file_name']
    ]


def test_config_reads_what_the_command_wrote(tree, prepare):
    prepare(tree.kind, tree.root, '--nproc', '1')
    annotations = tree.read()['annotations']
    assert len(build(tree, tree.root, 'val_dataloader')) == 2
    dataset = build(tree, tree.root, 'train_dataloader')
    assert len(dataset) == 2
    for number in range(2):
        item = dataset.get_data_info(number)
        ids = read_panoptic_png(item['seg_map_path'])
        assert ids.shape == (item['height'], item['width'])
        segments = annotations[number]['segments_info']
        assert len(segments) == 3
        areas = {s['id']: s['area'] for s in segments}
        present, counts = np.unique(ids[ids > 0], return_counts=True)
        assert dict(zip(present.tolist(), counts.tolist(), strict=True)) == areas
    # What the crop shows is up to chance.
    set_random_seed(0)
    sample = dataset[0]['data_samples']
    assert sample.ori_shape == ids.shape
    labels = np.unique(sample.gt_sem_seg.sem_seg.numpy()).tolist()
    assert set(labels) <= {*range(len(dataset.metainfo['classes'])), 255}
    assert len(labels) >= 2
    things = range(len(dataset.metainfo['thing_classes']))
    assert set(sample.gt_instances.labels.tolist()) <= set(things)


def test_second_run_keeps_every_file(tree, prepare, capsys):
    prepare(tree.kind, tree.root, '--nproc', '1')
    png_dir = (tree.root / tree.jsons[0]).with_suffix('')
    before, content = snapshot(png_dir), tree.read()
    prepare(tree.kind, tree.root, '--nproc', '2')
    assert snapshot(png_dir) == before
    assert tree.read() == content
    assert capsys.readouterr().out.count('is up to date') == 2


def test_source_is_only_read_with_another_output(tree, prepare, tmp_path):
    for path in (tree.root, *tree.root.rglob('*')):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(tree.root)
    out = tmp_path / 'out'
    prepare(tree.kind, tree.root, '--out', out, '--nproc', '1')
    assert snapshot(tree.root) == before
    assert len(tree.read(out)['images']) == 2
    for path in (tree.root, *tree.root.rglob('*')):
        path.chmod(0o755)


def contents(root):
    """Content of every file of a folder."""
    return {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}


@pytest.mark.parametrize('place', ['images', 'below the images', 'linked images'])
def test_output_in_a_folder_of_images_is_refused(tree, prepare, tmp_path, place):
    images = tree.root / tree.image_dirs[0]
    out = {
        'images': images,
        'below the images': images / 'out',
        'linked images': tmp_path / 'link',
    }[place]
    if place == 'linked images':
        out.symlink_to(images)
    before, times = contents(tmp_path), snapshot(tmp_path)
    with pytest.raises(SystemExit, match='^error: .*folder of images'):
        prepare(tree.kind, tree.root, '--out', out, '--nproc', '1')
    assert contents(tmp_path) == before
    assert snapshot(tmp_path) == times


def test_folder_of_photographs_in_the_place_of_the_pngs_is_refused(tree, prepare):
    folder = (tree.root / tree.jsons[0]).with_suffix('')
    folder.mkdir()
    for suffix in ('.png', '_gtFine_panoptic.png', '_frame0340.png'):
        (folder / f'good{suffix}').write_bytes(b'a photograph')
    before = snapshot(tree.root)
    with pytest.raises(SystemExit, match='^error: .*no panoptic labels'):
        prepare(tree.kind, tree.root, '--nproc', '1')
    assert snapshot(tree.root) == before


def test_image_with_cut_exif_data_is_converted(write_tree, prepare):
    tree = write_tree('vistas')
    photo = tree.image.read_bytes()
    exif = b'Exif\0\0II*\0'
    tree.image.write_bytes(photo[:2] + b'\xff\xe1\0\x0c' + exif + photo[2:])
    prepare('vistas', tree.root, '--nproc', '1')
    assert len(tree.read()['images']) == 2


def test_read_only_source_without_output_says_what_to_do(tree, prepare, monkeypatch):
    # Not by file modes: these do not bind the user root, as which tests may run.
    monkeypatch.setattr('os.access', lambda path, mode: Path(path) != tree.root)
    with pytest.raises(SystemExit, match='^error: .* cannot be written to: .*--out'):
        prepare(tree.kind, tree.root, '--nproc', '1')


def test_symlinks_spaces_and_other_scripts_are_no_matter(tree, prepare, tmp_path):
    real = tmp_path / 'große Platte' / 'данные 街景'
    real.mkdir(parents=True)
    link = tmp_path / 'linked tree'
    link.mkdir()
    for part in sorted(tree.root.iterdir()):
        shutil.move(part, real / part.name)
        (link / part.name).symlink_to(real / part.name)
    out = tmp_path / 'Ausgabe für später'
    prepare(tree.kind, link, '--out', out, '--nproc', '1')
    dataset = build(tree, out, 'train_dataloader')
    assert len(tree.read(out)['images']) == len(dataset) == 2
    assert dataset[0]['inputs'].shape[0] == 3
    assert read_panoptic_png(dataset.get_data_info(0)['seg_map_path']).any()


def test_empty_split_names_the_folder_and_where_to_get_it(tree, prepare):
    folders = {
        'cityscapes': 'gtFine/val',
        'kitti': 'validation/annotations',
        'idd': 'gtFine/val',
        'vistas': 'validation/images',
    }
    empty = tree.root / folders[tree.kind]
    shutil.rmtree(empty)
    empty.mkdir()
    before = snapshot(tree.root)
    with pytest.raises(SystemExit, match='^error: ') as error:
        prepare(tree.kind, tree.root, '--nproc', '1')
    assert f'{empty} is empty' in str(error.value)
    assert 'https://' in str(error.value) or 'http://' in str(error.value)
    assert snapshot(tree.root) == before


def test_all_missing_folders_are_named_at_once(tree, prepare):
    shutil.rmtree(tree.root)
    with pytest.raises(SystemExit, match='^error: ') as error:
        prepare(tree.kind, tree.root, '--nproc', '1')
    assert str(error.value).count('does not exist') >= 2


def test_split_without_one_good_image_has_no_json(tree, prepare, capsys):
    folder = tree.root / tree.image_dirs[0]
    images = [p for p in folder.rglob('*') if p.is_file()]
    assert len(images) == 2
    for path in images:
        path.write_bytes(b'')
    with pytest.raises(SystemExit) as error:
        prepare(tree.kind, tree.root, '--nproc', '1')
    assert error.value.code == 1
    assert '0 images' in capsys.readouterr().out
    assert not (tree.root / tree.jsons[0]).exists()


def test_jsons_are_plain_ascii_with_ids_of_their_own(tree, prepare):
    prepare(tree.kind, tree.root, '--nproc', '1')
    text = (tree.root / tree.jsons[0]).read_bytes().decode('ascii')
    content = json.loads(text)
    ids = [image['id'] for image in content['images']]
    assert len(set(ids)) == 2
    assert ids == [annotation['image_id'] for annotation in content['annotations']]
