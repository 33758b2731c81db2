# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The text of a config that is fitted to a data set."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from mmdet_efficientps.datasets.fingerprint import Fingerprint
from mmdet_efficientps.utils import counted, num_processors

from .fitted_settings import (
    MODEL_SIZES,
    RARE_SHARE,
    Fitted,
    FittedSettings,
    ModelSize,
    times_drawn,
)
from .model_zoo import config_folder


def _base_path(name: str, out: Path) -> str:
    """Path of a base config as a config in the place of ``out`` may name it.

    Relative in a checkout, which may be moved; absolute for an installed package.
    """
    folder = config_folder().resolve()
    path, parent = folder / '_base_' / f'{name}.py', out.resolve().parent
    if folder.parent in (parent, *parent.parents):
        return Path(os.path.relpath(path, parent)).as_posix()
    return path.as_posix()


def _literal(text: str) -> str:
    """Write a text of the user such that it is read as it is.

    MMEngine replaces ``{{ name }}`` in the text of a config, be it in a string.
    """
    return repr(text).replace('{{', r'{\x7b')


def _comment(text: str, indent: int = 0) -> str:
    """Wrap a comment, which MMEngine takes for what it replaces just as well."""
    start = ' ' * indent + '# '
    shown = ''.join(c if c.isprintable() else ' ' for c in text)
    return textwrap.fill(
        re.sub(r'\{(?=\{)', '{ ', shown),
        88,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _class_list(name: str, labels: Iterable[int], data: Fingerprint) -> str:
    """Write a tuple of names with the figures of each."""
    lines = []
    for k in labels:
        segments = counted(data.num_segments[k], 'segment')
        images = counted(data.num_images[k], 'image')
        lines.append(
            f'    {_literal(data.classes.names[k])},  # {segments} in {images}, '
            f'{data.pixel_shares[k]:.2%} of the pixels'
        )
    return '\n'.join([f'{name} = (', *lines, ')'])


def config_text(
    train: Fingerprint,
    val: Fingerprint,
    settings: FittedSettings,
    model: str,
    out: Path,
) -> str:
    """Write the config.

    Args:
        train (Fingerprint): What is trained on.
        val (Fingerprint): What is validated on.
        settings (FittedSettings): What was chosen.
        model (str): Key of ``MODEL_SIZES``.
        out (Path): Where the config will be.

    Returns:
        str: Text of a config.
    """
    size = MODEL_SIZES[model]
    num_things = train.classes.num_things
    bases = [
        f'models/{size.model}',
        'datasets/panoptic',
        f'schedules/{size.schedule}',
        'default_runtime',
    ]
    parts = [
        _comment(
            f'Written by tools/new_config.py for {train.files.json_file.as_posix()}, '
            f'{len(train)} images, and {val.files.json_file.as_posix()}, {len(val)} '
            f'images to validate on. Model: {model}. Paths are relative to the folder '
            'in which a command is run.'
        ),
        '_base_ = ['
        + ''.join(f'\n    {_literal(_base_path(name, out))},' for name in bases)
        + '\n]',
        _comment(f'The {num_things} thing classes of the json.')
        + '\n'
        + _class_list('things', range(num_things), train),
        _comment(f'The {len(train.classes) - num_things} stuff classes.')
        + '\n'
        + _class_list('stuff', range(num_things, len(train.classes)), train),
        _model_text(settings),
        _data_text(train, val, settings, size),
        _schedule_text(settings, size),
    ]
    return '\n\n'.join(parts) + '\n'


def _reason(fitted: Fitted, indent: int = 0) -> str:
    return _comment(fitted.reason, indent)


def _model_text(settings: FittedSettings) -> str:
    """The part of the network."""
    return f"""numbers = dict(
    num_things_classes=len(things),
    num_stuff_classes=len(stuff),
)
model = dict(
    semantic_head=dict(**numbers),
    rpn_head=dict(
        anchor_generator=dict(
{_reason(settings.anchor_scale, 12)}
            scales=[{settings.anchor_scale.value}],
{_reason(settings.anchor_ratios, 12)}
            ratios={settings.anchor_ratios.value},
        ),
    ),
    roi_head=dict(
{_reason(settings.finest_scale, 8)}
        bbox_roi_extractor=dict(finest_scale={settings.finest_scale.value}),
        bbox_head=dict(num_classes=len(things)),
        mask_roi_extractor=dict(finest_scale={settings.finest_scale.value}),
        mask_head=dict(num_classes=len(things)),
    ),
    panoptic_fusion_head=dict(**numbers),
{_reason(settings.min_stuff_area, 4)}
    test_cfg=dict(panoptic=dict(min_stuff_area={settings.min_stuff_area.value})),
)"""


def _data_text(
    train: Fingerprint,
    val: Fingerprint,
    settings: FittedSettings,
    size: ModelSize,
) -> str:
    """The part of images and pipelines."""
    rare = settings.rare_labels
    crop = ['scale=scale,', f'crop_size={settings.crop_size.value},']
    if size.ratio_range is not None:
        crop += [
            '# A narrower range than the 0.5 to 2 of the paper, for fewer steps.',
            f'ratio_range={size.ratio_range},',
        ]
    if rare.value and settings.cuts_images:
        crop += [
            '# Half of the crops are laid around a rare class of the image, see below.',
            f'rare_classes={rare.value},',
        ]
    arguments = ''.join(f'\n    {argument}' for argument in crop)
    lines = [
        _reason(settings.scale),
        f'scale = {settings.scale.value}',
        _reason(settings.crop_size),
        f'_base_.train_pipeline[2].update({arguments}\n)',
        '_base_.test_pipeline[1].update(scale=scale)',
        '_base_.tta_pipeline[1].update(scale=scale)',
        _reason(settings.flip_prob),
    ]
    if settings.flip_prob.value is not None:
        lines += [
            f'_base_.train_pipeline[3].update(prob={settings.flip_prob.value})',
            '_base_.tta_pipeline[1].update(flip=False)',
        ]
    sides = {}
    for name, files in (('train', train.files), ('val', val.files)):
        sides[name] = f"""
    ann_file={_literal(files.json_file.as_posix())},
    data_prefix=dict(
        img={_literal(_folder(files.image_dir))},
        seg={_literal(_folder(files.png_dir))},
    ),"""
    lines.append(f"""
dataset = dict(
    type='PanopticDataset',
    metainfo=dict(classes=things + stuff, thing_classes=things, stuff_classes=stuff),
)
train_dataset = dict(
    pipeline=_base_.train_pipeline,{sides['train']}
    **dataset,
)""")
    if rare.value:
        names = ''.join(
            f'\n            {_literal(train.classes.names[label])},'
            for label in rare.value
        )
        lines.append(
            _comment(
                f'{rare.reason} Images with a rare class are drawn several times: the '
                f'root of {RARE_SHARE} over the share of the images that show it, '
                f'rounded up, {_how_often(train, rare.value)}.'
            )
            + f"""
train_dataset = dict(
    type='ClassBalancedDataset',
    oversample_thr={RARE_SHARE},
    dataset=dict(
        balanced_classes=({names}
        ),
        **train_dataset,
    ),
)"""
        )
    processors = num_processors()
    workers = min(max(processors - 2, 0), 4)
    loader = f'num_workers={workers},\n    persistent_workers={workers > 0}'
    lines.append(f"""{_reason(settings.batch_size)}
# Loaders beside the training, for which two of the {processors} processors are left.
train_dataloader = dict(
    batch_size={settings.batch_size.value},
    {loader},
    dataset=dict(_delete_=True, **train_dataset),
)
val_dataloader = dict(
    {loader},
    dataset=dict(
        pipeline=_base_.test_pipeline,{textwrap.indent(sides['val'], '    ')}
        **dataset,
    ),
)
test_dataloader = val_dataloader""")
    return '\n'.join(lines)


def _how_often(train: Fingerprint, rare: Iterable[int]) -> str:
    """Say how often images of rare classes are drawn."""
    often: dict[int, list[str]] = {}
    for label in rare:
        shown = train.presence[:, [label]]
        often.setdefault(int(times_drawn(shown).max()), []).append(
            train.classes.names[label]
        )
    return ', '.join(
        f'{times} times for {" and ".join(names)}' for times, names in often.items()
    )


def _folder(path: Path) -> str:
    """A folder as configs name it."""
    return path.as_posix().rstrip('/') + '/'


def _schedule_text(settings: FittedSettings, size: ModelSize) -> str:
    """The part of the schedule."""
    lines = [
        _reason(settings.max_iters),
        f'max_iters = {settings.max_iters.value}',
        _reason(settings.val_interval),
        f'interval = {settings.val_interval.value}',
        'train_cfg = dict(max_iters=max_iters, val_interval=interval)',
    ]
    batch_size = settings.batch_size.value
    if size.schedule == 'schedule_50k':
        lines.append(
            """# The rate falls at the same parts of the training as in the paper.
_base_.param_scheduler[1].update(
    end=max_iters, milestones=[int(0.64 * max_iters), int(0.88 * max_iters)]
)
"""
            f'# {batch_size} instead of 16 images a step.\n'
            'optim_wrapper = dict(\n    optimizer=dict('
            f'lr=_base_.optim_wrapper.optimizer.lr * {batch_size} / 16)\n)\n'
            f'auto_scale_lr = dict(base_batch_size={batch_size})'
        )
    else:
        lines.append(
            """# Warm-up as usual, but no more than a tenth of the training.
warm_up = min(_base_.param_scheduler[0].end, max(max_iters // 10, 1))
_base_.param_scheduler[0].update(end=warm_up)
_base_.param_scheduler[1].update(
    begin=warm_up, end=max_iters, T_max=max_iters - warm_up
)"""
        )
        if batch_size != size.batch_size:
            lines.append(
                f'# {batch_size} instead of {size.batch_size} images a step: the root '
                'of it for AdamW.\noptim_wrapper = dict(\n    optimizer=dict('
                'lr=_base_.optim_wrapper.optimizer.lr * '
                f'({batch_size} / {size.batch_size}) ** 0.5)\n)'
            )
    lines.append("""default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval=interval, max_keep_ckpts=1),
)""")
    return '\n'.join(lines)
