# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Splitting a data set in two such that both parts show every class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .equal_pictures import group_alike, group_equal

TRAIN, VAL = 0, 1


def split_pictures(
    presence: np.ndarray,
    digests: Sequence[str],
    thumbnails: np.ndarray,
    fraction: float,
    seed: int = 0,
) -> np.ndarray:
    """Choose images for validation, such that pictures do not give each other away.

    Equal pictures are on one side. Pictures that look alike are, too, unless the share
    of the validation would only then be wrong by more than a half (of the smaller
    share, and by more than one image): before a fixed camera all look alike.

    Args:
        presence (np.ndarray): Which image shows which class, shape (N, C), bool.
        digests (Sequence[str]): Hash of every picture.
        thumbnails (np.ndarray): Thumbnail of every image, shape (N, P), uint8.
        fraction (float): Share of the images that is wanted for validation, above 0
            and below 1.
        seed (int): Seed of the choice. Defaults to 0.

    Returns:
        np.ndarray: Whether an image is for validation, shape (N, ), bool.

    Raises:
        ValueError: If the fraction is out of range, or there are fewer than two
            different pictures.
    """
    is_val = stratified_split(presence, group_equal(digests), fraction, seed)
    groups = group_alike(digests, thumbnails)
    if (groups == groups[0]).all():
        return is_val
    alike_is_val = stratified_split(presence, groups, fraction, seed)
    wanted = fraction * len(groups)
    # Rare classes may want a wrong share anyway.
    bounds = min(wanted, len(groups) - wanted) / 2, 1, abs(is_val.sum() - wanted)
    return alike_is_val if abs(alike_is_val.sum() - wanted) <= max(bounds) else is_val


def stratified_split(
    presence: np.ndarray, groups: np.ndarray, fraction: float, seed: int = 0
) -> np.ndarray:
    """Choose images for validation.

    The rarest class is dealt out first, each group to the part that still needs more
    images of it (Sechidis et al., On the Stratification of Multi-Label Data, 2011);
    groups without any class last. Of a class that two groups show, each part gets one,
    unless a rarer class wants otherwise; the only group of a class is for training.

    Args:
        presence (np.ndarray): Which image shows which class, shape (N, C), bool.
        groups (np.ndarray): Number of the group of every image, shape (N, ), int.
            Images of a group stay together.
        fraction (float): Share of the images that is wanted for validation, above 0
            and below 1.
        seed (int): Seed of the choice. Defaults to 0.

    Returns:
        np.ndarray: Whether an image is for validation, shape (N, ), bool.

    Raises:
        ValueError: If the fraction is out of range, or there are fewer than two
            groups.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f'the share of the images for validation must be above 0 and below 1, got '
            f'{fraction}'
        )
    names, group_of = np.unique(groups, return_inverse=True)
    num_groups = len(names)
    if num_groups < 2:
        count = len(groups)
        what = '1 image' if count == 1 else f'{count} images with the same pixels'
        raise ValueError(
            f'{what} cannot be split: give other images for validation with --val'
        )
    shows = np.zeros((num_groups, presence.shape[1]), dtype=bool)
    np.logical_or.at(shows, group_of, presence)
    # Last a class that every group shows: the number of groups itself.
    shows = np.column_stack([shows, np.ones(num_groups, dtype=bool)])
    counts = shows.sum(axis=0)
    want = np.zeros((2, len(counts)))
    want[VAL] = np.where(counts > 1, np.maximum(fraction * counts, 1), 0)
    want[TRAIN] = counts - want[VAL]
    shuffled = np.random.default_rng(seed).permutation(num_groups)
    part = np.full(num_groups, -1)
    while (part < 0).any():
        left = shows[part < 0].sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, num_groups + 1)))
        members = [g for g in shuffled if part[g] < 0 and shows[g, rarest]]
        for group in members:
            need, overall = want[:, rarest], want[:, -1]
            # By the class; if that is even, by the number of groups.
            side = (
                VAL
                if (need[VAL], overall[VAL]) > (need[TRAIN], overall[TRAIN])
                else TRAIN
            )
            part[group] = side
            want[side] -= shows[group]
    for side in (TRAIN, VAL):
        if not (part == side).any():
            part[shuffled[0]] = side
    return part[group_of] == VAL
