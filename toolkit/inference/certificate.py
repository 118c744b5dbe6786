"""The certificate of a fast plan: what is promised of its labels, and what the promise rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.inference.plan import Candidate, Plan
from toolkit.inference.promise import (
    Promise,
    accepted,
    choose_sample,
    p_values,
)

Certify = Literal["test", "off"]


@dataclass(frozen=True)
class Certificate:
    """What a promise rests on.

    Attributes:
        kind: `test` (a sample of the photos predicted) or `off`.
        photos: That are predicted.
        allowed: Labels that may differ from the exact ensemble's.
        confidence: That no more do.
        sample: Photos it was certified on.
        disagreements: Found there, by candidate plan.
        p_values: By candidate plan.
        shipped: Number of the candidate that was accepted last, from 1; 0 for the exact ensemble.
        reason: Why the exact ensemble, where it is; else empty.
    """

    kind: Certify
    photos: int
    allowed: int
    confidence: float
    sample: int
    disagreements: tuple[int, ...]
    p_values: tuple[float, ...]
    shipped: int
    reason: str = ""

    @property
    def promise(self) -> str:
        """What is promised, in words."""
        if not self.shipped:
            return f"every label is the exact ensemble's ({self.reason})"
        if self.kind == "off":
            return "none: nothing was certified"
        return (
            f"at most {self.allowed} of {self.photos} labels differ from the exact ensemble's, "
            f"with {100 * self.confidence:g}% confidence (certified on {self.sample} of these "
            "photos, drawn at random)"
        )


def sample_size(plan: Plan, photos: int, certify: Certify) -> int:
    """Return how many of the photos to predict are to be certified on; 0 for none.

    Everything that the choice rests on was known before any exact answer is.
    """
    if certify != "test" or not plan.candidates:
        return 0
    return choose_sample(
        photos,
        Promise(plan.tolerance, plan.confidence),
        [candidate.figures["risk"] for candidate in plan.candidates],
        plan.photos,
        [candidate.figures["ms"] for candidate in plan.candidates],
        plan.settled_ms,
    ).size


def mean_ms(plan: Plan, candidate: Candidate, photos: int, sample: int) -> float:
    """Return the expected inference cost a photo of a whole job, its certificate included.

    Args:
        plan: The plan.
        candidate: The one of its candidates that is accepted.
        photos: All that are predicted.
        sample: Of them get their exact label, and are answered by the most conservative candidate.
    """
    certificate = plan.settled_ms + float(plan.candidates[0].figures["ms"])
    rest = float(candidate.figures["ms"])
    return (sample * certificate + (photos - sample) * rest) / photos


def fallback_ms(plan: Plan, photos: int, sample: int) -> float:
    """Return the inference cost a photo of a whole job of which no candidate is accepted.

    Args:
        plan: The plan.
        photos: All that are predicted by their exact labels.
        sample: Of them are answered by the most conservative candidate too, in vain.
    """
    tried = sample * float(plan.candidates[0].figures["ms"]) if sample else 0.0
    return plan.settled_ms + tried / photos


def exact_from_the_start(
    plan: Plan, photos: int, certify: Certify, sample: int
) -> Certificate | None:
    """Return the certificate of a job that gives exact labels whatever its photos are.

    Args:
        plan: The plan, with the candidates that are within the budget.
        photos: All that are predicted.
        certify: What the promise shall rest on.
        sample: As `sample_size` chose it.

    Returns:
        It, with the reason; None where a candidate may be shipped.
    """
    if plan.candidates and (sample or certify != "test"):
        return None
    if not plan.photos:
        reason = "runs that could not change it were skipped"
    elif plan.candidates:
        reason = "for so few photos a certificate costs more than it saves"
    elif plan.steps:
        reason = "no plan is within the budget"
    else:
        reason = "nothing cheaper was found"
    allowed = Promise(plan.tolerance, plan.confidence).allowed(photos)
    return Certificate(certify, photos, allowed, plan.confidence, 0, (), (), 0, reason)


def uncertified(plan: Plan, photos: int) -> Certificate:
    """Choose the boldest candidate that is expected to keep within the tolerance."""
    within = [candidate.figures["risk"] <= plan.tolerance for candidate in plan.candidates]
    shipped = within.index(False) if False in within else len(within)
    promise = Promise(plan.tolerance, plan.confidence)
    reason = "" if shipped else "no cheaper plan is expected to keep within the tolerance"
    return Certificate(
        "off", photos, promise.allowed(photos), plan.confidence, 0, (), (), shipped, reason
    )


def certify_by_sample(
    plan: Plan, request_photos: int, exact: NDArray[np.int64], candidates: NDArray[np.int64]
) -> Certificate:
    """Certify a plan on a sample of the photos that are predicted.

    Args:
        plan: The plan.
        request_photos: All that are predicted.
        exact: The exact ensemble's labels of the sample, shape (sample,).
        candidates: The candidates' labels, shape (candidates, sample).
    """
    promise = Promise(plan.tolerance, plan.confidence)
    allowed = promise.allowed(request_photos)
    found = (candidates != exact).sum(axis=1)
    values = p_values(request_photos, allowed, len(exact), found)
    shipped = accepted(values, plan.confidence)
    return Certificate(
        "test",
        request_photos,
        allowed,
        plan.confidence,
        len(exact),
        tuple(int(each) for each in found),
        tuple(values.tolist()),
        shipped,
        "" if shipped else f"no plan passed on {len(exact)} of these photos",
    )
