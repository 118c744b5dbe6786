"""The section on the ensemble: what voting is worth, and where it goes wrong.

Whatever was fitted is judged on photos that it was not fitted on, as `toolkit export` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.exporting.weights import BEST_ALONE, CrossFitted, can_cross_fit, cross_fitting
from toolkit.inference.bundle import Bundle, BundleValidation
from toolkit.inference.manifest import OUT_OF_FOLD
from toolkit.inference.voting import Voting
from toolkit.intervals import Labels, Paired, agreement, paired
from toolkit.metrics import (
    METRICS,
    Metric,
    Probabilities,
    Score,
    calibration_error,
    log_losses,
    score,
)
from toolkit.reporting.page.charts import Chart, reliability_chart
from toolkit.reporting.page.figures import Mistakes, mistakes, reliability

AS_SUBMITTED = "as submitted"
"""Weights that a submission was made with and that are none of the bundle's."""


@dataclass(frozen=True)
class Judged:
    """Every held-out photo with the answer by weights found on others, or those submitted with.

    Attributes:
        voting: Name of the way to weigh.
        metric: What `selected` weights are found for.
        views: Views a photo.
        members: Names.
        labels: Shape (photos,), true class indices.
        each: Shape (members, photos, classes), mean over the views.
        fitted: What each photo was judged with.
        mixed: Shape (photos, classes), before the temperature.
        final: Shape (photos, classes), after it.
    """

    voting: str
    metric: Metric
    views: int
    members: tuple[str, ...]
    labels: NDArray[np.int64]
    each: NDArray[np.float64]
    fitted: CrossFitted
    mixed: NDArray[np.float64]
    final: NDArray[np.float64]


@dataclass(frozen=True)
class Voter:
    """What one member or one way to vote is worth.

    Attributes:
        name: Of the member or of the voting.
        kind: `member`, `best` or `voting`.
        chosen: Whether the ensemble votes so.
        score: On the held-out photos.
        against: Compared with the best single model; None for itself.
    """

    name: str
    kind: str
    chosen: bool
    score: Score
    against: Paired | None


@dataclass(frozen=True)
class Contribution:
    """What a member adds to the ensemble.

    Attributes:
        name: Of the member.
        only_right: Photos that it alone has right.
        only_wrong: Photos that it alone has wrong.
        loss_without: Change of the cross-fitted log-loss when it is left out; None for the last.
        accuracy_without: Change of the accuracy.
    """

    name: str
    only_right: int
    only_wrong: int
    loss_without: float | None
    accuracy_without: float | None


@dataclass(frozen=True)
class EnsembleSection:
    """What the page says of the ensemble.

    Attributes:
        photos: Held-out photos.
        views: Views a photo.
        voters: Members, the best of them, and the ways to vote.
        best: The best single model by cross-validation.
        best_name: Which member that mostly is.
        chosen: The way that the ensemble votes.
        reason: Why that way.
        weights: By way, one a member.
        temperatures: By way.
        members: Names.
        agreements: Share of equal labels, members and last the ensemble.
        contributions: What each member adds; empty where there is one only.
        reliability: Before and after the temperature.
        errors: Calibration error before and after it.
        mistakes: Of the ensemble.
        networks: How many networks the members are.
        note: What the figures do not tell; empty where nothing.
    """

    photos: int
    views: int
    voters: tuple[Voter, ...]
    best: Voter
    best_name: str
    chosen: Voter
    reason: str
    weights: Mapping[str, tuple[float, ...]]
    temperatures: Mapping[str, float]
    members: tuple[str, ...]
    agreements: tuple[tuple[float, ...], ...]
    contributions: tuple[Contribution, ...]
    reliability: Chart
    errors: tuple[float, float]
    mistakes: Mistakes
    networks: int
    note: str

    @property
    def as_submitted(self) -> bool:
        """Whether the ensemble is judged by the submission's own weights, not by fitted ones."""
        return self.chosen.name == AS_SUBMITTED


def judge(
    bundle: Bundle,
    validation: BundleValidation,
    views: int,
    submitted: Voting | None = None,
) -> Judged | None:
    """Let every held-out photo be judged by weights that were found on the others.

    Args:
        bundle: Its manifest says which way to vote was chosen.
        validation: What its members say.
        views: Views a photo.
        submitted: What a submission was made with; None is what the bundle chose. Where it is none
            of the bundle's ways nothing was fitted, and it judges as it is.

    Returns:
        The answers; None where fewer than two photos differ, so that nothing can be cross-fitted.
    """
    if not can_cross_fit(validation.groups):
        return None
    each = validation.averaged(views)
    table = bundle.voting[views]
    metric = METRICS[table.metric]
    of_members = submitted.weights if submitted else table.alternatives[table.choice].weights
    known = [name for name, one in table.alternatives.items() if one.weights == of_members]
    weights = bundle.by_voter(of_members)
    if submitted and not known:
        voting, one_fold = AS_SUBMITTED, np.zeros(len(validation.labels), dtype=np.int64)
        fitted = CrossFitted(one_fold, (np.array(weights),), (submitted.temperature,))
    else:
        voting = table.choice if table.choice in known else known[0]
        fitted = cross_fitting(voting, each, validation.labels, validation.groups, weights, metric)
    return Judged(
        voting=voting,
        metric=metric,
        views=views,
        members=tuple(voter.name for voter in bundle.voters),
        labels=validation.labels,
        each=each,
        fitted=fitted,
        mixed=fitted.mix(each),
        final=fitted.judge(each),
    )


def ensemble_section(
    bundle: Bundle, validation: BundleValidation, judged: Judged, classes: Sequence[str]
) -> EnsembleSection:
    """Describe what the ensemble is worth on the held-out photos."""
    labels, groups, each = judged.labels, validation.groups, judged.each
    table = bundle.voting[judged.views]
    alternatives = dict(table.alternatives)
    best_fitted = cross_fitting(BEST_ALONE, each, labels, groups)
    best_answers = best_fitted.judge(each)
    best_labels = best_answers.argmax(axis=1)

    def voter(name: str, kind: str, answers: NDArray[np.float64]) -> Voter:
        against = None if kind == "best" else paired(answers.argmax(axis=1), best_labels, labels)
        return Voter(name, kind, name == judged.voting, score(answers, labels), against)

    voters = [voter(name, "member", one) for name, one in zip(judged.members, each, strict=True)]
    voters.append(voter("best alone", "best", best_answers))
    for name in dict.fromkeys([*alternatives, judged.voting]):
        if name == judged.voting:
            answers = judged.final
        else:
            custom = bundle.by_voter(alternatives[name].weights)
            answers = cross_fitting(name, each, labels, groups, custom, judged.metric).judge(each)
        voters.append(voter(name, "voting", answers))
    weights = {name: bundle.by_voter(one.weights) for name, one in alternatives.items()}
    temperatures = {name: one.temperature for name, one in alternatives.items()}
    if judged.voting == AS_SUBMITTED:
        weights[judged.voting] = tuple(judged.fitted.weights[0].tolist())
        temperatures[judged.voting] = judged.fitted.temperatures[0]
    errors = (
        calibration_error(judged.mixed, labels),
        calibration_error(judged.final, labels),
    )
    return EnsembleSection(
        photos=len(labels),
        views=judged.views,
        voters=tuple(voters),
        best=next(one for one in voters if one.kind == "best"),
        best_name=table.best_single.name if table.best_single else "",
        chosen=next(one for one in voters if one.chosen and one.kind == "voting"),
        reason=table.reason if judged.voting == table.choice else "as the submission was made",
        weights=weights,
        temperatures=temperatures,
        members=judged.members,
        agreements=_agreements([*each, judged.final]),
        contributions=_contributions(judged, groups),
        reliability=reliability_chart(
            reliability(judged.mixed, labels), reliability(judged.final, labels), errors
        ),
        errors=errors,
        mistakes=mistakes(judged.final.argmax(axis=1), labels, classes),
        networks=len(bundle.members),
        note=OUT_OF_FOLD if bundle.has_bags else "",
    )


def _agreements(answers: Sequence[NDArray[np.float64]]) -> tuple[tuple[float, ...], ...]:
    labels = [one.argmax(axis=1) for one in answers]
    return tuple(tuple(agreement(a, b).equal for b in labels) for a in labels)


def _contributions(judged: Judged, groups: NDArray[np.int64]) -> tuple[Contribution, ...]:
    members = len(judged.members)
    if members < 2:
        return ()
    right = judged.each.argmax(axis=2) == judged.labels
    whole = _means(judged.final, judged.labels)
    found = []
    for index, name in enumerate(judged.members):
        others = [other for other in range(members) if other != index]
        rest = judged.each[others]
        alone, missed = right[index] & ~right[others].any(0), ~right[index] & right[others].all(0)
        without = None
        if judged.voting not in ("custom", AS_SUBMITTED):
            fitted = cross_fitting(judged.voting, rest, judged.labels, groups, metric=judged.metric)
            without = _means(fitted.judge(rest), judged.labels)
        found.append(
            Contribution(
                name,
                int(alone.sum()),
                int(missed.sum()),
                without[0] - whole[0] if without else None,
                without[1] - whole[1] if without else None,
            )
        )
    return tuple(found)


def _means(probabilities: Probabilities, labels: Labels) -> tuple[float, float]:
    """Return log-loss and accuracy."""
    right = probabilities.argmax(axis=1) == labels
    return float(log_losses(probabilities, labels).mean()), float(right.mean())
