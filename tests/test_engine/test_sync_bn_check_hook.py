# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
from mmdet.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmdet_efficientps import get_config


@MODELS.register_module(force=True)
class NetWithNorm(BaseModel):
    def __init__(self, norm_cfg=None):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return [{}]


@METRICS.register_module(force=True)
class CountImages(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(images=len(results))


def runner(folder, norm, sync_bn):
    """A runner of one's own, of a config with sync_bn."""
    loader = dict(
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=[dict(inputs=1)],
    )
    cfg = Config(
        dict(
            model=dict(type='NetWithNorm', norm_cfg=dict(type=norm)),
            work_dir=str(folder),
            test_dataloader=loader,
            test_cfg={},
            test_evaluator=dict(type='CountImages'),
            custom_hooks=[dict(type='SyncBNCheckHook')],
            default_scope='mmdet',
            experiment_name=folder.name,
            sync_bn=sync_bn,
        )
    )
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize('norm', ['InPlaceABN', 'InPlaceABNSync', 'mmdet.InPlaceABN'])
def test_conversion_of_iabn_to_plain_batch_norm_is_refused(tmp_path, norm):
    with pytest.raises(ValueError, match="sync_bn='torch' .*type='InPlaceABNSync'"):
        runner(tmp_path, norm, 'torch').test()


@pytest.mark.parametrize(
    ('norm', 'sync_bn'), [('BN', 'torch'), ('InPlaceABN', None), ('BN', None)]
)
def test_what_loses_no_activation_runs(tmp_path, norm, sync_bn):
    assert runner(tmp_path, norm, sync_bn).test() == dict(images=1)


def test_every_config_has_the_check():
    config = get_config('efficientps_lite0-small_1xb2-760_toy-city-256x512')
    assert dict(type='SyncBNCheckHook') in config.custom_hooks
