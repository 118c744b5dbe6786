"""Measures a bundle by itself, in the manner of MLPerf inference (Reddi et al. 2020).

Single-stream sends one photo after another and reports the 90th percentile of latency; offline
has all photos at hand and reports throughput. Out of scope: MLPerf's own data sets, accuracy
targets, and its ten minutes a scenario.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

from toolkit.inference.ensemble import Ensemble
from toolkit.inference.timing import milliseconds_since
from toolkit.progress import SILENT, Reporter

WARM_UP = 2
"""Batches (offline) or photos (single-stream) before the clock starts."""


@dataclass(frozen=True)
class BenchResult:
    """Raw samples of one scenario.

    Attributes:
        scenario: `single-stream` or `offline`.
        photos: How many were measured.
        seconds: How long that took.
        latencies_ms: Of each photo (single-stream), or of each batch (offline).
    """

    scenario: str
    photos: int
    seconds: float
    latencies_ms: list[float]

    @property
    def photos_per_second(self) -> float:
        """Throughput."""
        return self.photos / self.seconds


def single_stream(
    ensemble: Ensemble, photos: Sequence[Path], queries: int, reporter: Reporter = SILENT
) -> BenchResult:
    """Send one photo at a time, each from file to vote.

    Args:
        ensemble: Loaded with a batch of 1.
        photos: Taken in turn.
        queries: How many to send.
    """
    latencies: list[float] = []
    for photo in islice(cycle(photos), WARM_UP):
        ensemble.predict([photo])
    begun = perf_counter()
    with reporter.track("single-stream", queries) as advance:
        for photo in islice(cycle(photos), queries):
            started = perf_counter()
            ensemble.predict([photo])
            latencies.append(milliseconds_since(started))
            advance(1)
    return BenchResult("single-stream", queries, perf_counter() - begun, latencies)


def offline(
    ensemble: Ensemble, photos: Sequence[Path], count: int, batch: int, reporter: Reporter = SILENT
) -> BenchResult:
    """Predict many photos as fast as they go.

    Args:
        ensemble: Loaded.
        photos: Taken in turn.
        count: How many to predict.
        batch: Photos a batch, for the warm-up.
    """
    ensemble.predict(list(islice(cycle(photos), WARM_UP * batch)))
    latencies: list[float] = []
    begun = last = perf_counter()
    with reporter.track("offline", count) as advance:
        for answer in ensemble.answers(list(islice(cycle(photos), count))):
            latencies.append(milliseconds_since(last))
            last = perf_counter()
            for error in answer.broken.values():
                raise error  # A photo that is not predicted would make the rest look faster.
            advance(len(answer.probabilities))
    return BenchResult("offline", count, perf_counter() - begun, latencies)
