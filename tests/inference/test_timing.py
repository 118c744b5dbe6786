"""Percentiles that are true, and kept back where too few samples carry them."""

from __future__ import annotations

from time import perf_counter, sleep

import numpy as np
import pytest

from toolkit.inference.timing import (
    SAMPLES_FOR_P90,
    SAMPLES_FOR_P99,
    Timings,
    milliseconds_since,
    percentiles,
)


@pytest.mark.parametrize(("share", "fewest"), [(0.90, SAMPLES_FOR_P90), (0.99, SAMPLES_FOR_P99)])
def test_the_fewest_samples_are_those_that_reach_beyond_with_99_percent(
    share: float, fewest: int
) -> None:
    """All of n samples lie below the percentile with probability share ** n."""
    assert next(n for n in range(1, 10_000) if 1 - share**n >= 0.99) == fewest


@pytest.mark.parametrize(
    ("count", "told"), [(1, "p50"), (43, "p50"), (44, "p90"), (458, "p90"), (459, "p99")]
)
def test_a_percentile_that_the_samples_cannot_carry_is_none(count: int, told: str) -> None:
    summary = percentiles(list(range(count)))
    known = [key for key in ("p50", "p90", "p99") if summary[key] is not None]
    assert known[-1] == told
    assert summary["n"] == count
    assert summary["short_run"] == (count < 459)


def test_percentiles_are_of_the_samples_themselves() -> None:
    samples = np.random.default_rng(0).lognormal(size=700).tolist()
    summary = percentiles(samples)
    in_order = sorted(samples)
    for key, share in {"p50": 0.5, "p90": 0.9, "p99": 0.99}.items():
        place = share * 699
        low, high = in_order[int(place)], in_order[int(place) + 1]
        assert summary[key] == pytest.approx(low + (place % 1) * (high - low), abs=1e-4)


def test_no_samples_have_no_percentile() -> None:
    assert percentiles([]) == {"n": 0, "p50": None, "p90": None, "p99": None, "short_run": True}


def test_every_sample_is_kept_in_milliseconds() -> None:
    timings = Timings()
    for _ in range(3):
        with timings.measured("nap"):
            sleep(0.01)
    timings.add("nap", 5.0)
    naps = timings.samples["nap"]
    assert len(naps) == 4
    assert all(10 <= nap < 5000 for nap in naps[:3])
    assert naps[3] == 5.0


def test_milliseconds_since_counts_from_the_given_moment() -> None:
    started = perf_counter() - 2
    assert 2000 <= milliseconds_since(started) < 60_000
