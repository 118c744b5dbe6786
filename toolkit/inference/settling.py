"""When the exact ensemble's label is certain before all of its runs are made.

A run moves the weighted sum of probabilities by its weight at most. So where the best class leads
by more than the weight of all runs to come, they cannot change the label, and are skipped. Early
stopping of ensembles (arXiv 1806.11202) finds thresholds that may be wrong; this bound cannot be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from toolkit.inference.plan import Run

SLACK = 1e-5
"""Lead that float32 may have invented: its softmax sums to 1 within about 1e-6."""


def settling_order(
    runs: Iterable[Run], weights: Mapping[str, float], costs: Mapping[str, float]
) -> list[Run]:
    """Return runs in the order of cost by weight: what settles labels for least comes first.

    Args:
        runs: Of the exact ensemble.
        weights: By member.
        costs: Milliseconds an image by `MEMBER PRECISION`.
    """
    return sorted(
        runs,
        key=lambda run: (costs[f"{run.member} {run.precision}"] / weights[run.member], run),
    )


def settled(votes: NDArray[np.float64], to_come: float) -> NDArray[np.bool_]:
    """Return whose label no run to come can change, shape (photos,).

    Args:
        votes: Weighted sums of the probabilities seen, shape (photos, classes).
        to_come: Weight of the runs not made yet; all weights sum to 1.
    """
    best = np.sort(votes, axis=1)[:, -2:]
    certain: NDArray[np.bool_] = best[:, 1] - best[:, 0] > to_come + SLACK
    return certain
