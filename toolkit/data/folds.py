"""Which photos each fold of a cross-validation holds out."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

OUTSIDE = -1
"""In place of a fold's number where a photo is outside all folds."""


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
    numbers = np.empty(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Classes of fewer photos than folds: our caller counts them.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
            numbers[held_out] = number
    for label in concentrated(labels, numbers):
        own = labels == label
        fold = numbers[own][0]
        parts, sizes = np.unique(groups[own], return_counts=True)
        if len(parts) > 1:
            counts = np.bincount(numbers, minlength=folds)
            counts[fold] = len(labels) + 1
            numbers[groups == parts[sizes.argmin()]] = counts.argmin()
    return numbers


def concentrated(labels: NDArray[np.int64], numbers: NDArray[np.int64]) -> list[int]:
    """Return the classes all of whose photos one fold holds out."""
    return [
        int(label) for label in np.unique(labels) if len(np.unique(numbers[labels == label])) == 1
    ]
