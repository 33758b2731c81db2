# Licensed under the Apache License, Version 2.0. See LICENSE.
import sys

import pytest
import torch

from mmdet_efficientps.deployment import export

pytestmark = pytest.mark.slow
onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

PANOPTIC_FPN = 'panoptic-fpn_lite0-small_1xb2-760_toy-city-256x512'


@pytest.fixture
def run(load_tool, monkeypatch, capsys, tmp_path, tiny_config):
    """Run the command in this process; gives what it prints."""
    tool = load_tool('deployment/export_onnx.py')
    config = tmp_path / 'tiny.py'
    tiny_config.dump(config)

    def _run(checkpoint, out, config=config):
        arguments = ['export_onnx.py', config, checkpoint, '--out', out]
        monkeypatch.setattr(sys, 'argv', [str(argument) for argument in arguments])
        tool.main()
        return capsys.readouterr().out

    return _run


def test_the_command_leaves_a_file_that_was_compared(run, tiny_checkpoint, tmp_path):
    out = tmp_path / 'a' / 'b'
    text = run(tiny_checkpoint, out)
    session = onnxruntime.InferenceSession(out / 'model.onnx')
    assert 'mmdet_efficientps' in session.get_modelmeta().custom_metadata_map
    assert 'largest difference of all: ' in text
    runtime = [export.RUNTIME] if export.copy_runtime(tmp_path) else []
    assert sorted(path.name for path in out.iterdir()) == ['model.onnx', *runtime]


def test_a_network_that_differs_ends_with_an_error(
    run, tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, '_trace', lambda model: onnx.ModelProto())
    monkeypatch.setattr(export, 'compare', lambda *_: dict(rpn=0.0, anchors=0.01))
    with pytest.raises(SystemExit, match='error: the exported network differs'):
        run(tiny_checkpoint, tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir())


def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(
    run, tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, '_trace', lambda model: pytest.fail('worked'))
    (tmp_path / 'file').write_text('')
    with pytest.raises(SystemExit, match='file/out cannot be written to'):
        run(tiny_checkpoint, tmp_path / 'file' / 'out')


def test_a_checkpoint_that_is_none_is_named(run, tmp_path):
    (tmp_path / 'x.pth').write_text('<html>')
    with pytest.raises(SystemExit, match=r'x\.pth is a web page'):
        run(tmp_path / 'x.pth', tmp_path / 'out')
    with pytest.raises(SystemExit, match='there is no checkpoint'):
        run(tmp_path / 'y.pth', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_checkpoint_of_another_network_is_refused(run, tmp_path):
    torch.save(dict(state_dict={'a': torch.zeros(1)}), tmp_path / 'x.pth')
    with pytest.raises(SystemExit, match='does not fit the network'):
        run(tmp_path / 'x.pth', tmp_path / 'out')


def test_a_network_of_another_type_is_refused(run, tmp_path, monkeypatch):
    tool = sys.modules['export_onnx']
    init_model = tool.init_model
    monkeypatch.setattr(
        tool, 'init_model', lambda config, _, **options: init_model(config, **options)
    )
    with pytest.raises(SystemExit, match='model.type is PanopticFPN'):
        run('any.pth', tmp_path / 'out', PANOPTIC_FPN)
    assert not (tmp_path / 'out').exists()


def test_an_unknown_config_is_answered_with_names(run, tmp_path):
    with pytest.raises(SystemExit, match='there is no config'):
        run('any.pth', tmp_path / 'out', 'efficientps_effb6')
