# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What a training is besides weights and optimizer, as checkpoints carry it."""

from __future__ import annotations

from typing import Any

from mmengine.dist import gather_object, get_world_size
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from mmdet_efficientps.utils.random_states import set_generator_states

# Field of a checkpoint.
TRAINING_STATE = 'training_state'


def collect_training_state(
    runner: Runner, generators: dict[str, Any], validation_follows: bool
) -> dict[str, Any] | None:
    """Collect what a training needs to go on as if it had not been stopped.

    Every process of the training has to call it.

    Args:
        runner (Runner): The runner, with a loop of this package or another.
        generators (dict[str, Any]): Random states of this process, as
            :func:`~mmdet_efficientps.utils.random_states.generator_states` gives them.
        validation_follows (bool): Whether a validation is due that has not been.

    Returns:
        dict[str, Any] | None: In the first process, tensors and plain types

        - counts: 'iterations' or 'epochs', whichever the loop counts.
        - place: epoch and batches of it that have been taken; None without a loop of
          this package.
        - batch_size: images of a batch of one process.
        - sampler_seed: the seed of the order of the data, or None.
        - validation_follows: as given.
        - processes: of every process its generators; gradients (dict of tensors) if
          some are accumulated, else None; buffers of the model if there are several.

        In the others None.
    """
    model = _unwrapped(runner.model)
    own = {
        'generators': generators,
        'gradients': _accumulated_gradients(runner, model),
        'buffers': (
            {name: buffer.cpu() for name, buffer in model.named_buffers()}
            if get_world_size() > 1
            else None
        ),
    }
    processes = gather_object(own)
    if processes is None:
        return None
    loop = runner.train_loop
    sampler = loop.dataloader.batch_sampler
    place = getattr(loop, 'place', None)
    return {
        'counts': getattr(loop, 'counts', None),
        'place': None if place is None else list(place),
        'batch_size': getattr(sampler, 'batch_size', None),
        'sampler_seed': getattr(getattr(sampler, 'sampler', None), 'seed', None),
        'validation_follows': validation_follows,
        'processes': processes,
    }


def restore_training_state(runner: Runner, state: dict[str, Any], rank: int) -> None:
    """Put a process back to where it was; the last thing before training goes on.

    Args:
        runner (Runner): The runner, with a loop of this package that has resumed.
        state (dict[str, Any]): As :func:`collect_training_state` gives it.
        rank (int): Number of this process.
    """
    loop = runner.train_loop
    sampler = loop.dataloader.batch_sampler
    sampler.seed = runner.seed
    if state['sampler_seed'] is not None:
        sampler.sampler.seed = state['sampler_seed']
    epoch, batch = state['place']
    then = len(state['processes']) * state['batch_size']
    now = get_world_size() * sampler.batch_size
    loop.place = (epoch, batch * then // now)
    if len(state['processes']) != get_world_size():
        runner.logger.warning(
            f'The checkpoint is of {len(state["processes"])} processes and there are '
            f'{get_world_size()} now: training goes on at the same place in the data, '
            'but not to the same numbers'
        )
        return
    own = state['processes'][rank]
    model = _unwrapped(runner.model)
    for name, buffer in model.named_buffers():
        if own['buffers'] and name in own['buffers']:
            buffer.copy_(own['buffers'][name])
    for name, parameter in model.named_parameters():
        if own['gradients'] and name in own['gradients']:
            parameter.grad = own['gradients'][name].to(parameter)
    set_generator_states(own['generators'])


def _accumulated_gradients(runner: Runner, model: nn.Module) -> dict | None:
    """Gradients that wait for those of further batches, None if there are none."""
    wrapper = runner.optim_wrapper
    parts = (
        list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    )
    if all(part.should_update() for part in parts):
        return None
    return {
        name: parameter.grad.cpu()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model without its wrapper for several processes."""
    module = model.module if is_model_wrapper(model) else model
    assert isinstance(module, nn.Module)
    return module
