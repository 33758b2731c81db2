# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import sys

import pytest
from mmengine.config import Config

from mmdet_efficientps.utils.checkpoint_loading import read_checkpoint

TOOL = 'analysis_tools/tune_fusion.py'


@pytest.fixture
def config(small_checkpoint, prepare, tmp_path):
    """Config of the checkpoint on four small scenes; they are trained on, too."""
    folder = tmp_path / 'city'
    prepare('toy-city', '--out', folder, '--num-train', 4, '--num-val', 4,
            '--size', 64, 128, '--nproc', 1)  # fmt: skip
    cfg = Config.fromstring(read_checkpoint(small_checkpoint)['meta']['cfg'], '.py')
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = f'{folder}/'
    cfg.visualizer.vis_backends = []
    path = tmp_path / 'config.py'
    cfg.dump(str(path))
    return path


@pytest.fixture
def run(load_tool, monkeypatch):
    """Run a script of tools/ in this process."""

    def _run(script, *arguments):
        tool = load_tool(script)
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', [script, *map(str, arguments)])
            tool.main()

    return _run


def test_the_table_has_what_a_test_with_these_thresholds_gives(
    config, small_checkpoint, run, tmp_path, capsys
):
    table = tmp_path / 'table.json'
    run(TOOL, config, small_checkpoint, '--data', 'val', '--score-thr', 0.06, 0.3,
        '--min-stuff-area', 0, 900, '--out', table, '--device', 'cpu')  # fmt: skip
    found = json.loads(table.read_text())
    assert found['images'] == 4
    # Four of the grid and that of the config.
    assert len(found['settings']) == 5
    assert 'as it is' in capsys.readouterr().out
    by_setting = {
        (row['score_thr'], row['min_stuff_area']): row for row in found['settings']
    }
    assert by_setting[0.06, 0] != by_setting[0.3, 900]
    for score_thr, min_stuff_area in ((0.06, 0), (0.3, 900)):
        work_dir = tmp_path / f'test-{score_thr}'
        run('test.py', config, small_checkpoint, '--work-dir', work_dir,
            '--cfg-options', f'model.test_cfg.panoptic.score_thr={score_thr}',
            f'model.test_cfg.panoptic.min_stuff_area={min_stuff_area}')  # fmt: skip
        metrics = json.loads(next(work_dir.glob('*/*.json')).read_text())
        row = by_setting[score_thr, min_stuff_area]
        assert row['PQ'] == pytest.approx(metrics['panoptic/PQ'], abs=1e-9)
        assert row['PQ_th'] == pytest.approx(metrics['panoptic/PQ_th'], abs=1e-9)
        assert row['PQ_st'] == pytest.approx(metrics['panoptic/PQ_st'], abs=1e-9)


def test_what_is_read_is_not_overwritten(config, small_checkpoint, run, tmp_path):
    image = next((tmp_path / 'city').rglob('*_leftImg8bit.png'))
    for path in (config, small_checkpoint, image):
        before = path.read_bytes()
        with pytest.raises(SystemExit, match='--out .* is an input'):
            run(TOOL, config, small_checkpoint, '--out', path, '--device', 'cpu')
        assert path.read_bytes() == before
    folder = tmp_path / 'tables'
    folder.mkdir()
    with pytest.raises(SystemExit, match='--out .*tables is a folder: give a file'):
        run(TOOL, config, small_checkpoint, '--out', folder, '--device', 'cpu')


def test_options_of_the_config_reach_the_network(
    config, small_checkpoint, run, tmp_path
):
    table = tmp_path / 'table.json'
    run(TOOL, config, small_checkpoint, '--num', 2, '--score-thr', 0.3,
        '--min-stuff-area', 64, '--out', table, '--device', 'cpu', '--cfg-options',
        'model.test_cfg.panoptic.score_thr=0.93')  # fmt: skip
    tried = {row['score_thr'] for row in json.loads(table.read_text())['settings']}
    assert tried == {0.3, 0.93}


def test_training_images_are_taken_whole_and_not_mirrored(config, load_tool):
    tool = load_tool(TOOL)
    cfg = Config.fromfile(config)
    dataset = tool.choose_data(cfg, 'train')
    assert dataset['ann_file'] == cfg.train_dataloader.dataset.ann_file
    assert dataset['pipeline'] == cfg.test_dataloader.dataset.pipeline
    wrapped = dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    cfg.train_dataloader.dataset = wrapped
    assert tool.choose_data(cfg, 'train') == dataset
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset])
    with pytest.raises(ValueError, match='joins several'):
        tool.choose_data(cfg, 'train')


def test_of_equal_settings_the_one_in_use_is_kept(load_tool):
    rank = load_tool(TOOL).rank
    pq = {(0.1,): [50.0], (0.2,): [50.0], (0.3,): [49.0]}
    assert rank(pq, (0.2,)) == [(0.2,), (0.1,), (0.3,)]
    assert rank(pq, (0.3,))[0] == (0.1,)


def test_a_network_whose_fusion_has_no_thresholds_is_refused(
    config, run, tmp_path, small_checkpoint, monkeypatch, load_tool
):
    tool = load_tool(TOOL)
    monkeypatch.setattr(tool, 'init_model', lambda *args, **kwargs: object())
    monkeypatch.setattr(sys, 'argv', [TOOL, str(config), str(small_checkpoint)])
    with pytest.raises(SystemExit, match='EfficientPS has'):
        tool.main()
