# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Ablations: one budget for all, means and spreads that are right."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

from mmdet_efficientps import get_config
from mmdet_efficientps.apis import find_config

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[2] / 'tools'
SPEC = importlib.util.spec_from_file_location(
    'run_ablations', TOOLS / 'analysis_tools' / 'run_ablations.py'
)
run_ablations = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run_ablations)
DEMO = 'efficientps_lite0-small_1xb2-760_toy-city-256x512'
RESULTS = {
    'main': [{'panoptic/PQ': 10.0}, {'panoptic/PQ': 14.0}],
    'other': [{'panoptic/PQ': 13.0}, {'panoptic/PQ': 15.0}],
}


def demo_config():
    return get_config(DEMO)


def test_schedule_keeps_its_shape_under_the_budget():
    cfg = demo_config()
    fitted = run_ablations.fit_to_budget(cfg, 76, seed=5)
    assert fitted.train_cfg.max_iters == 76
    assert fitted.randomness.seed == 5
    warm_up, decay = fitted.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 5)
    assert (decay.begin, decay.end, decay.T_max) == (5, 76, 71)
    assert cfg.train_cfg.max_iters == 760


def test_no_part_of_a_short_schedule_is_empty():
    warm_up, decay = run_ablations.fit_to_budget(demo_config(), 2, 0).param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 1)
    assert (decay.begin, decay.end, decay.T_max) == (0, 2, 2)


def test_milestones_are_fitted_too():
    cfg = get_config('efficientps_effb5_16xb1-50k_cityscapes-1024x2048')
    fitted = run_ablations.fit_to_budget(cfg, 5000, seed=0)
    assert fitted.param_scheduler[-1].milestones == [3200, 4400]


def test_training_by_epochs_is_refused():
    cfg = demo_config()
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
    with pytest.raises(ValueError, match='IterBasedTrainLoop'):
        run_ablations.fit_to_budget(cfg, 10, seed=0)


def test_fusion_does_not_change_the_training_but_the_neck_does():
    cfg, fusion, neck = demo_config(), demo_config(), demo_config()
    fusion.model.panoptic_fusion_head.type = 'HeuristicFusionHead'
    fusion.model.test_cfg.panoptic.score_thr = 0.6
    neck.model.neck.separable_output_convs = False
    key = run_ablations.training_fingerprint
    assert key(cfg) == key(fusion)
    assert key(cfg) != key(neck)
    assert run_ablations.fingerprint(cfg) != run_ablations.fingerprint(fusion)


def test_unknown_name_is_answered_with_names_alike(monkeypatch):
    arguments = ['efficientps_lite0-smal_1xb2_toy-city', '--max-iters', '1']
    monkeypatch.setattr(sys, 'argv', ['run_ablations.py', *arguments])
    with pytest.raises(SystemExit, match='efficientps_lite0-small_1xb2-760_toy-city'):
        run_ablations.main()


def test_mistakes_show_before_the_first_training(monkeypatch, capsys):
    def main(*arguments):
        monkeypatch.setattr(sys, 'argv', ['run_ablations.py', *arguments])
        run_ablations.main()

    monkeypatch.setattr(run_ablations, 'run_tool', None)
    by_epochs = 'efficientps-release_effb5_16xb1-160e_cityscapes-1024x2048'
    with pytest.raises(SystemExit, match=f'{by_epochs}.py trains by epochs'):
        main(DEMO, by_epochs, '--max-iters', '9')
    with pytest.raises(SystemExit):
        main(DEMO, '--max-iters', '9', '--seeds', '1', '2', '1')
    assert '--seeds 1 2 1: one is given twice' in capsys.readouterr().err


def test_table_gives_mean_deviation_and_paired_difference():
    table = run_ablations.markdown_table(RESULTS, ['panoptic/PQ'], {'other': 'main'})
    assert table.splitlines()[2:] == [
        '| `main` | 12.0 ± 2.8 |  |',
        # differences are +3 and +1
        '| `other` (weights of `main`) | 14.0 ± 1.4 | +2.0 ± 1.4 |',
    ]


def test_one_seed_has_no_spread():
    table = run_ablations.markdown_table(
        {name: runs[:1] for name, runs in RESULTS.items()}, ['panoptic/PQ'], {}
    )
    assert table.splitlines()[3] == '| `other` | 13.0 | +3.0 |'


def test_plot_is_a_picture(tmp_path):
    run_ablations.plot(RESULTS, ['panoptic/PQ'], tmp_path / 'plot.png')
    with Image.open(tmp_path / 'plot.png') as picture:
        assert picture.width > 500


@pytest.fixture
def stub_tools(tmp_path, monkeypatch):
    """Training and testing that note what they were asked for."""
    calls = []

    def run_tool(script, config, *arguments, log):
        calls.append((script, Path(config).parent.parent.name))
        if script == 'train.py':
            (work_dir,) = arguments[1:]
            work_dir.mkdir(parents=True)
            max_iters = Config.fromfile(config).train_cfg.max_iters
            (work_dir / f'iter_{max_iters}.pth').touch()
        else:
            _, _, work_dir = arguments
            (work_dir / 'now').mkdir(parents=True)
            (work_dir / 'now' / 'now.json').write_text(json.dumps({'PQ': 1.5}))

    monkeypatch.setattr(run_ablations, 'run_tool', run_tool)
    fusion = tmp_path / 'other_fusion.py'
    fusion.write_text(
        f"_base_ = '{find_config(DEMO)}'\n"
        'model = dict(test_cfg=dict(panoptic=dict(overlap_thr=0.7)))\n'
    )
    arguments = ['run_ablations.py', DEMO, str(fusion), '--max-iters', '8']
    arguments += ['--seeds', '1', '2', '--metrics', 'PQ', '--out', str(tmp_path / 'o')]
    monkeypatch.setattr(sys, 'argv', arguments)
    return calls


def test_equal_trainings_are_shared_and_finished_runs_kept(stub_tools, tmp_path):
    run_ablations.main()
    expected = [('train.py', DEMO), ('test.py', DEMO), ('test.py', 'other_fusion')]
    assert stub_tools == 2 * expected
    run_ablations.main()
    assert len(stub_tools) == 6
    record = json.loads((tmp_path / 'o' / 'ablations.json').read_text())
    assert record['weights_of'] == {'other_fusion': DEMO}
    assert record['results']['other_fusion'] == [{'PQ': 1.5}, {'PQ': 1.5}]


def test_failed_run_shows_the_end_of_its_log(tmp_path):
    with pytest.raises(SystemExit, match='(?s)no_such_config.*train.py failed, see'):
        run_ablations.run_tool('train.py', 'no_such_config.py', log=tmp_path / 'log')


def test_metrics_of_one_name_keep_their_prefix_as_headings():
    results = {'one': [{'a/AP': 1.0, 'b/AP': 2.0, 'c/car/bus_IoU': 3.0}]}
    table = run_ablations.markdown_table(results, list(results['one'][0]), {})
    head, _, row = table.split('\n')
    assert head == '| config | a/AP | b/AP | car/bus_IoU | a/AP to the first |'
    assert row == '| `one` | 1.0 | 2.0 | 3.0 |  |'
