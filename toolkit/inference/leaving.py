"""When a photo may leave a plan: how likely its label is not the exact ensemble's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOPE_DEVIATION = 2.5
"""Of the prior of a slope on standardized margins (Gelman et al. 2008)."""


@dataclass(frozen=True)
class LeavingRule:
    """How likely a label differs from the exact ensemble's, by its margin.

    Attributes:
        intercept: Of the logistic function of the margin.
        slope: Below 0.
    """

    intercept: float
    slope: float

    @classmethod
    def fitted(cls, clear: NDArray[np.float64], differs: NDArray[np.bool_]) -> LeavingRule:
        """Fit to photos.

        The slope on standardized margins has a normal prior (Gelman et al. 2008); half a differing
        and half an agreeing photo, spread over the margins, keep the chance from 0 where no photo
        was seen to differ.

        Args:
            clear: Margins, shape (photos,).
            differs: Whether the label is another than the exact ensemble's, shape (photos,).
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
