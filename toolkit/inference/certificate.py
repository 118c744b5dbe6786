"""The certificate of a fast plan: what is promised of its labels, and what the promise rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.inference.bundle import BundleValidation, load_validation
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.evidence import Evidence, carry_out, gather
from toolkit.inference.plan import Candidate, Plan
from toolkit.inference.promise import (
    Promise,
    accepted,
    choose_sample,
    exchangeable_p_values,
    p_values,
)

Certify = Literal["test", "validation", "off"]

HELD_BACK = 0.5
"""Share of the held-out photos that plan nothing, where the promise rests on them."""


@dataclass(frozen=True)
class Certificate:
    """What a promise rests on.

    Attributes:
        kind: `test` (a sample of the photos predicted), `validation` (held-out photos that chose
            no step and no threshold, which the photos predicted are assumed to be like) or `off`.
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
        basis = (
            f"certified on {self.sample} of these photos, drawn at random"
            if self.kind == "test"
            else f"certified on {self.sample} held-out photos, which these are assumed to be like"
        )
        return (
            f"at most {self.allowed} of {self.photos} labels differ from the exact ensemble's, "
            f"with {100 * self.confidence:g}% confidence ({basis})"
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


def certify_by_validation(ensemble: Ensemble, plan: Plan, photos: int) -> Certificate:
    """Certify a plan on the held-out photos that were not planned with.

    Raises:
        ToolkitError: The plan was made on all of them.
    """
    bundle, validation = ensemble.bundle, load_validation(ensemble.bundle)
    kept = held_back(validation)
    if plan.photos != int((~kept).sum()):
        raise ToolkitError(
            "--certify validation: the plan was made on all held-out photos, so none is left to "
            "certify it on. Make it with 'toolkit plan --certify validation'."
        )
    costs = {(name, precision): ms for name, precision, ms in _costs(plan)}
    part = part_of(validation, kept)
    evidence = gather(bundle, part, ensemble.voting, plan.views, costs)
    found = [_disagreements(evidence, plan, each.thresholds) for each in plan.candidates]
    allowed = Promise(plan.tolerance, plan.confidence).allowed(photos)
    values = exchangeable_p_values(photos, allowed, len(part.labels), found)
    shipped = accepted(values, plan.confidence)
    return Certificate(
        "validation",
        photos,
        allowed,
        plan.confidence,
        len(part.labels),
        tuple(found),
        tuple(values.tolist()),
        shipped,
        "" if shipped else f"no plan passed on {len(part.labels)} held-out photos",
    )


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


def _costs(plan: Plan) -> Iterator[tuple[str, str, float]]:
    for name, ms in plan.costs.items():
        member, precision = name.rsplit(" ", 1)
        yield member, precision, ms


def held_back(validation: BundleValidation) -> NDArray[np.bool_]:
    """Return which held-out photos plan nothing, shape (photos,); groups stay on one side."""
    _, group = np.unique(validation.groups, return_inverse=True)
    drawn = np.random.default_rng(0).permutation(int(group.max()) + 1)
    kept: NDArray[np.bool_] = drawn[group] < HELD_BACK * len(drawn)
    return kept


def part_of(validation: BundleValidation, chosen: NDArray[np.bool_]) -> BundleValidation:
    """Return a part of the held-out photos, chosen by shape (photos,)."""
    return BundleValidation(
        validation.ids[chosen],
        validation.labels[chosen],
        validation.groups[chosen],
        validation.probabilities[:, chosen],
        {key: answers[chosen] for key, answers in validation.variants.items()},
    )


def _disagreements(evidence: Evidence, plan: Plan, thresholds: tuple[float, ...]) -> int:
    done = carry_out(evidence, plan.steps, thresholds)
    return int((done.answers.argmax(axis=1) != evidence.exact.argmax(axis=1)).sum())
