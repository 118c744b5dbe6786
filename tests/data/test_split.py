"""The validation split: stratified, seeded, and never through a group of near-duplicates."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.data.split import allotted, validation_mask

Labels = NDArray[np.int64]


def cars_like_labels() -> Labels:
    """Ten classes of 77 to 210 photos, mixed."""
    sizes = np.linspace(77, 210, 10).astype(int)
    return np.random.default_rng(0).permutation(np.repeat(np.arange(10), sizes))


def alone(labels: Labels) -> Labels:
    return np.arange(len(labels))


def groups_within_classes(labels: Labels, seed: int) -> Labels:
    """Random groups of mostly one to four photos of a class."""
    generator = np.random.default_rng(seed)
    return labels * 1000 + generator.integers(0, np.bincount(labels)[labels] // 2)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_each_class_gives_the_same_share(fraction: float) -> None:
    labels = cars_like_labels()
    held_out = validation_mask(labels, alone(labels), fraction, seed=42)
    assert held_out.dtype == bool
    wanted = fraction * np.bincount(labels)
    assert np.abs(np.bincount(labels[held_out]) - wanted).max() < 1
    assert held_out.sum() == round(fraction * len(labels))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.4, 0.5])
def test_many_classes_of_two_photos_give_their_share_together(fraction: float) -> None:
    labels = np.repeat(np.arange(1001), [300] + [2] * 1000)
    held_out = validation_mask(labels, alone(labels), fraction, seed=42)
    each = np.bincount(labels[held_out], minlength=1001)
    assert held_out.sum() == round(fraction * len(labels))
    assert each[0] == round(300 * fraction)
    assert each[1:].max() == 1
    # Which classes give a photo is drawn, not taken from the front.
    assert np.histogram(np.flatnonzero(each[1:]), bins=4, range=(0, 1000))[0].min() > 25 * fraction


def test_shares_are_those_of_the_largest_remainders() -> None:
    found = allotted(np.array([10, 3, 4, 1, 0, 2]), 0.3, seed=0)
    # 3.0, 0.9, 1.2, 0.3, 0, 0.6: six of twenty, of which the last two go to 0.9 and 0.6.
    assert found.tolist() == [3, 1, 1, 0, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_patients_of_several_classes_are_held_out_whole_and_in_proportion(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.geometric(0.5, 2000) - 1, 4)
    patients = np.repeat(np.arange(100), 20)
    held_out = validation_mask(labels, patients, 0.2, seed)
    assert not set(patients[held_out]) & set(patients[~held_out])
    assert held_out.mean() == pytest.approx(0.2, abs=0.03)
    shares = np.bincount(labels[held_out]) / np.bincount(labels)
    assert shares == pytest.approx(0.2, abs=0.08)


def test_a_group_stays_on_one_side_and_shares_are_kept() -> None:
    labels = cars_like_labels()
    groups = groups_within_classes(labels, seed=1)
    held_out = validation_mask(labels, groups, 0.2, seed=42)
    assert not set(groups[held_out]) & set(groups[~held_out])
    assert np.abs(np.bincount(labels[held_out]) - 0.2 * np.bincount(labels)).max() <= 1.5


def test_a_group_of_several_classes_stays_on_one_side() -> None:
    labels = cars_like_labels()
    groups = np.random.default_rng(2).integers(0, 900, len(labels))
    held_out = validation_mask(labels, groups, 0.2, seed=42)
    assert held_out.any()
    assert not set(groups[held_out]) & set(groups[~held_out])


def test_the_seed_decides_and_nothing_else() -> None:
    labels = cars_like_labels()
    np.random.seed(1)  # What a training seed sets must not matter.
    first = validation_mask(labels, alone(labels), 0.2, seed=42)
    np.random.seed(2)
    again = validation_mask(labels, alone(labels), 0.2, seed=42)
    other = validation_mask(labels, alone(labels), 0.2, seed=43)
    np.testing.assert_array_equal(first, again)
    # Two independent fifths share a twenty-fifth of all photos.
    assert (first & other).mean() == pytest.approx(0.04, abs=0.015)


def test_the_split_does_not_depend_on_how_groups_are_numbered() -> None:
    labels = cars_like_labels()
    groups = groups_within_classes(labels, seed=3)
    np.testing.assert_array_equal(
        validation_mask(labels, groups, 0.2, seed=42),
        validation_mask(labels, groups * 7 + 5, 0.2, seed=42),
    )


def test_photos_are_taken_from_everywhere_in_the_order() -> None:
    # The original experiment held out the first fifth of each folder.
    labels = np.repeat([0, 1], 500)
    places = np.flatnonzero(validation_mask(labels, alone(labels), 0.2, seed=42)) % 500
    assert np.histogram(places, bins=5, range=(0, 500))[0].min() > 20


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.99])
def test_every_class_keeps_a_training_photo(fraction: float) -> None:
    generator = np.random.default_rng(4)
    for seed in range(200):
        labels = generator.integers(0, 6, 25)
        groups = generator.integers(0, 20, 25)  # Of one class or of several.
        held_out = validation_mask(labels, groups, fraction, seed)
        assert set(labels[~held_out]) == set(labels)
