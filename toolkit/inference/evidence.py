"""What held-out photos tell of plans: what each would cost, and how often it would be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.inference.bundle import Bundle, BundleValidation
from toolkit.inference.exits import ExitRule, settled, settling_order
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
class Settling:
    """What it takes to make the exact ensemble's label certain, where steps left it open.

    Attributes:
        ms: Milliseconds, shape (photos,).
        runs: Network runs, shape (photos,).
    """

    ms: NDArray[np.float64]
    runs: NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """What is known of the held-out photos.

    Attributes:
        answers: By run that a plan may make, shape (photos, classes).
        votes: By run of the exact ensemble, shape (photos, classes).
        exact: The exact ensemble's answer, shape (photos, classes).
        labels: The true classes, shape (photos,).
        weights: Of the members that vote.
        costs: Milliseconds an image by `MEMBER PRECISION`.
        views: Views a photo of the exact ensemble.
    """

    answers: Mapping[Run, NDArray[np.float32]]
    votes: Mapping[Run, NDArray[np.float32]]
    exact: NDArray[np.float64]
    labels: NDArray[np.int64]
    weights: Mapping[str, float]
    costs: Mapping[str, float]
    views: int
    _known: dict[frozenset[Run], Settling] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def exact_ms(self) -> float:
        """Cost a photo of the exact ensemble."""
        return run_cost(exact_runs(self.weights, self.views), self.costs)

    @property
    def settled_ms(self) -> float:
        """Cost a photo of the exact ensemble's labels alone."""
        return float(self.settling(()).ms.mean())

    def settling(self, steps: Sequence[Sequence[Run]]) -> Settling:
        """Return what each photo costs after steps of which none gave its label."""
        done = frozenset(run for step in steps for run in step if run.precision == EXACT)
        if done not in self._known:
            self._known[done] = self._settling(done)
        return self._known[done]

    def _settling(self, done: frozenset[Run]) -> Settling:
        votes, to_come = np.zeros(self.exact.shape), 1.0
        runs = exact_runs(self.weights, self.views)
        rest = settling_order((run for run in runs if run not in done), self.weights, self.costs)
        ms, made = np.zeros(len(votes)), np.zeros(len(votes), dtype=np.int64)
        for run in [*sorted(done), *rest]:
            if run not in done:
                open_ones = ~settled(votes, to_come)
                ms[open_ones] += run_cost([run], self.costs)
                made[open_ones] += 1
            share = self.weights[run.member] / self.views
            votes += share * self.votes[run]
            to_come -= share
        return Settling(ms, made)

    def expected_ms(self, steps: Sequence[Sequence[Run]], left: NDArray[np.int64]) -> float:
        """Return the expected cost a photo.

        Args:
            steps: Of a plan.
            left: Step after which each photo leaves, shape (photos,); the number of steps where
                the exact ensemble's label has to be settled.
        """
        ms = 0.0
        for number, runs in enumerate(steps):
            share = float((left >= number).mean())
            wasted = WASTE if 0 < share < 1 else 0.0
            ms += (share + wasted) * run_cost(runs, self.costs)
        return ms + float(self.settling(steps).ms[left == len(steps)].sum()) / len(left)


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
        votes={run: answers[run] for run in exact_runs(weights, views)},
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
            exact ensemble's label has to be settled.
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
    left = np.full(len(labels), len(steps), dtype=np.int64)
    mixture = Mixture(evidence.weights, *evidence.exact.shape)
    thresholds: list[float] = []
    for number, runs in enumerate(steps):
        if not len(staying):
            thresholds.append(float("inf"))
            continue
        for run in runs:
            mixture.add(run, evidence.answers[run][staying])
        mean = mixture.mean()
        clear = margins(mean)
        rule = ExitRule.fitted(clear, mean.argmax(axis=1) != labels[staying])
        thresholds.append(rule.threshold(risk))
        stays = clear < thresholds[-1]
        expected += float(rule.risk(clear[~stays]).sum())
        left[staying[~stays]] = number
        mixture.keep(stays)
        staying = staying[stays]
    return Learnt(tuple(thresholds), expected / len(labels), evidence.expected_ms(steps, left))
