"""Folds: stratified, seeded, groups whole, and every class left with training photos."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.data.folds import concentrated, fold_numbers

Labels = NDArray[np.int64]


def cars_like_labels() -> Labels:
    sizes = np.linspace(77, 210, 10).astype(int)
    return np.random.default_rng(0).permutation(np.repeat(np.arange(10), sizes))


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_each_fold_holds_out_the_same_share_of_each_class(folds: int) -> None:
    labels = cars_like_labels()
    numbers = fold_numbers(labels, np.arange(len(labels)), folds, seed=42)
    counts = np.array([np.bincount(labels[numbers == fold]) for fold in range(folds)])
    assert np.array_equal(counts.sum(axis=0), np.bincount(labels))
    assert np.abs(counts - np.bincount(labels) / folds).max() <= 1


def test_groups_stay_whole_also_those_of_several_classes() -> None:
    labels = cars_like_labels()
    groups = np.random.default_rng(1).integers(0, 400, len(labels))
    numbers = fold_numbers(labels, groups, 5, seed=42)
    assert set(numbers.tolist()) == set(range(5))
    for group in np.unique(groups):
        assert len(np.unique(numbers[groups == group])) == 1


def test_the_seed_decides_and_decides_alike() -> None:
    labels = cars_like_labels()
    alone = np.arange(len(labels))
    first = fold_numbers(labels, alone, 5, seed=1)
    assert np.array_equal(first, fold_numbers(labels, alone, 5, seed=1))
    assert not np.array_equal(first, fold_numbers(labels, alone, 5, seed=2))


def test_a_class_of_two_groups_is_never_in_one_fold_alone() -> None:
    for seed in range(20):
        labels = np.array([0] * 30 + [1] * 2 + [2] * 7)
        numbers = fold_numbers(labels, np.arange(len(labels)), 5, seed)
        assert concentrated(labels, numbers) == []


def test_a_class_of_one_group_is_found() -> None:
    labels = np.array([0] * 30 + [1] * 3)
    groups = np.append(np.arange(30), [99, 99, 99])
    assert concentrated(labels, fold_numbers(labels, groups, 3, seed=0)) == [1]


@pytest.mark.parametrize("folds", [4, 5, 7])
def test_classes_all_smaller_than_the_folds_are_dealt_evenly(folds: int) -> None:
    labels = np.repeat(np.arange(60), 3)
    numbers = fold_numbers(labels, np.arange(len(labels)), folds, seed=3)
    assert concentrated(labels, numbers) == []
    sizes = np.bincount(numbers, minlength=folds)
    assert sizes.max() - sizes.min() <= 3
