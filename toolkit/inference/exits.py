"""When a photo exits before all calls are made: its label is certain, or likely enough.

A call moves the weighted sum of probabilities by its weight at most. So where the best class leads
by more than the weight of all calls to come, they cannot change the label, and are skipped. Early
stopping of ensembles (arXiv 1806.11202) finds thresholds that may be wrong; this bound cannot be.

A plan's step lets photos exit earlier, where a margin makes another label unlikely.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.inference.calls import Costs, ModelCall, Weights, full_calls

SLACK = 1e-5
"""Lead that float32 may have invented: its softmax sums to 1 within about 1e-6."""

SLOPE_DEVIATION = 2.5
"""Of the prior of a slope on standardized margins (Gelman et al. 2008)."""


def settling_steps(
    done: Iterable[ModelCall], weights: Weights, views: int, costs: Costs
) -> tuple[tuple[ModelCall, ...], ...]:
    """Return the full ensemble's other calls, in the order of cost by weight.

    What settles labels for least comes first. Calls that every photo needs, because less than half
    of the votes are in, share the first step; then each is a step of its own.

    Args:
        done: Calls that are made before.
        weights: Of the full ensemble's members.
        views: Views a photo.
        costs: By member and precision.
    """
    made = set(done)
    order = sorted(
        (call for call in full_calls(weights, views) if call not in made),
        key=lambda call: (costs[call.key] / weights[call.key], call),
    )
    seen = sum(weights[call.key] / views for call in made if call.key in weights)
    first: list[ModelCall] = []
    for call in order:
        if seen > 0.5:
            break
        first.append(call)
        seen += weights[call.key] / views
    alone = tuple((call,) for call in order[len(first) :])
    return (tuple(first), *alone) if first else alone


def settled(votes: NDArray[np.float64], to_come: float) -> NDArray[np.bool_]:
    """Return whose label no call to come can change, shape (photos,).

    Args:
        votes: Weighted sums of the probabilities seen, shape (photos, classes).
        to_come: Weight of the calls not made yet; all weights sum to 1.
    """
    best = np.sort(votes, axis=1)[:, -2:]
    certain: NDArray[np.bool_] = best[:, 1] - best[:, 0] > to_come + SLACK
    return certain


@dataclass(frozen=True)
class ExitRule:
    """How likely a label differs from the full ensemble's, by its margin.

    Attributes:
        intercept: Of the logistic function of the margin.
        slope: Below 0.
    """

    intercept: float
    slope: float

    @classmethod
    def fitted(cls, clear: NDArray[np.float64], differs: NDArray[np.bool_]) -> ExitRule:
        """Fit to photos.

        The slope on standardized margins has a normal prior (Gelman et al. 2008); half a differing
        and half an agreeing photo, spread over the margins, keep the chance from 0 where no photo
        was seen to differ.

        Args:
            clear: Margins, shape (photos,).
            differs: Whether the label is another than the full ensemble's, shape (photos,).
        """
        middle, spread = float(clear.mean()), float(clear.std()) or 1.0
        quantiles = np.quantile(clear, (0.1, 0.3, 0.5, 0.7, 0.9))
        margin = (np.concatenate([clear, quantiles, quantiles]) - middle) / spread
        outcome = np.concatenate([differs.astype(np.float64), np.ones(5), np.zeros(5)])
        weight = np.concatenate([np.ones(len(clear)), np.full(10, 0.1)])
        intercept, slope = _logistic(margin, outcome, weight)
        return cls(intercept - slope * middle / spread, slope / spread)

    def threshold(self, risk: float) -> float:
        """Return the margin from which on the chance of another label is at most `risk`."""
        if self.slope >= 0:
            return float("inf")
        return max(0.0, (math.log(risk / (1 - risk)) - self.intercept) / self.slope)

    def risk(self, clear: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the chance of another label for margins of shape (photos,)."""
        return 1 / (1 + np.exp(-np.clip(self.intercept + self.slope * clear, -30, 30)))


def _logistic(
    margin: NDArray[np.float64], outcome: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Return intercept and slope of a logistic regression, by Newton's method."""
    design = np.stack([np.ones_like(margin), margin])
    prior = np.array([0.0, 1 / SLOPE_DEVIATION**2])
    found = np.array([-2.0, -1.0])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(found @ design, -30, 30)))
        gradient = design @ (weight * (outcome - chance)) - prior * found
        curvature = (design * (weight * chance * (1 - chance))) @ design.T + np.diag(prior + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        found = found + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return float(found[0]), float(found[1])
