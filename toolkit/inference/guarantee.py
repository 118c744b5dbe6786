"""The guarantee of a cascade: at most so many labels differ from the full ensemble's.

It is certified on a random sample of the very photos that are predicted, so it holds whatever the
drift between training and test. Threshold sets stand in a fixed order, from conservative to
aggressive; the walk along them stops at the first that fails (fixed-sequence testing, as in learn
then test, arXiv 2110.01052), so trying several costs no confidence.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma, hypergeom

DRAWS = 400
"""Draws of how often threshold sets disagree, to price a sample size."""

SAMPLE_SIZES = 24
"""Sample sizes that are priced."""


@dataclass(frozen=True)
class Guarantee:
    """What holds for the labels that are written.

    Attributes:
        tolerance: Largest share of labels that may differ from the full ensemble's.
        confidence: Probability, over the draw of the sample, that it holds.
    """

    tolerance: float
    confidence: float

    def allowed(self, photos: int) -> int:
        """Return how many of `photos` labels may differ."""
        # A product such as 0.01 * 300 may come out just below the whole number that it is.
        return math.floor(self.tolerance * photos + 1e-9)


def p_values(
    photos: int, allowed: int, sample: int, disagreements: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how likely so few disagreements are where one more than allowed is among the photos.

    Args:
        photos: All that are predicted.
        allowed: Of them may disagree.
        sample: Of them were drawn without replacement.
        disagreements: Found in the sample, numbers of any shape, the last axis
            for threshold sets.

    Returns:
        P(Hypergeometric(photos, allowed + 1, sample) <= disagreements), of the same shape.
    """
    numbers, places = np.unique(np.asarray(disagreements), return_inverse=True)
    chances = hypergeom.cdf(numbers, photos, min(allowed + 1, photos), sample)
    return np.asarray(chances, dtype=np.float64)[places].reshape(np.shape(disagreements))


def accepted(values: NDArray[np.float64], confidence: float) -> int:
    """Walk along the threshold sets and return how many pass before the first that fails."""
    failing = np.flatnonzero(values > 1 - confidence)
    return int(failing[0]) if len(failing) else len(values)


def draw_sample(photos: int, size: int, seed: int) -> NDArray[np.int64]:
    """Draw the numbers of `size` of `photos` photos without replacement, in rising order."""
    return np.sort(np.random.default_rng([seed, photos, size]).permutation(photos)[:size])


@dataclass(frozen=True)
class SampleChoice:
    """How many photos to certify on.

    Attributes:
        size: The sample's size; 0 where label-exact is cheaper than any certificate.
        expected_cost: Of the whole job, the chance of rejection priced in.
    """

    size: int
    expected_cost: float


def choose_sample(
    photos: int,
    guarantee: Guarantee,
    risks: Sequence[float],
    known: int,
    costs: Sequence[float],
    settled_cost: float,
    full_cost: float,
    seed: int = 0,
) -> SampleChoice:
    """Choose the sample size of least expected cost.

    How often threshold sets really disagree is drawn around what the planner expects, as a rate
    that was estimated from `known` photos; an unlucky draw is unlucky for every set, and a photo on
    which a conservative set disagrees is one on which an aggressive one does.

    Args:
        photos: All that are predicted.
        guarantee: What shall hold.
        risks: Expected share of photos on which each set disagrees, conservative ones first.
        known: Photos that the risks were estimated from.
        costs: Expected cost a photo of each set.
        settled_cost: Cost a photo of the full ensemble's label alone.
        full_cost: Cost a photo of the full ensemble, which the sample gets.
        seed: Of the draws.

    Returns:
        The choice. Trying the threshold sets on the sample is counted at the first one's cost.
    """
    allowed = guarantee.allowed(photos)
    best = SampleChoice(0, photos * settled_cost)
    fewest = _fewest(photos, allowed, guarantee.confidence)
    if not len(costs) or fewest >= photos:
        return best
    generator = np.random.default_rng(seed)
    expected = np.maximum.accumulate(np.asarray(risks, dtype=np.float64))
    shape = 1 + known * expected
    rates = np.minimum(gamma.ppf(generator.random((DRAWS, 1)), shape) * expected / shape, 1.0)
    steps = np.diff(rates, axis=1, prepend=0.0).clip(0)
    cost_when = np.array([settled_cost, *costs])
    for size in np.unique(np.geomspace(fewest, photos - 1, SAMPLE_SIZES).astype(int)):
        found = generator.binomial(size, steps.clip(0, 1)).cumsum(axis=1)
        passing = found <= _most_disagreements(photos, allowed, int(size), guarantee.confidence)
        shipped = np.cumprod(passing, axis=1).sum(axis=1)
        cost = size * (full_cost + costs[0]) + (photos - size) * cost_when[shipped].mean()
        if cost < best.expected_cost:
            best = SampleChoice(int(size), float(cost))
    return best


@cache
def _fewest(photos: int, allowed: int, confidence: float) -> int:
    """Return the smallest sample that can certify anything: one without a disagreement."""
    return bisect_left(
        range(photos),
        True,
        lo=1,
        key=lambda size: bool(p_values(photos, allowed, size, [0])[0] <= 1 - confidence),
    )


@cache
def _most_disagreements(photos: int, allowed: int, sample: int, confidence: float) -> int:
    """Return how many disagreements in the sample still pass; -1 where none does."""
    fewest_failing = bisect_left(
        range(min(allowed + 1, sample) + 1),
        True,
        key=lambda found: bool(p_values(photos, allowed, sample, [found])[0] > 1 - confidence),
    )
    return fewest_failing - 1
