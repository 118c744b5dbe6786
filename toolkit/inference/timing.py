"""Raw samples of what took how long, and percentiles that the samples can carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from toolkit.inference.calls import ModelKey

SAMPLES_FOR_P90, SAMPLES_FOR_P99 = 44, 459
"""Fewest samples of which, with 99 % confidence, one lies beyond the percentile."""


@dataclass
class Timings:
    """Milliseconds by what was done; every sample is kept.

    Attributes:
        load: Loading, by member and precision.
        first: The first run, likewise; slower than the later ones, so reported apart.
        samples: Everything else.
        inference_ms: Time in the networks altogether, decoding and views left out.
        calls: Images that networks looked at.
    """

    load: dict[ModelKey, float] = field(default_factory=dict)
    first: dict[ModelKey, float] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    inference_ms: float = 0.0
    calls: int = 0

    def add(self, work: str, milliseconds: float) -> None:
        """Keep one sample."""
        self.samples.setdefault(work, []).append(milliseconds)

    def add_run(self, key: ModelKey, milliseconds: float, images: int) -> None:
        """Keep what a run took; a sample is the time of one of its images.

        Args:
            key: Member and precision.
            milliseconds: Of the whole run.
            images: That the time is shared by.
        """
        self.inference_ms += milliseconds
        self.calls += images
        if key in self.first:
            self.add(f"model {key}", milliseconds / images)
        else:
            self.first[key] = milliseconds

    @contextmanager
    def measured(self, work: str) -> Iterator[None]:
        """Time the block as one sample."""
        started = perf_counter()
        yield
        self.add(work, milliseconds_since(started))


def milliseconds_since(started: float) -> float:
    """Return the milliseconds since a `time.perf_counter()`."""
    return 1e3 * (perf_counter() - started)


def percentiles(samples: Sequence[float]) -> dict[str, Any]:
    """Summarise samples.

    Args:
        samples: In milliseconds.

    Returns:
        `n`, `p50`, `p90`, `p99` and `short_run`; a percentile that so few samples cannot carry is
        None.
    """
    count = len(samples)

    def percentile(share: float, fewest: int) -> float | None:
        return round(float(np.percentile(samples, share)), 4) if count >= fewest else None

    return {
        "n": count,
        "p50": percentile(50, 1),
        "p90": percentile(90, SAMPLES_FOR_P90),
        "p99": percentile(99, SAMPLES_FOR_P99),
        "short_run": count < SAMPLES_FOR_P99,
    }
