"""What held-out photos tell of plans: what each would cost, and how often it would be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.inference.bundle import Bundle, BundleValidation
from toolkit.inference.calls import Costs, ModelCall, Weights, calls_ms, full_calls
from toolkit.inference.executor import WINDOWS
from toolkit.inference.exits import ExitRule, settled, settling_steps
from toolkit.inference.plan import PlanVoting
from toolkit.inference.voting import Mixture, Voting, margins, vote

WASTE = 0.5 / WINDOWS.batches
"""Share of all photos that a step pays for in vain: a window's last batch is half empty."""


@dataclass(frozen=True)
class Settling:
    """What it takes to settle the full ensemble's label, where steps left it open.

    Attributes:
        ms: Milliseconds, shape (photos,).
        calls: Model calls, shape (photos,).
    """

    ms: NDArray[np.float64]
    calls: NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """What is known of the held-out photos.

    Attributes:
        answers: By call that a plan may make, shape (photos, classes).
        votes: By call of the full ensemble, shape (photos, classes).
        full: The full ensemble's answer, shape (photos, classes).
        labels: The true classes, shape (photos,).
        weights: Of the members that vote.
        costs: By member and precision.
        views: Views a photo of the full ensemble.
    """

    answers: Mapping[ModelCall, NDArray[np.float32]]
    votes: Mapping[ModelCall, NDArray[np.float32]]
    full: NDArray[np.float64]
    labels: NDArray[np.int64]
    weights: Weights
    costs: Costs
    views: int
    _known: dict[frozenset[ModelCall], Settling] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def full_ms(self) -> float:
        """Cost a photo of the full ensemble."""
        return calls_ms(full_calls(self.weights, self.views), self.costs)

    @property
    def settled_ms(self) -> float:
        """Cost a photo of the full ensemble's labels alone."""
        return float(self.settling(()).ms.mean())

    def settling(self, steps: Sequence[Sequence[ModelCall]]) -> Settling:
        """Return what each photo costs after steps of which none gave its label."""
        done = frozenset(call for step in steps for call in step if call.key in self.weights)
        if done not in self._known:
            self._known[done] = self._settling(done)
        return self._known[done]

    def _settling(self, done: frozenset[ModelCall]) -> Settling:
        votes, to_come = np.zeros(self.full.shape), 1.0
        rest = settling_steps(done, self.weights, self.views, self.costs)
        ms, made = np.zeros(len(votes)), np.zeros(len(votes), dtype=np.int64)
        for step in (tuple(sorted(done)), *rest):
            if step and step[0] not in done:
                open_ones = ~settled(votes, to_come)
                ms[open_ones] += calls_ms(step, self.costs)
                made[open_ones] += len(step)
            for call in step:
                share = self.weights[call.key] / self.views
                votes += share * self.votes[call]
                to_come -= share
        return Settling(ms, made)

    def expected_ms(
        self, steps: Sequence[Sequence[ModelCall]], exit_step: NDArray[np.int64]
    ) -> float:
        """Return the expected cost a photo.

        Args:
            steps: Of a plan.
            exit_step: Step after which each photo exits, shape (photos,); the number of steps where
                the full ensemble's label has to be settled.
        """
        ms = 0.0
        for number, calls in enumerate(steps):
            share = float((exit_step >= number).mean())
            wasted = WASTE if 0 < share < 1 else 0.0
            ms += (share + wasted) * calls_ms(calls, self.costs)
        return ms + float(self.settling(steps).ms[exit_step == len(steps)].sum()) / len(exit_step)


def gather(
    bundle: Bundle,
    validation: BundleValidation,
    voting: Voting,
    views: int,
    costs: Costs,
) -> Evidence:
    """Put together what the planner needs.

    Args:
        bundle: The bundle.
        validation: Its held-out photos.
        voting: The full ensemble's.
        views: Views a photo.
        costs: By member and precision; what is missing is not planned with.

    Returns:
        The evidence.
    """
    weights = PlanVoting.of(bundle, voting).weights
    rows = {member.name: number for number, member in enumerate(bundle.members)}
    known = {key: validation.probabilities[rows[key.member]] for key in weights}
    members = {key.member for key in weights}
    known |= {key: seen for key, seen in validation.variants.items() if key.member in members}
    answers = {
        ModelCall(key.member, key.precision, view): seen[:, view]
        for key, seen in known.items()
        if key in costs
        for view in range(views)
    }
    return Evidence(
        answers=answers,
        votes={call: answers[call] for call in full_calls(weights, views)},
        full=vote(
            [known[key][:, :views] for key in weights],
            list(weights.values()),
            voting.temperature,
        ),
        labels=validation.labels,
        weights=weights,
        costs=costs,
        views=views,
    )


@dataclass(frozen=True)
class CarriedOut:
    """What a threshold set does with photos.

    Attributes:
        exit_step: Step after which each photo exits, shape (photos,); the number of steps where the
            full ensemble's label has to be settled.
        answers: Shape (photos, classes).
    """

    exit_step: NDArray[np.int64]
    answers: NDArray[np.float64]


def carry_out(
    evidence: Evidence, steps: Sequence[Sequence[ModelCall]], thresholds: Sequence[float]
) -> CarriedOut:
    """Do with the held-out photos what the engine does with others."""
    staying = np.arange(len(evidence.labels))
    exit_step = np.full(len(staying), len(steps), dtype=np.int64)
    answers = evidence.full.copy()
    mixture = Mixture(evidence.weights, *evidence.full.shape)
    for number, (calls, threshold) in enumerate(zip(steps, thresholds, strict=True)):
        for call in calls:
            mixture.add(call, evidence.answers[call][staying])
        mean = mixture.mean()
        exiting = margins(mean) >= threshold
        exit_step[staying[exiting]] = number
        answers[staying[exiting]] = mean[exiting]
        mixture.keep(~exiting)
        staying = staying[~exiting]
    return CarriedOut(exit_step, answers)


@dataclass(frozen=True)
class Learnt:
    """How clear photos must be to exit, and what that comes to.

    Attributes:
        thresholds: One a step; infinite where no photo told how clear is clear enough.
        risk: Share of the photos expected to exit with another label than the full ensemble's.
        ms: Expected cost a photo.
    """

    thresholds: tuple[float, ...]
    risk: float
    ms: float


def learn_thresholds(
    evidence: Evidence, steps: Sequence[Sequence[ModelCall]], risk: float
) -> Learnt:
    """Let photos exit where the chance of another label is at most `risk`."""
    expected = 0.0
    labels = evidence.full.argmax(axis=1)
    staying = np.arange(len(labels))
    exit_step = np.full(len(labels), len(steps), dtype=np.int64)
    mixture = Mixture(evidence.weights, *evidence.full.shape)
    thresholds: list[float] = []
    for number, calls in enumerate(steps):
        if not len(staying):
            thresholds.append(float("inf"))
            continue
        for call in calls:
            mixture.add(call, evidence.answers[call][staying])
        mean = mixture.mean()
        clear = margins(mean)
        rule = ExitRule.fitted(clear, mean.argmax(axis=1) != labels[staying])
        thresholds.append(rule.threshold(risk))
        stays = clear < thresholds[-1]
        expected += float(rule.risk(clear[~stays]).sum())
        exit_step[staying[~stays]] = number
        mixture.keep(stays)
        staying = staying[stays]
    return Learnt(tuple(thresholds), expected / len(labels), evidence.expected_ms(steps, exit_step))
