# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Settings of a training that follow from the figures of a data set.

Each function takes figures, knows no config, and gives a value with the reason for it,
which stands as a comment beside the value in the config that ``tools/new_config.py``
writes. Sizes are in pixels of the network's input unless said otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmdet_efficientps.datasets.fingerprint import Fingerprint

# Networks halve the size of an image five times.
DIVISOR = 32
STRIDES = (4, 8, 16, 32)
# Two cells of the finest level of the pyramid: of less no shape can be seen.
LEAST_SIDE = 8
LARGEST_ENLARGEMENT = 2
LEAST_CROP = 128 * 128
ANCHOR_SCALES = (2, 3, 4, 5, 6, 8, 10, 12, 16)
# Half octaves of height / width.
ANCHOR_RATIOS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
# The level of a RoI is found by this multiple of the anchor scale, as in mmdet's
# configs: 56 for anchors of scale 8.
FINEST_PER_SCALE = 7
# The paper's is 2048 pixels of 2048x1024. On smaller images with shorter trainings
# small regions are seldom right, and a wrong one costs what a right one gains: there
# up to twice that share is best (configs/ablations/README.md).
STUFF_SHARE = 1 / 512
# Classes in fewer of the images are rare.
RARE_SHARE = 0.1
# Fewer images of a class that are drawn again and again would be learnt by heart, and
# the class be seen where it is not.
LEAST_IMAGES_TO_REPEAT = 5
PORTRAIT_SHARE = 0.1


@dataclass(frozen=True)
class Fitted:
    """A value and the figure of the data that it comes from.

    Attributes:
        value (Any): The value.
        reason (str): One or two sentences.
    """

    value: Any
    reason: str


@dataclass(frozen=True)
class ModelSize:
    """What a network is made for and needs.

    Attributes:
        model (str): Its config in ``configs/_base_/models``.
        schedule (str): That of its schedule in ``configs/_base_/schedules``.
        crop (tuple[int, int]): Width and height that it is made for.
        batch_size (int): Images a step, if there is memory for them.
        bytes_per_pixel (float): Memory of a training step on a GPU in float32 for each
            pixel of each image.
        prediction_bytes_per_pixel (float): Memory of a prediction of one image for
            each pixel of it.
        fixed_bytes (float): What both need besides.
        passes (int): How often a training sees every image.
        least_iters (int): Steps of the shortest training.
        ratio_range (tuple[float, float] | None): Range of the random scale. Defaults
            to None, that of the base config.
    """

    model: str
    schedule: str
    crop: tuple[int, int]
    batch_size: int
    bytes_per_pixel: float
    prediction_bytes_per_pixel: float
    fixed_bytes: float
    passes: int
    least_iters: int
    ratio_range: tuple[float, float] | None = None


# Memory: of the network of the paper, one image of 2048x1024 pixels added 10.0 GB to a
# training in float32 (on a CPU) and one of 1024x512 3.2 GB, so 4320 bytes a pixel.
# `tools/analysis_tools/measure_training_memory.py` counted 3961 bytes of it that are
# kept for the backward pass; of the small network it counted 1180, of lite0 1478 and of
# lite2 1848, and here these stand times 4320 / 3961. Trainings need less since, which
# is left as a reserve. What is needed besides is that of the context of the device, the
# weights and the states of the optimizer.
# Of a prediction of 1024x512 pixels the same command counts 245 bytes a pixel (small),
# 327 (lite0, lite2) and 399 (b5). One of 2048x1024 added 329 bytes a pixel (small), 406
# (lite0) and 385 (lite2) to a process on a CPU, whose convolutions need more for a
# moment. These stand here, and for b5 its count times 329 / 245.
_SMALL_DATA: dict[str, Any] = dict(
    schedule='schedule_small_data',
    batch_size=2,
    # As in mmdet's shortest usual schedule, but no fewer steps than the demo has.
    passes=12,
    least_iters=760,
    ratio_range=(0.8, 1.25),
)
MODEL_SIZES = {
    'small': ModelSize(
        model='efficientps_lite0_small',
        crop=(512, 256),
        bytes_per_pixel=1290,
        prediction_bytes_per_pixel=330,
        fixed_bytes=0.6e9,
        **_SMALL_DATA,
    ),
    'lite0': ModelSize(
        model='efficientps_lite0_medium',
        crop=(1024, 512),
        bytes_per_pixel=1610,
        prediction_bytes_per_pixel=410,
        fixed_bytes=0.8e9,
        **_SMALL_DATA,
    ),
    'lite2': ModelSize(
        model='efficientps_lite2_medium',
        crop=(1024, 512),
        bytes_per_pixel=2020,
        prediction_bytes_per_pixel=410,
        fixed_bytes=0.8e9,
        **_SMALL_DATA,
    ),
    'b5': ModelSize(
        model='efficientps_effb5',
        schedule='schedule_50k',
        crop=(2048, 1024),
        batch_size=1,
        bytes_per_pixel=4320,
        prediction_bytes_per_pixel=540,
        fixed_bytes=1.5e9,
        # As often as in the schedule of the authors' release.
        passes=160,
        least_iters=2000,
    ),
}


@dataclass(frozen=True)
class FittedSettings:
    """All settings for a data set.

    Attributes:
        scale (Fitted): Sides, longer first, into which an image is fitted.
        crop_size (Fitted): Width and height of the crop.
        batch_size (Fitted): Images a step.
        anchor_scale (Fitted): Side of the anchors as a multiple of the stride.
        anchor_ratios (Fitted): Height / width of the anchors.
        finest_scale (Fitted): ``finest_scale`` of the RoI extractors.
        min_stuff_area (Fitted): In pixels of the images, as the fusion counts.
        max_iters (Fitted): Number of steps.
        val_interval (Fitted): Steps from one validation to the next.
        flip_prob (Fitted): Probability of a mirrored image; None for that of the base.
        rare_labels (Fitted): Labels of rare classes.
    """

    scale: Fitted
    crop_size: Fitted
    batch_size: Fitted
    anchor_scale: Fitted
    anchor_ratios: Fitted
    finest_scale: Fitted
    min_stuff_area: Fitted
    max_iters: Fitted
    val_interval: Fitted
    flip_prob: Fitted
    rare_labels: Fitted

    @property
    def cuts_images(self) -> bool:
        """Whether the crop shows a part of an image of the size of ``scale`` only."""
        return seen_share(self.scale.value, self.crop_size.value) < 1


def parse_memory(text: str) -> float:
    """Read an amount of memory.

    Example::

        >>> [parse_memory(text) for text in ('8GB', '500 MB', '6')]
        [8000000000.0, 500000000.0, 6000000000.0]

    Args:
        text (str): A number with MB, GB, MiB or GiB; GB if it has none.

    Returns:
        float: Bytes.

    Raises:
        ValueError: If it is no such amount.
    """
    units = {'': 1e9, 'gb': 1e9, 'mb': 1e6, 'gib': 2**30, 'mib': 2**20}
    match = re.fullmatch(r'\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*', text.lower())
    if not match or match[2] not in units or not float(match[1]):
        raise ValueError(
            f'{text!r} is no amount of memory: give a number and GB or MB, such as 8GB'
        )
    return float(match[1]) * units[match[2]]


def fit_settings(
    data: Fingerprint, size: ModelSize, memory: float, max_iters: int | None = None
) -> FittedSettings:
    """Fit the settings to a data set.

    Args:
        data (Fingerprint): What is trained on.
        size (ModelSize): The network.
        memory (float): Bytes for the training.
        max_iters (int | None): Number of steps. Defaults to None, by the number of
            images.

    Returns:
        FittedSettings: Values with reasons.

    Raises:
        ValueError: If there is not enough memory for any useful crop.
    """
    sides = np.sort(data.sizes, axis=1)[:, ::-1]
    typical = np.median(sides, axis=0)
    # How much each image is scaled to be fitted into the typical size.
    factors = (typical / sides).min(axis=1)
    things = data.instances
    thing_factors = factors[things['image']]
    thing_sides = np.sqrt(things['area']) * thing_factors
    scale = fit_scale(typical, thing_sides, size, memory)
    factor = float(np.min(np.array(scale.value) / typical))
    boxes = np.stack([things['width'], things['height']], axis=1)
    boxes = boxes * (thing_factors * factor)[:, None]
    is_upright = data.sizes[:, 1] > data.sizes[:, 0]
    crop_size, batch_size = fit_crop(
        scale.value, float(is_upright.mean()), size, memory, boxes
    )
    anchor_scale, ratios = fit_anchors(boxes)
    rare_labels = find_rare(data.classes.names, data.num_images, len(data))
    iters, val_interval = fit_iterations(
        len(data),
        batch_size.value,
        size,
        max_iters,
        drawn=int(times_drawn(data.presence[:, rare_labels.value]).sum()),
    )
    first_stuff = data.classes.num_things
    return FittedSettings(
        scale=scale,
        crop_size=crop_size,
        batch_size=batch_size,
        anchor_scale=anchor_scale,
        anchor_ratios=ratios,
        finest_scale=Fitted(
            FINEST_PER_SCALE * anchor_scale.value,
            f'{FINEST_PER_SCALE} times the anchor scale, so that a level pools the '
            'boxes that its anchors find.',
        ),
        min_stuff_area=fit_min_stuff_area(
            data.areas[:, first_stuff:], float(typical.prod())
        ),
        max_iters=iters,
        val_interval=val_interval,
        flip_prob=fit_flip(data.classes.names),
        rare_labels=rare_labels,
    )


def _multiple(side: float) -> int:
    """The nearest multiple of 32."""
    return max(round(side / DIVISOR), 1) * DIVISOR


def _within(sides: Sequence[float], pixels: float) -> tuple[int, int]:
    """Shrink sides to multiples of 32 of a product of no more than some pixels.

    In about their proportions, as far as 32 for the shorter side allows.
    """
    shrink = min(math.sqrt(pixels / math.prod(sides)), 1.0)
    first, second = (max(int(s * shrink / DIVISOR), 1) * DIVISOR for s in sides)
    # A side that was less than 32 is longer now: at the expense of the other.
    return (
        min(first, max(int(pixels / second / DIVISOR), 1) * DIVISOR),
        min(second, max(int(pixels / first / DIVISOR), 1) * DIVISOR),
    )


def _gigabytes(memory: float, round_up: bool = False) -> str:
    """Write bytes as gigabytes with two digits, rounded down or up."""
    rounded = math.ceil if round_up else math.floor
    return f'{rounded(round(memory) / 1e7) / 100:g}'


def fit_scale(
    typical: np.ndarray, thing_sides: np.ndarray, size: ModelSize, memory: float
) -> Fitted:
    """Choose the size of the images for the network.

    That which the network is made for, or that of the images if they are smaller; but
    one at which nine of ten things have sides of eight pixels. Images are no more than
    doubled for it: if that is not enough, nine of ten of those things count that it is
    enough for. And the network predicts whole images, so that there must be memory for
    one.

    Example::

        >>> sides = np.array([10.0] * 9 + [40.0])
        >>> typical = np.array([640, 480])
        >>> fit_scale(typical, sides, MODEL_SIZES['small'], 8e9).value
        (512, 384)

    Args:
        typical (np.ndarray): Longer and shorter side of a typical image.
        thing_sides (np.ndarray): Sides of the things (root of the area), shape (T, ),
            in pixels of a typical image.
        size (ModelSize): The network.
        memory (float): Bytes.

    Returns:
        Fitted: Longer and shorter side, multiples of 32.
    """
    small = float(np.percentile(thing_sides, 10))
    usual = min(math.sqrt(math.prod(size.crop) / typical.prod()), 1.0)
    # What is less is refused by `fit_crop`.
    pixels = max(
        (memory - size.fixed_bytes) / size.prediction_bytes_per_pixel, LEAST_CROP
    )
    given = f'{typical[0]:g}x{typical[1]:g}'
    end = ''
    needed = LEAST_SIDE / small
    if needed > LARGEST_ENLARGEMENT:
        seen = thing_sides[thing_sides * LARGEST_ENLARGEMENT >= LEAST_SIDE]
        share = len(seen) / len(thing_sides)
        needed = LEAST_SIDE / float(np.percentile(seen, 10)) if len(seen) else 0.0
        end = (
            f' Even twice the size would bring only {share:.0%} of the things to '
            f'{LEAST_SIDE} pixels: the others are too small to be learnt well.'
        )
    factor = max(usual, needed)
    if factor > usual:
        why = (
            f'Images of {given} at the median scaled such that small things keep '
            f'{LEAST_SIDE} pixels'
        )
    elif usual == 1:
        why = f'The size of the images, {given} at the median'
    else:
        why = (
            f'Images of {given} at the median brought to about the pixels that the '
            f'network is made for, {size.crop[0]}x{size.crop[1]}'
        )
    value = _multiple(typical[0] * factor), _multiple(typical[1] * factor)
    if math.prod(value) > pixels:
        why += (
            f'. That would be {value[0]}x{value[1]}, but memory is the limit: of the '
            f'{_gigabytes(memory)} GB there are, the prediction of a whole image needs '
            f'{size.prediction_bytes_per_pixel:.0f} bytes a pixel and '
            f'{_gigabytes(size.fixed_bytes)} GB. Nine'
        )
        value = _within((typical * factor).tolist(), pixels)
    else:
        why += ': nine'
    new = float(np.min(np.array(value) / typical)) * small
    return Fitted(
        value,
        f'{why} of ten things have a side (root of the area) of {small:.1f} '
        f'pixels or more there and {new:.1f} here.{end}',
    )


def seen_share(scale: Sequence[int], crop: Sequence[int]) -> float:
    """Give how much of an image is seen in a crop.

    Example::

        >>> seen_share((400, 300), (300, 300)), seen_share((400, 300), (300, 400))
        (0.75, 1.0)

    Args:
        scale (Sequence[int]): Longer and shorter side of the image.
        crop (Sequence[int]): Width and height of the crop, which lies as the image.

    Returns:
        float: Share of its pixels, 0..1.
    """
    sides = sorted(crop, reverse=True)
    return math.prod(map(min, scale, sides)) / math.prod(scale)


def fit_crop(
    scale: tuple[int, int],
    upright_share: float,
    size: ModelSize,
    memory: float,
    boxes: np.ndarray,
) -> tuple[Fitted, Fitted]:
    """Choose crop and batch size within the memory.

    The whole image and the batch size of the network if that fits; else one image a
    step; else a crop of the proportions of the image.

    Args:
        scale (tuple[int, int]): Longer and shorter side of the image.
        upright_share (float): Share of the images that are higher than wide.
        size (ModelSize): The network.
        memory (float): Bytes.
        boxes (np.ndarray): Widths and heights of the things, shape (T, 2).

    Returns:
        tuple[Fitted, Fitted]: Width and height, and images a step.

    Raises:
        ValueError: If there is not enough memory for a useful crop.
    """
    long, short = scale
    shape = ''
    if upright_share > 1 - PORTRAIT_SHARE:
        whole = (short, long)
    elif upright_share > PORTRAIT_SHARE:
        whole = (long, long)
        shape = f' in a square, since {upright_share:.0%} of the images are upright,'
    else:
        whole = (long, short)
    area = math.prod(whole)
    pixels = (memory - size.fixed_bytes) / size.bytes_per_pixel
    least_pixels = min(LEAST_CROP, area)
    if pixels < least_pixels:
        least = size.fixed_bytes + least_pixels * size.bytes_per_pixel
        raise ValueError(
            f'{_gigabytes(memory)} GB are too little for this network, which needs '
            f'{_gigabytes(least, round_up=True)} GB or more: raise --memory, or take '
            'a smaller --model'
        )
    batch_size = min(size.batch_size, max(int(pixels / area), 1))
    crop = _within(whole, pixels) if area > pixels else whole
    needed = batch_size * math.prod(crop) * size.bytes_per_pixel + size.fixed_bytes
    seen = seen_share(scale, crop)
    part = 'The whole image' if seen == 1 else f'{int(100 * seen)}% of the image'
    reason = (
        f'{part}{shape} with {batch_size} a step needs about {_gigabytes(needed)} of '
        f'the {_gigabytes(memory)} GB there are ({size.bytes_per_pixel:.0f} bytes a '
        f'pixel and {_gigabytes(size.fixed_bytes)} GB).'
    )
    too_large = (boxes > np.array(crop)).any(axis=1).mean()
    if too_large >= 0.01:
        reason += f' {too_large:.0%} of the things are larger than the crop.'
    batch_reason = (
        'As usual for this network, and there is memory for it.'
        if batch_size == size.batch_size
        else f'There is no memory for {size.batch_size}.'
    )
    return Fitted(crop, reason), Fitted(batch_size, batch_reason)


def anchor_shapes(scale: float, ratios: Sequence[float]) -> np.ndarray:
    """Give the anchors of all levels.

    Example::

        >>> anchor_shapes(scale=4, ratios=[4.0])[0].tolist()
        [8.0, 32.0]

    Args:
        scale (float): Side as a multiple of the stride.
        ratios (Sequence[float]): Heights / widths.

    Returns:
        np.ndarray: Widths and heights in pixels, shape (A, 2).
    """
    roots = np.sqrt(np.asarray(ratios))
    shapes = np.stack([1 / roots, roots], axis=1)
    return (np.array(STRIDES)[:, None, None] * scale * shapes).reshape(-1, 2)


def anchor_ious(boxes: np.ndarray, scale: float, ratios: Sequence[float]) -> np.ndarray:
    """Give the overlap of every box with the anchor that fits it best.

    Example::

        >>> anchor_ious(np.array([[16, 32], [32, 32]]), scale=8, ratios=[1.0]).tolist()
        [0.5, 1.0]

    Args:
        boxes (np.ndarray): Widths and heights, shape (T, 2).
        scale (float): Side of the anchors as a multiple of the stride.
        ratios (Sequence[float]): Heights / widths of the anchors.

    Returns:
        np.ndarray: IoU of box and anchor at the same center, shape (T, ).
    """
    anchors = anchor_shapes(scale, ratios)
    common = np.minimum(boxes[:, None], anchors).prod(axis=-1)
    union = boxes.prod(axis=-1)[:, None] + anchors.prod(axis=-1) - common
    return (common / union).max(axis=1)


def fit_anchors(boxes: np.ndarray) -> tuple[Fitted, Fitted]:
    """Fit the anchors of the four levels to the things.

    The ratios are those of a slim, a usual and a wide thing, the scale is the one with
    the best overlap on average.

    Args:
        boxes (np.ndarray): Widths and heights of the things, shape (T, 2).

    Returns:
        tuple[Fitted, Fitted]: Scale and ratios.
    """
    aspects = boxes[:, 1] / boxes[:, 0]
    # One sixth of the things has more than the middle third, one less.
    quantiles = np.percentile(aspects, [100 / 6, 50, 500 / 6])
    steps = np.array(ANCHOR_RATIOS)
    nearest = {int(np.abs(np.log(steps / q)).argmin()) for q in quantiles}
    ratios = [ANCHOR_RATIOS[place] for place in sorted(nearest)]
    means = [anchor_ious(boxes, scale, ratios).mean() for scale in ANCHOR_SCALES]
    scale = ANCHOR_SCALES[int(np.argmax(means))]
    found = (anchor_ious(boxes, scale, ratios) >= 0.5).mean()
    low, middle, high = np.percentile(np.sqrt(boxes.prod(axis=1)), [10, 50, 90])
    return (
        Fitted(
            scale,
            f'Boxes of things have a side (root of width x height) of {low:.0f}, '
            f'{middle:.0f} and {high:.0f} pixels at 10, 50 and 90 %; anchors have '
            f'{", ".join(str(scale * stride) for stride in STRIDES)}. One of them '
            f'overlaps {found:.0%} of the boxes with an IoU of 0.5 or more.',
        ),
        Fitted(
            ratios,
            f'Height / width of the boxes is {quantiles[0]:.2f}, {quantiles[1]:.2f} '
            f'and {quantiles[2]:.2f} at a sixth, the half and five sixths of them.',
        ),
    )


def fit_min_stuff_area(areas: np.ndarray, image_area: float) -> Fitted:
    """Choose below which area the fusion takes a stuff class for an error.

    An eighth of the regions is smaller, no class loses more than half of its own, and
    it is no larger part of the image than twice that of the paper; rounded down to a
    power of two.

    Example::

        >>> fit_min_stuff_area(np.array([[0, 100.0], [900, 400]]), 1e6).value
        128

    Args:
        areas (np.ndarray): Pixels of every stuff class in every image, shape (N, S).
        image_area (float): Pixels of a typical image.

    Returns:
        Fitted: Pixels of the images; 1 if there is no stuff.
    """
    regions = areas[areas > 0]
    if not len(regions):
        return Fitted(1, 'There is no stuff.')
    smallest = float(np.percentile(regions, 12.5))
    of_class = min(np.median(a[a > 0]) for a in areas.T if (a > 0).any())
    of_image = image_area * STUFF_SHARE
    limit = min(smallest, of_class, of_image)
    value = 2 ** int(math.log2(max(limit, 1)))
    reason = (
        f'An eighth of the stuff regions (a class in an image) has less than '
        f'{smallest:.0f} pixels'
    )
    if limit == of_class < smallest:
        reason += f', but of one class half have less than {of_class:.0f}'
    elif limit == of_image:
        reason += (
            f'; the most is the {1 / STUFF_SHARE:.0f}th part of an image, twice as '
            f'much as in the paper, here {of_image:.0f}'
        )
    return Fitted(value, f'{reason}; counted in pixels of the images.')


def fit_iterations(
    num_images: int,
    batch_size: int,
    size: ModelSize,
    max_iters: int | None = None,
    drawn: int | None = None,
) -> tuple[Fitted, Fitted]:
    """Choose how long to train.

    Args:
        num_images (int): Number of images.
        batch_size (int): Images a step.
        size (ModelSize): The network.
        max_iters (int | None): What the user asks for. Defaults to None.
        drawn (int | None): Number of images that are drawn in one pass, those with
            rare classes several times. Defaults to None, each once.

    Returns:
        tuple[Fitted, Fitted]: Number of steps and steps from one validation to the
        next; the last one comes after the last step.
    """
    drawn = drawn or num_images
    if max_iters is None:
        wanted = max(size.passes * drawn / batch_size, size.least_iters)
        parts = 4 if wanted < 10000 else 20
        value = math.ceil(wanted / (10 * parts)) * 10 * parts
        reason = f'{num_images} images'
    else:
        value, parts = max_iters, 4 if max_iters < 10000 else 20
        reason = f'As asked for; {num_images} images'
    passes = value * batch_size / drawn
    if drawn == num_images:
        reason += f' with {batch_size} a step are seen {passes:.1f} times each'
    else:
        reason += (
            f', of which those with rare classes are drawn several times, {drawn} in a '
            f'pass; with {batch_size} a step there are {passes:.1f} passes'
        )
    if max_iters is None:
        least = size.least_iters * batch_size / drawn
        reason += f' ({size.passes} is usual for this network' + (
            f', and {size.least_iters} steps the least)' if least > size.passes else ')'
        )
    interval = math.ceil(value / parts)
    count = math.ceil(value / interval)
    return (
        Fitted(value, reason + '.'),
        Fitted(interval, f'{count} validations, each with a checkpoint.'),
    )


# How words go on that begin like a side and say none, such as leftover and rights.
_NO_SIDE = 'over|eous|ful|ly$|ists?$|[ys]$'


def _says_side(name: str) -> bool:
    """Whether a name has a word that begins with left or right."""
    words = re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+', name)
    return any(re.match(rf'(left|right)(?!{_NO_SIDE})', word.lower()) for word in words)


def _other_side(name: str) -> str:
    """Put right for left and left for right."""
    other = {'left': 'right', 'right': 'left'}
    return re.sub('left|right', lambda match: other[match[0]], name.lower())


def fit_flip(names: Sequence[str]) -> Fitted:
    """Say whether images may be mirrored.

    Names in one word count, too: those that begin with a side, and those of which the
    other side is a class as well.

    Example::

        >>> fit_flip(['leftArm', 'bright', 'leftover', 'cleft']).reason
        'Not mirrored: leftArm would get the wrong class.'

    Args:
        names (Sequence[str]): Names of the classes.

    Returns:
        Fitted: 0 if a class says left or right, else None, for what the base has.
    """
    lower = {name.lower() for name in names}
    sided = [n for n in names if _says_side(n) or _other_side(n) in lower - {n.lower()}]
    if sided:
        return Fitted(
            0.0, f'Not mirrored: {", ".join(sided)} would get the wrong class.'
        )
    return Fitted(None, 'No class says left or right: images are mirrored.')


def times_drawn(presence: np.ndarray) -> np.ndarray:
    """Give how often mmengine's ``ClassBalancedDataset`` draws each image in a pass.

    Example::

        >>> shown = np.array([[True, k == 0] for k in range(40)])
        >>> times_drawn(shown)[:3].tolist()  # the root of 0.1 / 0.025 is 2
        [2, 1, 1]

    Args:
        presence (np.ndarray): Which image shows which class that counts, shape (N, C),
            bool.

    Returns:
        np.ndarray: Shape (N, ), int64: by the rarest class of the image the root of
        ``RARE_SHARE`` over the share of the images that show it, rounded up.
    """
    shares = np.maximum(presence.mean(axis=0), 1 / len(presence))
    factors = np.sqrt(np.maximum(RARE_SHARE / shares, 1.0))
    most = np.where(presence, factors, 1.0).max(axis=1, initial=1.0)
    return np.ceil(most).astype(np.int64)


def find_rare(names: Sequence[str], num_images: np.ndarray, total: int) -> Fitted:
    """Find the classes whose images are to be drawn more often.

    Args:
        names (Sequence[str]): Names of the C classes.
        num_images (np.ndarray): Images that show each, shape (C, ).
        total (int): Number of images.

    Returns:
        Fitted: Labels of those that few images show; not of those of which there are
        too few examples to learn from.
    """
    few = [k for k, n in enumerate(num_images) if 0 < n / total < RARE_SHARE]
    rare = [k for k in few if num_images[k] >= LEAST_IMAGES_TO_REPEAT]

    def listed(labels: list[int]) -> str:
        return ', '.join(f'{names[k]} ({num_images[k]})' for k in labels)

    reason = (
        f'Shown by fewer than {RARE_SHARE:.0%} of the {total} images: '
        f'{listed(rare) or "none"}.'
    )
    if len(rare) < len(few):
        reason += (
            f' Fewer than {LEAST_IMAGES_TO_REPEAT} show '
            f'{listed([k for k in few if k not in rare])}: they are not drawn more '
            'often, so as not to be learnt by heart.'
        )
    return Fitted(rare, reason)
