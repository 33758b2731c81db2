# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What a training relies on, on a network of one layer."""

import json
import signal
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn

from mmdet_efficientps.utils.checkpoint_loading import find_state_dict, read_checkpoint
from mmdet_efficientps.utils.work_dir_lock import release_work_dir


class Net(BaseModel):
    """Predicts the mean of what it sees; what it does in training can be changed."""

    def __init__(self, loss=None):
        super().__init__()
        self.body = nn.Linear(3, 1)
        self.change = loss or (lambda loss, body: loss)

    def forward(self, inputs, mode='tensor', **kwargs):
        x = torch.stack(inputs)
        out = self.body(x)
        if mode == 'loss':
            loss = (out - x.mean(1, keepdim=True)).square().mean()
            return dict(loss=self.change(loss, self.body))
        return [out]


class Score(BaseMetric):
    """Gives the values that it was made with, one after the other."""

    default_prefix = 'panoptic'

    def __init__(self, values):
        super().__init__()
        self.values = list(values)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(PQ=self.values.pop(0))


class Seen(Hook):
    """Keeps the weights that images are predicted with."""

    def __init__(self):
        self.weights = []

    def before_val_iter(self, runner, **kwargs):
        self.weights.append(runner.model.body.weight.detach().clone())

    before_test_iter = before_val_iter


DATA = [
    dict(inputs=x)
    for x in torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
]


def make_runner(
    folder, model=None, iters=4, batch_size=2, data=DATA, values=None, hooks=(), **more
):
    loader = dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=data,
    )
    torch.manual_seed(0)
    if values is not None:
        more |= dict(
            val_dataloader=loader, val_cfg={}, val_evaluator=Evaluator(Score(values))
        )
    optim_wrapper = dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)
    ) | more.pop('optim_wrapper', {})
    return Runner(
        model or Net(),
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg=dict(
            type='IterBasedTrainLoop', max_iters=iters, val_interval=1 if values else 99
        ),
        optim_wrapper=optim_wrapper,
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook',
                by_epoch=False,
                interval=1,
                max_keep_ckpts=1,
                save_best='panoptic/PQ' if values else None,
                rule='greater',
            )
        ),
        custom_hooks=list(hooks),
        randomness=dict(seed=0),
        default_scope='mmdet',
        experiment_name=f'{folder}',
        **more,
    )


@pytest.fixture(autouse=True)
def _release(tmp_path):
    yield
    for folder in (tmp_path, *tmp_path.iterdir()):
        release_work_dir(folder)


def test_accumulated_gradients_are_those_of_the_large_batch(tmp_path):
    weights = []
    for name, batch_size, counts in (('large', 4, 1), ('accumulated', 2, 2)):
        wrapper = dict(
            accumulative_counts=counts,
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
        )
        run = make_runner(
            tmp_path / name,
            iters=6 * counts,
            batch_size=batch_size,
            optim_wrapper=wrapper,
        )
        before = run.model.body.weight.detach().clone()
        run.train()
        weights.append(run.model.body.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-7)
    assert (weights[0] - before).abs().max() > 0.1


def test_moving_averages_are_validated_saved_and_tested(tmp_path):
    seen = Seen()
    hooks = [dict(type='EMAHook', momentum=0.3), seen]
    make_runner(tmp_path / 'run', values=[1, 2, 3, 4], hooks=hooks).train()
    validated = seen.weights[-1]
    found = [
        find_state_dict(read_checkpoint(path))['body.weight']
        for path in (tmp_path / 'run').glob('*iter_4.pth')
    ]
    # The last one and the best one.
    assert len(found) == 2
    assert all(weight.equal(validated) for weight in found)
    # The network that is trained is another one.
    checkpoint = read_checkpoint(tmp_path / 'run' / 'iter_4.pth')
    trained = checkpoint['ema_state_dict']['module.body.weight']
    assert not trained.equal(validated)
    for name, with_hook in (('with', hooks), ('without', [seen])):
        seen.weights.clear()
        run = make_runner(
            tmp_path / name,
            hooks=with_hook,
            load_from=str(tmp_path / 'run' / 'best_panoptic_PQ_iter_4.pth'),
            test_dataloader=dict(batch_size=1, dataset=DATA, sampler=dict(
                type='DefaultSampler', shuffle=False)),
            test_cfg={},
            test_evaluator=Evaluator(Score([0])),
        )  # fmt: skip
        run.test()
        assert seen.weights[0].equal(validated)


def test_training_ends_early_when_it_no_longer_improves(tmp_path):
    stop = dict(
        type='EarlyStoppingHook',
        monitor='panoptic/PQ',
        rule='greater',
        min_delta=0,
        patience=2,
    )
    values = [1, 5, 4, 4.5, 6, 7]
    run = make_runner(tmp_path, iters=6, values=values, hooks=[stop])
    run.train()
    assert run.iter == 4
    assert (tmp_path / 'best_panoptic_PQ_iter_2.pth').is_file()


class WithoutGradient(torch.autograd.Function):
    """The identity, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float('nan')


class Failing(Hook):
    """Raises an error at a point of the run."""

    def __init__(self, point):
        setattr(self, point, self.fail)

    def fail(self, runner, *arguments, **more):
        raise RuntimeError('failed on purpose')


@pytest.mark.parametrize('counts', ['iterations', 'epochs'])
@pytest.mark.parametrize('point', ['after_train_iter', 'before_val', 'after_train'])
def test_after_an_error_signals_do_what_they_did(point, counts, tmp_path):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]
    run = make_runner(tmp_path, values=[1.0] * 4, hooks=[Failing(point)])
    if counts == 'epochs':
        run._train_loop = dict(type='EpochBasedTrainLoop', max_epochs=1)
    with pytest.raises(RuntimeError, match='failed on purpose'):
        run.train()
    # The process may go on, as a notebook does.
    after = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]
    assert after == before


@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=1)])
def test_gradients_that_are_nan_are_named_and_do_not_reach_the_weights(
    clip_grad, tmp_path
):
    def loss(loss, body):
        # Of the bias alone: clipping would spread it over all.
        return loss + (WithoutGradient.apply(body.bias).sum() if run.iter == 2 else 0)

    run = make_runner(
        tmp_path,
        Net(loss),
        hooks=[dict(type='InvalidLossHook')],
        optim_wrapper=dict(clip_grad=clip_grad),
    )
    message = r'gradients are no longer finite in iteration 3 \(of body\.bias\)'
    with pytest.raises(FloatingPointError, match=message):
        run.train()
    saved = find_state_dict(read_checkpoint(tmp_path / 'iter_2.pth'))
    assert saved['body.weight'].equal(run.model.body.weight)
    assert saved['body.bias'].isfinite().all()


def test_weights_that_are_nan_do_not_replace_a_checkpoint(tmp_path):
    def loss(loss, body):
        if run.iter == 2:
            body.bias.data.fill_(float('nan'))
        return loss

    run = make_runner(tmp_path, Net(loss), hooks=[dict(type='InvalidLossHook')])
    with pytest.raises(FloatingPointError, match='weights.*iteration 3.*body.bias'):
        run.train()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_2.pth']


def allocate(kind):
    if kind == 'GPU':
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB')
    return torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize('kind', ['GPU', 'CPU'])
@pytest.mark.parametrize('by_epoch', [False, True])
def test_out_of_memory_names_the_images(kind, by_epoch, tmp_path):
    data = []
    for height, count in ((32, 150), (48, 2)):
        sample = DetDataSample()
        sample.gt_instances = InstanceData(labels=torch.zeros(count))
        data.append(dict(inputs=torch.zeros(3, height, 64), data_samples=sample))

    class Large(Net):
        def forward(self, inputs, mode='tensor', **kwargs):
            allocate(kind)

    run = make_runner(tmp_path, Large(), data=data)
    if by_epoch:
        run._train_loop = dict(type='EpochBasedTrainLoop', max_epochs=1)
    with pytest.raises(MemoryError) as error:
        run.train()
    assert 'iteration 1' in str(error.value)
    assert (
        '2 images of 32x64 and 48x64 pixels (height x width) with 150 and 2 instances'
    ) in str(error.value)
    assert 'batch_size' in str(error.value)


def test_a_missing_validation_set_is_said_before_the_first_iteration(tmp_path):
    def loss(loss, body):
        raise AssertionError('trained')

    run = make_runner(tmp_path, Net(loss), values=[0])
    gone = dict(
        type='PanopticDataset',
        data_root=str(tmp_path),
        ann_file='gone.json',
        data_prefix=dict(img='img', seg='seg'),
    )
    run._val_dataloader = run._val_dataloader | dict(dataset=gone)
    with pytest.raises(FileNotFoundError, match=r'gone\.json does not exist'):
        run.train()


def test_other_errors_stay_what_they_are(tmp_path):
    def loss(loss, body):
        raise RuntimeError('something else')

    with pytest.raises(RuntimeError, match='^something else$'):
        make_runner(tmp_path, Net(loss)).train()


def test_records_hold_the_losses_to_the_last_digit(tmp_path):
    found = []

    class Keep(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            found.append(outputs['loss'].item())

    make_runner(tmp_path, hooks=[dict(type='LossRecordHook'), Keep()]).train()
    lines = Path(tmp_path, 'losses.jsonl').read_text().splitlines()
    assert [json.loads(line)['loss'] for line in lines] == found
