"""What held-out photos tell of plans: what each would cost, and how often it would be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.inference.bundle import Bundle, BundleValidation
from toolkit.inference.leaving import LeavingRule
from toolkit.inference.plan import (
    BATCHES_A_WINDOW,
    EXACT,
    Mixture,
    Run,
    exact_runs,
    margins,
    run_cost,
)
from toolkit.inference.voting import Voting, vote

WASTE = 0.5 / BATCHES_A_WINDOW
"""Share of all photos that a step runs for nothing: half of a window's last batch is padding."""


@dataclass(frozen=True)
class Evidence:
    """What is known of the held-out photos.

    Attributes:
        answers: By run, shape (photos, classes).
        exact: The exact ensemble's answer, shape (photos, classes).
        labels: The true classes, shape (photos,).
        weights: Of the members that vote.
        costs: Milliseconds an image by `MEMBER PRECISION`.
        views: Views a photo of the exact ensemble.
    """

    answers: Mapping[Run, NDArray[np.float32]]
    exact: NDArray[np.float64]
    labels: NDArray[np.int64]
    weights: Mapping[str, float]
    costs: Mapping[str, float]
    views: int

    @property
    def exact_ms(self) -> float:
        """Cost a photo of the exact ensemble."""
        return run_cost(exact_runs(self.weights, self.views), self.costs)

    def rest(self, steps: Sequence[Sequence[Run]]) -> list[Run]:
        """Return the exact ensemble's runs that are not among the steps'."""
        seen = {run for step in steps for run in step}
        return [run for run in exact_runs(self.weights, self.views) if run not in seen]

    def rest_ms(self, steps: Sequence[Sequence[Run]]) -> float:
        """Return what these runs cost a photo."""
        return run_cost(self.rest(steps), self.costs)

    def expected_ms(self, steps: Sequence[Sequence[Run]], reached: Sequence[float]) -> float:
        """Return the expected cost a photo.

        Args:
            steps: Of a plan.
            reached: Share of the photos that come to each step, and to the exact ensemble.
        """
        ms = 0.0
        for runs, share in zip([*steps, self.rest(steps)], reached, strict=True):
            wasted = WASTE if 0 < share < 1 else 0.0
            ms += (share + wasted) * run_cost(runs, self.costs)
        return ms


def gather(
    bundle: Bundle,
    validation: BundleValidation,
    voting: Voting,
    views: int,
    costs: Mapping[tuple[str, str], float],
) -> Evidence:
    """Put together what the planner needs.

    Args:
        bundle: The bundle.
        validation: Its held-out photos.
        voting: The exact ensemble's.
        views: Views a photo.
        costs: Milliseconds an image by (member, precision); what is missing is not planned with.

    Returns:
        The evidence.
    """
    weights = {
        member.name: weight
        for member, weight in zip(bundle.members, voting.weights, strict=True)
        if weight > 0
    }
    answers: dict[Run, NDArray[np.float32]] = {}
    exact: list[NDArray[np.float32]] = []
    for member, probabilities in zip(bundle.members, validation.probabilities, strict=True):
        if member.name not in weights:
            continue
        exact.append(probabilities[:, :views])
        known = {EXACT: probabilities} | {
            precision: seen
            for (name, precision), seen in validation.variants.items()
            if name == member.name
        }
        for precision, seen in known.items():
            if (member.name, precision) in costs:
                for view in range(views):
                    answers[Run(member.name, precision, view)] = seen[:, view]
    return Evidence(
        answers=answers,
        exact=vote(exact, list(weights.values()), voting.temperature),
        labels=validation.labels,
        weights=weights,
        costs={f"{name} {precision}": ms for (name, precision), ms in costs.items()},
        views=views,
    )


@dataclass(frozen=True)
class CarriedOut:
    """What a candidate does with photos.

    Attributes:
        left: Step after which each photo leaves, shape (photos,); the number of steps where the
            exact ensemble answers it.
        answers: Shape (photos, classes).
    """

    left: NDArray[np.int64]
    answers: NDArray[np.float64]


def carry_out(
    evidence: Evidence, steps: Sequence[Sequence[Run]], thresholds: Sequence[float]
) -> CarriedOut:
    """Do with the held-out photos what the engine does with others."""
    staying = np.arange(len(evidence.labels))
    left = np.full(len(staying), len(steps), dtype=np.int64)
    answers = evidence.exact.copy()
    mixture = Mixture(evidence.weights, *evidence.exact.shape)
    for number, (runs, threshold) in enumerate(zip(steps, thresholds, strict=True)):
        for run in runs:
            mixture.add(run, evidence.answers[run][staying])
        mean = mixture.mean()
        leaves = margins(mean) >= threshold
        left[staying[leaves]] = number
        answers[staying[leaves]] = mean[leaves]
        mixture.keep(~leaves)
        staying = staying[~leaves]
    return CarriedOut(left, answers)


@dataclass(frozen=True)
class Learnt:
    """How clear photos must be to leave, and what that comes to.

    Attributes:
        thresholds: One a step; infinite where no photo told how clear is clear enough.
        risk: Share of the photos expected to leave with another label than the exact ensemble's.
        ms: Expected cost a photo.
    """

    thresholds: tuple[float, ...]
    risk: float
    ms: float


def learn_thresholds(evidence: Evidence, steps: Sequence[Sequence[Run]], risk: float) -> Learnt:
    """Let photos leave where the chance of another label is at most `risk`."""
    expected = 0.0
    labels = evidence.exact.argmax(axis=1)
    staying = np.arange(len(labels))
    mixture = Mixture(evidence.weights, *evidence.exact.shape)
    thresholds: list[float] = []
    reached: list[float] = []
    for runs in steps:
        reached.append(len(staying) / len(labels))
        if not len(staying):
            thresholds.append(float("inf"))
            continue
        for run in runs:
            mixture.add(run, evidence.answers[run][staying])
        mean = mixture.mean()
        clear = margins(mean)
        rule = LeavingRule.fitted(clear, mean.argmax(axis=1) != labels[staying])
        thresholds.append(rule.threshold(risk))
        stays = clear < thresholds[-1]
        expected += float(rule.risk(clear[~stays]).sum())
        mixture.keep(stays)
        staying = staying[stays]
    ms = evidence.expected_ms(steps, [*reached, len(staying) / len(labels)])
    return Learnt(tuple(thresholds), expected / len(labels), ms)
