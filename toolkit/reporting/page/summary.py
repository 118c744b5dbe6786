"""What came out and what it cost, in plain words, for the end of a terminal's output."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.reporting.page.scored import ScoredSection
from toolkit.reporting.page.sources import Artifacts


def summary(found: Artifacts, scored: ScoredSection | None) -> Iterator[str]:
    """Yield a sentence on the result and one on its cost, as far as both are known.

    Args:
        found: What the page is made from.
        scored: The submission against the truth, where that is known.
    """
    if scored:
        low, high = (100 * bound for bound in scored.interval)
        yield (
            f"{found.submission.path.name if found.submission else 'The submission'} is right on "
            f"{100 * scored.accuracy:.1f} % of {scored.photos:,} photos "
            f"(95 % interval {low:.1f} to {high:.1f}; guessing: {100 / len(found.classes):.1f} %)."
        )
    if scored and scored.gain:
        yield scored.gain.sentence
    latency = found.submission.latency if found.submission else None
    if latency is None:
        return
    milliseconds, rate = latency.inference.ms_a_photo, latency.end_to_end.photos_per_second
    if milliseconds is not None and rate is not None:
        yield (
            f"One photo cost {milliseconds:.0f} ms of model calls on {latency.device}; from "
            f"file to answer {rate:.1f} photos a second."
        )
