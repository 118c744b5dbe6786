"""How good lists of labels are, as competitions score them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.intervals import Interval, Labels, mean_interval


@dataclass(frozen=True)
class Ranking:
    """How good lists of labels are, the best of each first.

    Attributes:
        length: Labels in the longest list.
        mean_precision: Mean average precision at that length (MAP@k): of one true label each, the
            mean of 1 / its place in the list, 0 where it is missing.
        interval: 95 %, of a mean; None for a single photo.
        found: Share of photos whose label is in the list.
    """

    length: int
    mean_precision: float
    interval: Interval | None
    found: float


def ranking(ranked: Labels, labels: Labels) -> Ranking:
    """Score lists of labels.

    Args:
        ranked: Shape (photos, k), class indices, best first, -1 where a list is shorter.
        labels: Shape (photos,), the true ones.
    """
    hits = ranked == labels[:, None]
    found = hits.any(axis=1)
    precisions = np.where(found, 1 / (hits.argmax(axis=1) + 1), 0.0)
    return Ranking(
        ranked.shape[1],
        float(precisions.mean()),
        mean_interval(precisions),
        float(found.mean()),
    )
