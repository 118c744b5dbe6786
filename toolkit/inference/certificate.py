"""The certificate of a job: what is guaranteed of its labels, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.inference.guarantee import Guarantee, accepted, choose_sample, p_values
from toolkit.inference.plan import CascadePlan, PlanSearch, ThresholdSet

Certify = Literal["test", "off"]

FULL = "every label is the full ensemble's"


@dataclass(frozen=True)
class Certificate:
    """What a guarantee rests on.

    Attributes:
        kind: `test` (a sample of the photos predicted) or `off`.
        photos: That are predicted.
        allowed: Labels that may differ from the full ensemble's.
        confidence: That no more do.
        sample: Photos it was certified on.
        disagreements: Found there, by threshold set.
        p_values: By threshold set.
        accepted: Number of the threshold set that photos exit by, from 1; 0 where none do.
        reason: Why none do, where that is so; else empty.
    """

    kind: Certify
    photos: int
    allowed: int
    confidence: float
    sample: int
    disagreements: tuple[int, ...]
    p_values: tuple[float, ...]
    accepted: int
    reason: str = ""

    @property
    def guarantee(self) -> str:
        """What is guaranteed, in words."""
        if not self.accepted:
            return f"{FULL} ({self.reason})" if self.reason else FULL
        if self.kind == "off":
            return "none: nothing was certified"
        return (
            f"at most {self.allowed} of {self.photos} labels differ from the full ensemble's, "
            f"with {100 * self.confidence:g}% confidence (certified on {self.sample} of these "
            "photos, drawn at random)"
        )


def sample_size(plan: CascadePlan, photos: int, certify: Certify) -> int:
    """Return how many of the photos to predict are to be certified on; 0 for none.

    Everything that the choice rests on was known before anything is predicted.
    """
    search = plan.search
    if certify != "test" or search is None or not plan.threshold_sets:
        return 0
    return choose_sample(
        photos,
        _guarantee(search),
        [each.risk for each in plan.threshold_sets],
        search.photos,
        [each.ms for each in plan.threshold_sets],
        search.settled_ms,
        search.full_ms,
    ).size


def mean_ms(plan: CascadePlan, chosen: ThresholdSet, photos: int, sample: int) -> float:
    """Return the expected inference cost a photo of a whole job, its certificate included.

    Args:
        plan: One that was searched.
        chosen: The threshold set that is accepted.
        photos: All that are predicted.
        sample: Of them get the full ensemble, and are tried with the threshold sets.
    """
    assert plan.search is not None
    certificate = plan.search.full_ms + plan.threshold_sets[0].ms
    return (sample * certificate + (photos - sample) * chosen.ms) / photos


def fallback_ms(plan: CascadePlan, photos: int, sample: int) -> float:
    """Return the inference cost a photo of a whole job of which no threshold set is accepted.

    Args:
        plan: One that was searched.
        photos: All that are predicted.
        sample: Of them get the full ensemble, and are tried with the threshold sets in vain.
    """
    assert plan.search is not None
    settled_ms = plan.search.settled_ms
    if not sample:
        return settled_ms
    tried = plan.search.full_ms + plan.threshold_sets[0].ms
    return (sample * tried + (photos - sample) * settled_ms) / photos


def label_exact_from_the_start(
    plan: CascadePlan, photos: int, certify: Certify, sample: int
) -> Certificate | None:
    """Return the certificate of a job that gives the full ensemble's labels whatever its photos.

    Args:
        plan: The plan, with the threshold sets that are within the budget.
        photos: All that are predicted.
        certify: What the guarantee shall rest on.
        sample: As `sample_size` chose it.

    Returns:
        It, with the reason; None where a threshold set may be accepted.
    """
    if plan.threshold_sets and (sample or certify != "test"):
        return None
    if plan.method == "full":
        reason = ""
    elif plan.search is None:
        reason = "calls that could not change it were skipped"
    elif plan.threshold_sets:
        reason = "for so few photos a certificate costs more than it saves"
    else:
        reason = "no cheaper plan was found, or none within the budget"
    return _certificate(plan, photos, certify, reason=reason)


def uncertified(plan: CascadePlan, photos: int) -> Certificate:
    """Choose the most aggressive threshold set that is expected to keep within the tolerance."""
    assert plan.search is not None
    within = [each.risk <= plan.search.tolerance for each in plan.threshold_sets]
    chosen = within.index(False) if False in within else len(within)
    reason = "" if chosen else "no cheaper plan is expected to keep within the tolerance"
    return _certificate(plan, photos, "off", chosen=chosen, reason=reason)


def certify_by_sample(plan: CascadePlan, photos: int, differs: NDArray[np.int64]) -> Certificate:
    """Certify a plan on a sample of the photos that are predicted.

    Args:
        plan: The plan.
        photos: All that are predicted.
        differs: With which threshold sets a photo of the sample gets another label than the full
            ensemble's, shape (sample,): bit n tells of set n.
    """
    assert plan.search is not None
    guarantee, sample = _guarantee(plan.search), len(differs)
    sets = np.arange(len(plan.threshold_sets))
    found = (differs[:, None] >> sets & 1).sum(axis=0)
    values = p_values(photos, guarantee.allowed(photos), sample, found)
    chosen = accepted(values, guarantee.confidence)
    return _certificate(
        plan,
        photos,
        "test",
        sample=sample,
        disagreements=tuple(found.tolist()),
        p_values=tuple(values.tolist()),
        chosen=chosen,
        reason="" if chosen else f"no plan passed on {sample} of these photos",
    )


def _certificate(
    plan: CascadePlan,
    photos: int,
    kind: Certify,
    *,
    sample: int = 0,
    disagreements: tuple[int, ...] = (),
    p_values: tuple[float, ...] = (),
    chosen: int = 0,
    reason: str,
) -> Certificate:
    allowed, confidence = 0, 1.0
    if plan.search:
        allowed, confidence = _guarantee(plan.search).allowed(photos), plan.search.confidence
    return Certificate(
        kind, photos, allowed, confidence, sample, disagreements, p_values, chosen, reason
    )


def _guarantee(search: PlanSearch) -> Guarantee:
    return Guarantee(search.tolerance, search.confidence)
