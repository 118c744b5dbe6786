"""Which photos each fold of a cross-validation holds out."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

OUTSIDE = -1
"""In place of a fold's number where a photo is outside all folds."""

ROUNDS = 10
"""How often groups are moved until no class is in one fold alone."""


def fold_numbers(
    labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    """Deal photos to folds: the same share of each class, whole groups only.

    scikit-learn's splitter deals; it may leave all groups of a small class in one fold, of which
    one is then moved to the smallest other fold.

    Args:
        labels: Shape (photos,), class indices.
        groups: Shape (photos,); photos of one group stay in one fold. At least `folds` differ.
        folds: How many, at least 2.
        seed: Decides which photos; independent of the training seed.

    Returns:
        Shape (photos,), the fold that holds each photo out, from 0. A class may still be in one
        fold alone where all its photos are of one group.
    """
    # scikit-learn's own shuffling deals without regard to classes before version 1.8.
    _, numbered = np.unique(groups, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(numbered.max() + 1)[numbered]
    padded, padded_groups = labels, shuffled
    if np.bincount(labels).max() < folds:
        # The splitter refuses data all of whose classes have fewer photos than folds. A class of
        # photos that are not there, one for each fold, is large enough.
        padded = np.concatenate([labels, np.full(folds, labels.max() + 1)])
        padded_groups = np.concatenate([shuffled, shuffled.max() + 1 + np.arange(folds)])
    numbers = np.empty(len(padded), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds)
    with warnings.catch_warnings():
        # Classes of fewer photos than folds: our caller counts them.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(padded, padded, padded_groups)):
            numbers[held_out] = number
    numbers = numbers[: len(labels)]
    for _ in range(ROUNDS):  # What is moved may leave another class in one fold.
        before = numbers.copy()
        for label in concentrated(labels, numbers):
            _spread(labels == label, numbers, groups, folds)
        if np.array_equal(before, numbers):
            break
    return numbers


def _spread(
    own: NDArray[np.bool_], numbers: NDArray[np.int64], groups: NDArray[np.int64], folds: int
) -> None:
    """Move the smallest group of a class to the smallest other fold, if it has several groups."""
    parts, sizes = np.unique(groups[own], return_counts=True)
    if len(parts) > 1:
        counts = np.bincount(numbers, minlength=folds)
        counts[numbers[own][0]] = len(numbers) + 1
        numbers[groups == parts[sizes.argmin()]] = counts.argmin()


def concentrated(labels: NDArray[np.int64], numbers: NDArray[np.int64]) -> list[int]:
    """Return the classes all of whose photos one fold holds out."""
    return [
        int(label) for label in np.unique(labels) if len(np.unique(numbers[labels == label])) == 1
    ]
