# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The order in which a training sees its images."""

from .numbered_batch_sampler import NumberedBatchSampler, SampleIndex

__all__ = ['NumberedBatchSampler', 'SampleIndex']
