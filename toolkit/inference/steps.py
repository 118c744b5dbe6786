"""Finds in which steps photos are best looked at, from the held-out photos alone.

Steps are first added greedily by what they save: after each, the photos whose label is clear exit,
and only the rest cost the full ensemble (arXiv 2012.01988). Members, views and precisions mix
freely, because one view a member is often nearly as good as all (arXiv 2002.06470). Greedy steps
are coarse, because each is chosen as if the full ensemble came next; so small changes are tried
then, as long as one makes the whole cheaper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from toolkit.inference.calls import ModelCall, calls_ms
from toolkit.inference.evidence import Evidence, learn_thresholds
from toolkit.inference.exits import ExitRule
from toolkit.inference.voting import Mixture, margins

LEAST_SAVING = 0.005
"""Share of the full ensemble's cost that a further step must save."""

LEAST_GAIN = 0.002
"""Share of a plan's own cost that a change of its steps must save."""

RISK_RANGE = (1e-4, 0.5)
"""Between these the chance of another label is looked for at which a photo may exit."""

HALVINGS = 7
"""Of that interval's logarithm."""

Steps = tuple[tuple[ModelCall, ...], ...]


def find_steps(evidence: Evidence, risk: float) -> Steps:
    """Add the step that saves most, as long as one saves.

    Args:
        evidence: From `gather`.
        risk: Chance of another label at which a photo may exit.

    Returns:
        The steps.
    """
    labels = evidence.full.argmax(axis=1)
    staying = np.arange(len(labels))
    mixture = Mixture(evidence.weights, *evidence.full.shape)
    seen: set[tuple[str, int]] = set()
    steps: list[tuple[ModelCall, ...]] = []
    while len(staying):
        least, chosen = float(evidence.settling(steps).ms[staying].sum()), None
        least -= LEAST_SAVING * evidence.full_ms * len(labels)
        for calls in _groups(evidence, seen):
            trial = mixture.copy()
            for call in calls:
                trial.add(call, evidence.answers[call][staying])
            mean = trial.mean()
            clear = margins(mean)
            rule = ExitRule.fitted(clear, mean.argmax(axis=1) != labels[staying])
            stays = clear < rule.threshold(risk)
            cost = len(staying) * calls_ms(calls, evidence.costs)
            cost += float(evidence.settling([*steps, calls]).ms[staying[stays]].sum())
            if cost < least:
                least, chosen = cost, (calls, trial, stays)
        if chosen is None:
            break
        calls, mixture, stays = chosen
        steps.append(calls)
        seen |= {(call.member, call.view) for call in calls}
        mixture.keep(stays)
        staying = staying[stays]
    return tuple(steps)


def better_steps(evidence: Evidence, steps: Steps, target: float, trials: int) -> Steps:
    """Change steps a little, as long as that makes them cheaper at an equal risk.

    A change adds, drops, moves or swaps one call, or joins or parts two steps. The first found that
    is cheaper is taken; the order is shuffled, but always the same.

    Args:
        evidence: From `gather`.
        steps: To begin with.
        target: Share of the photos that may exit with another label.
        trials: Changes to try at most.

    Returns:
        The steps.
    """
    generator = np.random.default_rng(0)
    current, level = steps, _Level.found(evidence, steps, target)
    while trials > 0:
        changed = list(_changes(evidence, current))
        better = None
        for number in generator.permutation(len(changed))[:trials]:
            trials -= 1
            if level.cost(evidence, changed[number]) >= (1 - LEAST_GAIN) * level.ms:
                continue
            trials -= HALVINGS
            at_target = _Level.found(evidence, changed[number], target)
            if at_target.ms < (1 - LEAST_GAIN) * level.ms:
                better = changed[number], at_target
                break
        if better is None:
            break
        current, level = better
    return current


@dataclass(frozen=True)
class _Level:
    """What steps cost at the risk wanted.

    Attributes:
        at: Chance of another label at which a photo may exit, so that all together come to the
            risk wanted.
        target: The risk wanted.
        ms: Cost a photo there; infinite where no chance is small enough.
        slope: Of the cost, by risk.
    """

    at: float
    target: float
    ms: float
    slope: float

    @classmethod
    def found(cls, evidence: Evidence, steps: Steps, target: float) -> _Level:
        """Find where steps meet the target."""
        low, high = np.log(RISK_RANGE)
        below, above = None, None
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            learnt = learn_thresholds(evidence, steps, float(np.exp(middle)))
            if learnt.risk <= target:
                low, below = middle, learnt
            else:
                high, above = middle, learnt
        if below is None:
            return cls(float(np.exp(low)), target, float("inf"), 0.0)
        slope = 0.0
        if above and above.risk > below.risk:
            slope = min(0.0, (above.ms - below.ms) / (above.risk - below.risk))
        return cls(float(np.exp(low)), target, below.ms, slope)

    def cost(self, evidence: Evidence, steps: Steps) -> float:
        """Estimate what other steps cost at the target, by what they do where these meet it."""
        learnt = learn_thresholds(evidence, steps, self.at)
        return learnt.ms + self.slope * (self.target - learnt.risk)


def _changes(evidence: Evidence, steps: Steps) -> Iterator[Steps]:
    """Yield all steps that are one change away."""
    seen = {(call.member, call.view) for step in steps for call in step}
    free = [call for call in sorted(evidence.answers) if (call.member, call.view) not in seen]
    for call in free:
        yield from _with(steps, call)
    for number, step in enumerate(steps[:-1]):
        yield (*steps[:number], step + steps[number + 1], *steps[number + 2 :])
    for number, step in enumerate(steps):
        before, after = steps[:number], steps[number + 1 :]
        for call in step:
            others = tuple(other for other in step if other != call)
            without = (*before, others, *after) if others else (*before, *after)
            yield without
            yield from _with(without, call)
            for swapped in evidence.answers:
                if swapped != call and (swapped.member, swapped.view) == (call.member, call.view):
                    yield (*before, (*others, swapped), *after)


def _with(steps: Steps, call: ModelCall) -> Iterator[Steps]:
    """Yield steps with one more call, in a step of its own or in one that is there."""
    for number in range(len(steps) + 1):
        yield (*steps[:number], (call,), *steps[number:])
    for number, step in enumerate(steps):
        yield (*steps[:number], (*step, call), *steps[number + 1 :])


def _groups(evidence: Evidence, seen: set[tuple[str, int]]) -> Iterator[tuple[ModelCall, ...]]:
    """Yield calls that may come next: one view, a view and its mirror, all views, all members."""
    names = [key.member for key in evidence.weights]
    precisions = sorted({call.precision for call in evidence.answers})
    spans = {(view,) for view in range(evidence.views)} | {
        tuple(range(count)) for count in (2, evidence.views) if count <= evidence.views
    }
    teams = [(name,) for name in names] + ([tuple(names)] if len(names) > 1 else [])
    offered: set[tuple[ModelCall, ...]] = set()
    for precision in precisions:
        for team in teams:
            for span in sorted(spans):
                calls = tuple(
                    ModelCall(name, precision, view)
                    for name in team
                    for view in span
                    if (name, view) not in seen
                    and ModelCall(name, precision, view) in evidence.answers
                )
                if calls and calls not in offered:
                    offered.add(calls)
                    yield calls
