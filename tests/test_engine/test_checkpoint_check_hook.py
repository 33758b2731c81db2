# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmdet_efficientps.engine.hooks import CheckpointCheckHook
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError


class Net(BaseModel):
    def __init__(self, classes=2):
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.last = nn.Linear(3, classes)

    def forward(self, inputs, mode='tensor'):
        out = self.last(self.body(torch.stack(inputs)))
        return dict(loss=out.sum()) if mode == 'loss' else [out]


class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(images=len(results))


def runner(folder, load_from, resume=False, epochs=1):
    loader = dict(
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=[dict(inputs=torch.ones(3))],
    )
    return Runner(
        Net(),
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        test_dataloader=loader,
        test_cfg={},
        test_evaluator=Count(),
        load_from=str(load_from),
        resume=resume,
        custom_hooks=[dict(type='CheckpointCheckHook')],
        default_scope='mmdet',
        experiment_name=folder.name,
    )


def saved(folder, net, **meta):
    torch.save(dict(state_dict=net.state_dict(), meta=meta), folder / 'x.pth')
    return folder / 'x.pth'


def test_a_checkpoint_that_fits_is_tested(tmp_path):
    assert runner(tmp_path, saved(tmp_path, Net())).test() == dict(images=1)


def test_a_checkpoint_of_another_network_is_not_tested(tmp_path):
    path = saved(tmp_path, Net(classes=3))
    with pytest.raises(CheckpointError) as error:
        runner(tmp_path, path).test()
    assert 'last.weight is (3, 3), not (2, 3)' in str(error.value)
    assert 'config it was trained with' in str(error.value)


def test_training_may_start_from_a_checkpoint_of_other_classes(tmp_path, caplog):
    run = runner(tmp_path, saved(tmp_path, Net(classes=3)))
    run.logger.addHandler(caplog.handler)
    run.train()
    (line,) = [r for r in caplog.records if 'starts untrained' in r.getMessage()]
    assert line.levelname == 'WARNING'
    assert 'last.bias is (3,), not (2,)' in line.getMessage()


def test_training_does_not_start_from_a_network_of_which_nothing_fits(tmp_path):
    other = dict(stem=torch.ones(3), steps=torch.tensor(1))
    torch.save(dict(state_dict=other, meta={}), tmp_path / 'x.pth')
    with pytest.raises(
        CheckpointError, match=r'(?s)x\.pth is of another network.*stem'
    ):
        runner(tmp_path, tmp_path / 'x.pth').train()


def test_a_checkpoint_that_is_not_there_is_said_at_the_start(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no checkpoint .*gone\.pth'):
        runner(tmp_path, tmp_path / 'gone.pth').train()


def test_training_is_not_resumed_from_another_network(tmp_path):
    torch.manual_seed(0)
    run = runner(tmp_path, saved(tmp_path, Net(classes=3)), resume=True)
    hook = next(h for h in run.hooks if isinstance(h, CheckpointCheckHook))
    hook.after_load_checkpoint(run, torch.load(tmp_path / 'x.pth', weights_only=True))
    with pytest.raises(CheckpointError, match='last.weight'):
        hook.before_train(run)


def test_origin_and_terms_of_weights_stay_with_what_is_trained_from_them(tmp_path):
    first = saved(tmp_path, Net(), license='for academic use')
    tuned = tmp_path / 'tuned'
    runner(tuned, first).train()
    resumed = tmp_path / 'resumed'
    # A training that is resumed has other weights to load, but began with the same.
    runner(resumed, tuned / 'epoch_1.pth', resume=True, epochs=2).train()
    for path in (tuned / 'epoch_1.pth', resumed / 'epoch_2.pth'):
        meta = torch.load(path, weights_only=False)['meta']
        assert meta['license'] == 'for academic use'
        assert meta['weights_from'] == str(first)
    again = tmp_path / 'again'
    runner(again, tuned / 'epoch_1.pth').train()
    meta = torch.load(again / 'epoch_1.pth', weights_only=False)['meta']
    assert meta['license'] == 'for academic use'
    assert meta['weights_from'] == str(tuned / 'epoch_1.pth')


@pytest.mark.parametrize('command', ['test', 'train'])
def test_a_web_page_is_named_before_it_is_read(tmp_path, command):
    (tmp_path / 'x.pth').write_text('<html>not found</html>')
    run = runner(tmp_path, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=r'x\.pth is a web page'):
        getattr(run, command)()
