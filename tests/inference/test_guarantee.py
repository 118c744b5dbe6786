"""The promise is tested against counting by brute force, and over draws whose truth is known."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, hypergeom

from toolkit.inference.guarantee import (
    Guarantee,
    accepted,
    choose_sample,
    draw_sample,
    p_values,
)

DRAWS = 2000
PHOTOS = 2000
GUARANTEE = Guarantee(tolerance=0.01, confidence=0.95)
SAMPLE = 265
"""The smallest in which no disagreement certifies 1 % of 2,000 photos."""


def broken_guarantees(wrong: list[int]) -> int:
    """Count the draws after which too many of the labels that are not in the sample differ.

    Candidate j disagrees on the photos numbered below `wrong[j]`.
    """
    allowed, each = GUARANTEE.allowed(PHOTOS), np.array(wrong)
    drawn = (draw_sample(PHOTOS, SAMPLE, seed) for seed in range(DRAWS))
    found = np.array([np.searchsorted(numbers, each) for numbers in drawn])
    broken = 0
    for row, values in zip(found, p_values(PHOTOS, allowed, SAMPLE, found), strict=True):
        shipped = accepted(values, GUARANTEE.confidence)
        broken += bool(shipped) and each[shipped - 1] - row[shipped - 1] > allowed
    return broken


def test_a_tolerance_allows_whole_photos() -> None:
    assert Guarantee(0.01, 0.95).allowed(649) == 6
    assert Guarantee(0.01, 0.95).allowed(300) == 3
    assert Guarantee(0.01, 0.95).allowed(99) == 0


def test_p_values_are_the_share_of_samples_by_brute_force() -> None:
    photos, allowed, sample = 11, 2, 4
    found = [len({0, 1, 2} & set(drawn)) for drawn in combinations(range(photos), sample)]
    shares = [np.mean(np.array(found) <= most) for most in range(3)]
    assert p_values(photos, allowed, sample, [0, 1, 2]) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("photos", "allowed", "sample"), [(649, 6, 225), (2000, 20, 1990), (9, 0, 9)]
)
def test_p_values_are_scipys(photos: int, allowed: int, sample: int) -> None:
    found = np.arange(min(allowed + 2, sample))
    expected = hypergeom.cdf(found, photos, allowed + 1, sample)
    assert p_values(photos, allowed, sample, found) == pytest.approx(expected, abs=1e-9)


def test_the_walk_stops_at_the_first_that_fails() -> None:
    assert accepted(np.array([0.01, 0.05, 0.2, 0.001]), 0.95) == 2
    assert accepted(np.array([0.3, 0.001]), 0.95) == 0
    assert accepted(np.array([0.01]), 0.95) == 1


def test_a_sample_is_drawn_evenly_and_without_replacement() -> None:
    counts = np.zeros(20)
    for seed in range(3000):
        drawn = draw_sample(20, 5, seed)
        assert len(set(drawn.tolist())) == 5
        counts[drawn] += 1
    assert np.abs(counts / 3000 - 0.25).max() < 0.04


def test_the_promise_is_kept_at_the_boundary_and_not_by_being_timid() -> None:
    broken = broken_guarantees([GUARANTEE.allowed(PHOTOS) + 1])
    assert broken > 0.03 * DRAWS
    assert binomtest(broken, DRAWS, 0.05, alternative="greater").pvalue > 0.01


def test_trying_many_plans_costs_no_confidence() -> None:
    allowed = GUARANTEE.allowed(PHOTOS)
    broken = broken_guarantees([0, 1, 2, 3, 5, 8, allowed + 1, allowed + 9, 3 * allowed])
    assert binomtest(broken, DRAWS, 0.05, alternative="greater").pvalue > 0.01


def test_photos_unlike_the_held_out_ones_keep_the_promise_too() -> None:
    assert broken_guarantees([int(0.03 * PHOTOS)]) <= 0.05 * DRAWS


class TestSampleSize:
    def cost(self, photos: int, risk: float) -> tuple[int, float]:
        choice = choose_sample(photos, GUARANTEE, [risk], 300, [5.0], 100.0, 100.0)
        return choice.size, choice.expected_cost / (photos * 100.0)

    def test_a_small_job_is_cheapest_exactly(self) -> None:
        assert self.cost(60, 0.001) == (0, 1.0)

    def test_a_large_job_costs_little_more_than_the_plan(self) -> None:
        size, share = self.cost(100_000, 0.001)
        assert 290 < size < 5000
        assert 0.05 < share < 0.2

    def test_a_plan_near_the_tolerance_asks_for_a_larger_sample(self) -> None:
        assert self.cost(100_000, 0.004)[0] > 1.5 * self.cost(100_000, 0.0005)[0]

    def test_the_chance_of_rejection_is_priced_in(self) -> None:
        # 0.5 % passes a 1 % test at 299 about one time in five, so a larger sample is worth it.
        assert binom.pmf(0, 299, 0.005) == pytest.approx(0.22, abs=0.01)
        risky, sure = self.cost(10_000, 0.008)[1], self.cost(10_000, 0.0)[1]
        assert sure < 0.1
        assert risky > 2 * sure

    def test_without_candidates_nothing_is_sampled(self) -> None:
        assert choose_sample(10_000, GUARANTEE, [], 300, [], 100.0, 100.0).size == 0
