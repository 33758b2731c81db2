# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Training loops."""

from .loops import ResumableEpochBasedTrainLoop, ResumableIterBasedTrainLoop

__all__ = ['ResumableEpochBasedTrainLoop', 'ResumableIterBasedTrainLoop']
