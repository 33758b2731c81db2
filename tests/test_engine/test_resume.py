# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A training that was stopped goes on as if it had not been, to the bit.

On a network of two layers whose data, dropout and validation draw from every generator.
"""

import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmdet_efficientps.datasets.samplers import NumberedBatchSampler
from mmdet_efficientps.utils import work_dir_lock
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError

ITERS, SAVED_EVERY = 12, 3


@DATASETS.register_module()
class NoisyData:
    """7 samples, none of which is the same twice."""

    metainfo = {'classes': ('a',)}
    loads = 0

    def __len__(self):
        return 7

    def __getitem__(self, index):
        NoisyData.loads += 1
        noise = random.random() + np.random.rand() + torch.rand(4, 5)  # noqa: NPY002
        return dict(inputs=noise + index)


@MODELS.register_module()
class NoisyModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(4, 8, 1),
            nn.BatchNorm1d(8),
            nn.Dropout(0.3),
            nn.Conv1d(8, 1, 1),
        )

    def forward(self, inputs, mode='tensor', **kwargs):
        out = self.layers(torch.stack(inputs))
        if mode == 'loss':
            # As mmdet's samplers of anchors do.
            noise = np.random.rand() + torch.randperm(5)[0]  # noqa: NPY002
            return dict(loss=(out - 1).square().mean() + noise * out.mean())
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        return [out]


@METRICS.register_module()
class WeightSum(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(float(data_samples[0].sum()))

    def compute_metrics(self, results):
        return {'score': sum(results)}


class Killed(Exception):
    pass


@HOOKS.register_module()
class CallAt(Hook):
    """Call something after an iteration, when the checkpoint has been written."""

    priority = 'LOWEST'

    def __init__(self, iteration, call, where='after_train_iter'):
        def at(runner, *args, **kwargs):
            if runner.iter == iteration - (where == 'after_train_iter'):
                call()

        setattr(self, where, at)


def kill():
    raise Killed


def config(folder, by_epoch=False, workers=0, validate=0, **changes):
    loader = dict(
        batch_size=2,
        num_workers=workers,
        persistent_workers=True,
        dataset=dict(type='NoisyData'),
    )
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    train_cfg = (
        # 4 iterations
        dict(type='EpochBasedTrainLoop', max_epochs=ITERS // 4)
        if by_epoch
        else dict(type='IterBasedTrainLoop', max_iters=ITERS)
    )
    if validate:
        changes |= dict(
            val_cfg=dict(type='ValLoop'),
            val_evaluator=dict(type='WeightSum'),
            val_dataloader=loader | dict(sampler=dict(type='DefaultSampler')),
        )
    hooks = changes.pop('hooks', [])
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=SAVED_EVERY)
    return Config(
        dict(
            model=dict(type='NoisyModel'),
            work_dir=str(folder),
            train_dataloader=loader | dict(sampler=dict(type=sampler, shuffle=True)),
            train_cfg=train_cfg | dict(val_interval=validate or 1000),
            optim_wrapper=dict(
                type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.05)
            ),
            param_scheduler=[dict(type='LinearLR', end=10, by_epoch=False)],
            default_hooks=dict(
                checkpoint=checkpoint | changes.pop('checkpoint', {}),
            ),
            custom_hooks=[dict(type='LossRecordHook'), *hooks],
            randomness=dict(seed=changes.pop('seed', 3)),
            default_scope='mmdet',
            log_level='WARNING',
        )
        | changes
    )


def train(cfg, resume=False, call_at=None):
    """Train; gives the losses of every iteration in turn, and the runner."""
    cfg = Config(dict(cfg.to_dict(), resume=resume))
    # Loggers of MMEngine have the name of the experiment.
    cfg.experiment_name = f'{cfg.work_dir}{time.time_ns()}'
    runner = Runner.from_cfg(cfg)
    if call_at:
        runner.register_hook(CallAt(*call_at))
    try:
        runner.train()
    except Killed:
        pass
    finally:
        work_dir_lock.release_work_dir(cfg.work_dir)
    return losses(cfg.work_dir), runner


def losses(folder):
    lines = Path(folder, 'losses.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


def read(folder, name):
    return torch.load(Path(folder, name), weights_only=True)


def flat(value, name=''):
    """Every tensor and number in nested containers by its path."""
    if isinstance(value, dict):
        return {
            k: v for n, i in value.items() for k, v in flat(i, f'{name}.{n}').items()
        }
    if isinstance(value, list | tuple):
        return flat(dict(enumerate(value)), name)
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value}


def assert_same_end(folder, reference):
    """That two trainings had the same losses and ended in the same state."""
    expected = {record['iter']: record for record in losses(reference)}
    assert {record['iter'] for record in losses(folder)} == set(expected)
    # What was done twice was the same twice.
    for record in losses(folder):
        assert record == expected[record['iter']]
    ends = [read(path, f'iter_{ITERS}.pth') for path in (folder, reference)]
    for part in ('state_dict', 'optimizer', 'param_schedulers', 'training_state'):
        assert flat(ends[0][part]) == flat(ends[1][part])
    if 'ema_state_dict' in ends[1]:
        assert flat(ends[0]['ema_state_dict']) == flat(ends[1]['ema_state_dict'])
    # The windows that the log averages over.
    histories = [
        {
            key: value.data[0].tolist()
            for key, value in end['message_hub']['log_scalars'].items()
            if 'time' not in key
        }
        for end in ends
    ]
    assert histories[0] == histories[1]


SETTINGS = {
    'iterations': {},
    'epochs': dict(by_epoch=True),
    'two workers': dict(workers=2),
    'epochs, two workers': dict(by_epoch=True, workers=2),
    'sampler that ends': dict(
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=dict(type='NoisyData'),
            sampler=dict(type='DefaultSampler', shuffle=True),
        )
    ),
    'accumulation across checkpoints': dict(
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9),
            accumulative_counts=4,
        )
    ),
    'moving average': dict(hooks=[dict(type='EMAHook', momentum=0.1)]),
    'bfloat16': dict(
        optim_wrapper=dict(
            type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9)
        )
    ),
    'fused optimizer': dict(
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.05, fused=True)
        )
    ),
    'validation': dict(
        validate=2, hooks=[dict(type='EMAHook', momentum=0.1)]
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize('setting', SETTINGS)
def test_killed_training_goes_on_to_the_same_bits(setting, tmp_path):
    train(config(tmp_path / 'reference', **SETTINGS[setting]))
    cfg = config(tmp_path / 'killed', **SETTINGS[setting])
    train(cfg, call_at=(5, kill))
    train(cfg, resume=True, call_at=(10, kill))
    train(cfg, resume=True)
    assert_same_end(tmp_path / 'killed', tmp_path / 'reference')
    assert len(losses(tmp_path / 'killed')) == ITERS + 2 + 1


def test_a_seed_that_was_drawn_is_kept(tmp_path):
    cfg = config(tmp_path / 'killed', seed=None)
    train(cfg, call_at=(3, kill))
    shutil.copytree(tmp_path / 'killed', tmp_path / 'reference')
    train(config(tmp_path / 'reference', seed=None), resume=True)
    train(cfg, resume=True, call_at=(8, kill))
    train(cfg, resume=True)
    assert_same_end(tmp_path / 'killed', tmp_path / 'reference')


def test_results_do_not_depend_on_workers_nor_on_validation(tmp_path):
    plain, _ = train(config(tmp_path / '0'))
    assert plain == train(config(tmp_path / '1', workers=1))[0]
    assert plain == train(config(tmp_path / '2', workers=2, validate=3))[0]
    assert plain == train(config(tmp_path / '3', validate=2))[0]
    assert plain != train(config(tmp_path / '4', seed=4))[0]


def test_order_of_the_data_is_that_of_mmengine_from_any_place():
    data = NoisyData()
    stock = InfiniteSampler(data, seed=5)
    expected = [index for index, _ in zip(stock, range(40), strict=False)]
    sampler = NumberedBatchSampler(InfiniteSampler(data, seed=5), 2, seed=5)
    sampler.start_at(0, 15)
    batches = [batch for batch, _ in zip(sampler, range(5), strict=False)]
    assert sum(batches, []) == expected[30:40]
    assert [index.seeds for index in batches[0]] == [(5, 0, 30), (5, 0, 31)]


def test_a_resume_loads_nothing_of_what_has_been_seen(tmp_path):
    train(config(tmp_path), call_at=(9, kill))
    NoisyData.loads = 0
    train(config(tmp_path), resume=True)
    assert NoisyData.loads == 2 * (ITERS - 9)


def test_a_validation_that_was_cut_off_is_done(tmp_path):
    settings = dict(validate=6, checkpoint=dict(save_best='score', rule='greater'))
    train(config(tmp_path / 'reference', **settings))
    cfg = config(tmp_path / 'killed', **settings)
    train(cfg, call_at=(6, kill))
    assert not list((tmp_path / 'killed').glob('best_*'))
    train(cfg, resume=True)
    assert_same_end(tmp_path / 'killed', tmp_path / 'reference')
    best = [sorted(p.name for p in d.glob('best_*')) for d in tmp_path.iterdir()]
    assert best[0] == best[1] != []


@pytest.mark.parametrize(
    ('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_signal_ends_the_run_with_a_checkpoint(number, status, by_epoch, tmp_path):
    kind = dict(by_epoch=by_epoch, workers=1)
    if by_epoch:
        kind['checkpoint'] = dict(by_epoch=True, interval=1)
    train(config(tmp_path / 'reference', **kind))
    cfg = config(tmp_path / 'killed', **kind)
    with pytest.raises(SystemExit) as stop:
        # At the end of iteration 6 a signal is too late for its own checkpoint.
        train(cfg, call_at=(6, lambda: os.kill(os.getpid(), number)))
    assert stop.value.code == status
    assert read(tmp_path / 'killed', 'iter_7.pth')['meta']['iter'] == 7
    train(cfg, resume=True)
    assert [r['iter'] for r in losses(tmp_path / 'killed')] == list(range(1, ITERS + 1))
    if not by_epoch:
        assert_same_end(tmp_path / 'killed', tmp_path / 'reference')
    else:
        assert losses(tmp_path / 'killed') == losses(tmp_path / 'reference')
        # What was for the stop alone is gone once there is one of an epoch.
        assert {p.name for p in (tmp_path / 'killed').glob('*.pth')} == {
            'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'
        }  # fmt: skip


def test_a_signal_in_a_validation_leaves_the_weights_that_are_trained(tmp_path):
    settings = dict(validate=5, hooks=[dict(type='EMAHook', momentum=0.1)])
    train(config(tmp_path / 'reference', **settings))
    cfg = config(tmp_path / 'killed', **settings)
    call = (5, lambda: os.kill(os.getpid(), signal.SIGTERM), 'before_val_iter')
    with pytest.raises(SystemExit):
        train(cfg, call_at=call)
    assert (tmp_path / 'killed' / 'iter_5.pth').is_file()
    train(cfg, resume=True)
    assert_same_end(tmp_path / 'killed', tmp_path / 'reference')


def damage(path, how):
    content = path.read_bytes()
    if how == 'cut off':
        path.write_bytes(content[: len(content) // 2])
    elif how == 'empty':
        path.write_bytes(b'')
    else:
        # A byte of a weight, which nothing but the checksum shows.
        at = content.index(b'/data/') + len(content) // 4
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])


@pytest.mark.parametrize('how', ['cut off', 'empty', 'one byte is wrong'])
def test_the_newest_whole_checkpoint_is_taken(how, tmp_path, caplog):
    cfg = config(tmp_path)
    train(cfg, call_at=(10, kill))
    damage(tmp_path / 'iter_9.pth', how)
    # The pointer of MMEngine may be half written, or point there.
    (tmp_path / 'last_checkpoint').write_text('')
    with caplog.at_level(logging.INFO):
        _, runner = train(cfg, resume=True)
    assert Path(runner._load_from) == tmp_path / 'iter_6.pth'
    assert [r['iter'] for r in losses(tmp_path)] == [
        *range(1, 11),
        *range(7, ITERS + 1),
    ]


def test_resume_without_any_checkpoint_begins_at_the_start(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('/gone/iter_4.pth')
    records, _ = train(config(tmp_path), resume=True)
    assert len(records) == ITERS


@pytest.mark.parametrize('kept', [1, 2])
def test_the_last_whole_checkpoint_stays_when_the_disk_is_full(
    kept, tmp_path, monkeypatch
):
    cfg = config(tmp_path, checkpoint=dict(max_keep_ckpts=kept))
    train(cfg, call_at=(7, kill))
    before = sorted(p.name for p in tmp_path.glob('*.pth'))

    def full(file):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        with pytest.raises(CheckpointError, match='iteration 9.*No space.*Make room'):
            train(cfg, resume=True)
    assert sorted(p.name for p in tmp_path.glob('*.pth')) == before
    assert not list(tmp_path.glob('.*.pth'))
    train(cfg, resume=True)
    names = [f'iter_{k}.pth' for k in range(SAVED_EVERY, ITERS + 1, SAVED_EVERY)]
    assert sorted(tmp_path.glob('*.pth')) == sorted(
        tmp_path / name for name in names[-kept:]
    )


def test_half_written_files_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / '.iter_3.17.tmp.pth').write_bytes(b'half')
    train(config(tmp_path))
    assert not list(tmp_path.glob('.*.pth'))


def warnings_of(work_dir):
    log = max(Path(work_dir).glob('*/*.log'), key=os.path.getmtime)
    return log.read_text()


def test_what_changed_in_the_config_is_said(tmp_path):
    train(config(tmp_path), call_at=(4, kill))
    cfg = config(tmp_path, workers=1)
    cfg.train_cfg.max_iters = 5
    cfg.optim_wrapper.clip_grad = dict(max_norm=1)
    train(cfg, resume=True)
    log = warnings_of(tmp_path)
    assert f'train_cfg.max_iters: {ITERS} -> 5' in log
    assert 'train_dataloader.num_workers: 0 -> 1' in log
    assert "optim_wrapper.clip_grad: nothing -> {'max_norm': 1}" in log


def test_the_same_config_is_not_said_to_differ(tmp_path):
    train(config(tmp_path), call_at=(4, kill))
    train(config(tmp_path), resume=True)
    assert 'differs' not in warnings_of(tmp_path)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(optimizer=dict(type='SGD', lr=0.05)), 'optimizer in the checkpoint'),
        (dict(param_scheduler=[]), 'param_scheduler was LinearLR'),
        (dict(by_epoch=True), 'counts iterations, and train_cfg.type counts epochs'),
    ],
)
def test_changes_that_cannot_be_are_refused(change, message, tmp_path):
    train(config(tmp_path), call_at=(4, kill))
    optimizer = change.pop('optimizer', None)
    cfg = config(tmp_path, **change)
    if optimizer:
        cfg.optim_wrapper.optimizer = optimizer
    with pytest.raises(CheckpointError, match=message):
        train(cfg, resume=True)


def test_checkpoints_without_a_training_state_find_their_place(tmp_path):
    train(config(tmp_path), call_at=(7, kill))
    content = torch.load(tmp_path / 'iter_6.pth', weights_only=True)
    del content['training_state']
    torch.save(content, tmp_path / 'iter_6.pth')
    _, runner = train(config(tmp_path), resume=True)
    assert runner.train_loop.place == (0, ITERS)
    assert 'other random numbers' in warnings_of(tmp_path)


def in_a_child(call):
    """Run something in a forked process; gives its exit status."""
    child = os.fork()
    if not child:
        try:
            os._exit(call() or 0)
        except BaseException as error:
            print(error)
            os._exit(99)
    return os.waitpid(child, 0)[1]


def test_a_second_training_in_the_folder_is_refused(tmp_path):
    work_dir_lock.claim_work_dir(tmp_path)
    owner = f'process {os.getpid()} on {socket.gethostname()}'

    def other():
        # A child has the parent's memory, but not its lock.
        work_dir_lock._held.clear()
        with pytest.raises(BlockingIOError, match=owner):
            work_dir_lock.claim_work_dir(tmp_path)

    assert in_a_child(other) == 0
    work_dir_lock.release_work_dir(tmp_path)
    assert in_a_child(lambda: work_dir_lock.claim_work_dir(tmp_path)) == 0
    # The child is gone, and so is its lock.
    work_dir_lock.claim_work_dir(tmp_path)
    work_dir_lock.release_work_dir(tmp_path)


def test_a_work_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    for check in (work_dir_lock.claim_work_dir, work_dir_lock.check_work_dir):
        for folder in (tmp_path / 'file' / 'work', tmp_path / 'file'):
            with pytest.raises(OSError, match='nothing can be written.*--work-dir'):
                check(folder)


def test_a_check_of_the_work_folder_leaves_nothing_and_locks_nobody_out(tmp_path):
    work_dir_lock.claim_work_dir(tmp_path / 'work')
    work_dir_lock.check_work_dir(tmp_path / 'work')
    assert [p.name for p in (tmp_path / 'work').iterdir()] == ['.training.lock']
    work_dir_lock.release_work_dir(tmp_path / 'work')


def test_an_empty_training_set_is_said_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(NoisyData, '__len__', lambda self: 0)
    with pytest.raises(ValueError, match='no image left to train on'):
        train(config(tmp_path))


def test_an_epoch_without_end_is_refused(tmp_path):
    cfg = config(tmp_path, by_epoch=True)
    cfg.train_dataloader.sampler.type = 'InfiniteSampler'
    with pytest.raises(ValueError, match='never ends an epoch'):
        train(cfg)


def test_the_second_signal_ends_the_process_at_once(monkeypatch):
    from mmdet_efficientps.utils import stop_signals

    def child():
        signals = stop_signals.StopSignals()
        signals.install()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        if signals.received != signal.SIGTERM:
            return 1
        stop_signals.SECONDS_OF_ONE_SIGNAL = 0
        os.kill(os.getpid(), signal.SIGTERM)
        return 2

    assert in_a_child(child) == signal.SIGTERM


def one_of_two(rank, port, folder, call_at, resume):
    """One process of a training in two."""
    torch.set_num_threads(1)
    os.environ |= {'RANK': str(rank), 'WORLD_SIZE': '2', 'LOCAL_RANK': str(rank)}
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    cfg = config(
        folder,
        validate=4,
        launcher='pytorch',
        # What MMEngine takes where there are GPUs.
        model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
        ),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9),
            accumulative_counts=4,
        ),
    )

    if call_at == 'signal to one':
        call_at = (7, lambda: rank and os.kill(os.getpid(), signal.SIGTERM))
    elif call_at:
        call_at = (call_at, kill)
    train(cfg, resume, call_at)


def in_two(folder, call_at=None, resume=False):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context('fork')
    arguments = (port, folder, call_at, resume)
    both = [
        context.Process(target=one_of_two, args=(rank, *arguments)) for rank in (0, 1)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    return [process.exitcode for process in both]


@pytest.mark.slow
def test_two_processes_go_on_to_the_same_bits(tmp_path):
    assert in_two(tmp_path / 'reference') == [0, 0]
    killed = tmp_path / 'killed'
    # Gradients of two batches are accumulated then, other ones in each process.
    assert in_two(killed, 6) == [0, 0]
    assert in_two(killed, 'signal to one', resume=True) == [143, 143]
    assert in_two(killed, resume=True) == [0, 0]
    assert_same_end(killed, tmp_path / 'reference')
