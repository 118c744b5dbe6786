"""Figures that several sections share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.intervals import Labels
from toolkit.metrics import Probabilities, class_scores, confusion

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Photos of about the same confidence: their mean confidence, accuracy and number."""

    confidence: float
    accuracy: float
    photos: int


@dataclass(frozen=True)
class ClassFigures:
    """One class: its name, photos, precision, recall and F1."""

    name: str
    photos: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Mistakes:
    """Which classes are taken for which.

    Attributes:
        classes: Names in class order.
        counts: Rows true, columns predicted.
        shares: The same, by the photos of each true class.
        rows: Figures by class.
        pairs: True class, predicted class and photos of the most frequent mistakes.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    rows: tuple[ClassFigures, ...]
    pairs: tuple[tuple[str, str, int], ...]


def mistakes(predicted: Labels, labels: Labels, classes: Sequence[str], most: int = 12) -> Mistakes:
    """Count which classes are taken for which.

    Args:
        predicted: Shape (photos,), class indices.
        labels: Shape (photos,), the true ones.
        classes: Names in class order.
        most: Pairs of classes to name.
    """
    counts = confusion(predicted, labels, len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(place, wrong.shape) for place in order]
    return Mistakes(
        classes=tuple(classes),
        counts=tuple(tuple(row) for row in counts.tolist()),
        shares=tuple(tuple(row) for row in shares.tolist()),
        rows=tuple(
            ClassFigures(name, row.photos, row.precision, row.recall, row.f1)
            for name, row in zip(
                classes, class_scores(predicted, labels, len(classes)), strict=True
            )
        ),
        pairs=tuple((classes[i], classes[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]),
    )


def reliability(probabilities: Probabilities, labels: Labels) -> tuple[ReliabilityBin, ...]:
    """Return accuracy by confidence, in bins of a tenth; empty bins are left out.

    Args:
        probabilities: Shape (photos, classes).
        labels: Shape (photos,), class indices.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right: NDArray[np.bool_] = probabilities.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return tuple(
        ReliabilityBin(
            float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum())
        )
        for number in range(BINS)
        if (inside := which == number).any()
    )
