"""Finds the cheapest way to give the full ensemble's labels, from the held-out photos alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Bundle
from toolkit.inference.calls import ModelCall, Weights, calls_ms, full_calls
from toolkit.inference.devices import Device
from toolkit.inference.evidence import CarriedOut, Evidence, carry_out, learn_thresholds
from toolkit.inference.exits import settling_steps
from toolkit.inference.guarantee import Guarantee, choose_sample
from toolkit.inference.plan import (
    CASCADE,
    CascadePlan,
    PlanDevice,
    PlanSearch,
    PlanVoting,
    ThresholdSet,
    Way,
    measured_costs,
)
from toolkit.inference.steps import Steps, better_steps, find_steps
from toolkit.inference.voting import Mixture, Voting

SET_RISKS = tuple(np.geomspace(1e-3, 0.5, 18).tolist())
"""Chances of another label at which a photo may exit; each makes one threshold set."""

FEWEST_PHOTOS = 20
"""Held-out photos to search on."""

BASE_RISKS = (0.5, 1.0, 2.0, 4.0)
"""Steps are looked for at these multiples of the tolerance, and the cheapest plan is taken."""

TARGET_RISK = 0.3
"""Share of the tolerance at which steps are compared: about what passes a certificate."""

SEARCH_SHARE, MS_A_TRIAL, MOST_TRIALS = 0.02, 3.0, 6000
"""A search may take this share of the time of the full ensemble, in trials of about so long."""


def make_plan(
    bundle: Bundle,
    voting: Voting,
    evidence: Evidence,
    guarantee: Guarantee,
    photos: int,
    device: Device,
) -> CascadePlan:
    """Find the plan of least expected cost, the cost of its certificate included.

    Args:
        bundle: The bundle.
        voting: The full ensemble's.
        evidence: From `gather`.
        guarantee: What shall hold.
        photos: How many will be predicted.
        device: What the costs were measured on.

    Returns:
        The plan. It has no steps where nothing is cheaper than label-exact.

    Raises:
        ToolkitError: There are too few held-out photos to learn from.
    """
    if len(evidence.labels) < FEWEST_PHOTOS:
        raise ToolkitError(
            f"{bundle.folder}: {len(evidence.labels)} held-out photos are too few to search for a "
            f"plan ({FEWEST_PHOTOS} at least). Leave `tolerance` out: all labels are then the "
            "full ensemble's."
        )

    def priced(steps: Steps) -> tuple[float, Steps, list[ThresholdSet]]:
        sets = find_threshold_sets(evidence, steps)
        return price(sets, evidence, guarantee, photos), steps, sets

    greedy = [
        priced(find_steps(evidence, min(multiple * guarantee.tolerance, SET_RISKS[-1])))
        for multiple in BASE_RISKS
    ]
    best = min(greedy, key=itemgetter(0))
    trials = int(SEARCH_SHARE * photos * evidence.full_ms / MS_A_TRIAL)
    target = TARGET_RISK * guarantee.tolerance
    better = better_steps(evidence, best[1], target, min(trials, MOST_TRIALS))
    _, steps, sets = min(best, priced(better), key=itemgetter(0))
    steps = steps if sets else ()
    done = [call for step in steps for call in step]
    return CascadePlan(
        bundle=bundle.sha256,
        views=evidence.views,
        voting=PlanVoting.of(bundle, voting),
        steps=steps,
        threshold_sets=tuple(sets),
        rest=settling_steps(done, evidence.weights, evidence.views, evidence.costs),
        search=PlanSearch(
            device=PlanDevice(kind=device.kind, name=device.name),
            tolerance=guarantee.tolerance,
            confidence=guarantee.confidence,
            photos=len(evidence.labels),
            full_ms=evidence.full_ms,
            settled_ms=evidence.settled_ms,
            costs=measured_costs(evidence.costs),
            table=tuple(_table(evidence, sets)),
        ),
    )


def price(
    sets: Sequence[ThresholdSet], evidence: Evidence, guarantee: Guarantee, photos: int
) -> float:
    """Return the expected cost of predicting and certifying; see `choose_sample`."""
    return choose_sample(
        photos,
        guarantee,
        [each.risk for each in sets],
        len(evidence.labels),
        [each.ms for each in sets],
        evidence.settled_ms,
        evidence.full_ms,
    ).expected_cost


def find_threshold_sets(
    evidence: Evidence, steps: Sequence[Sequence[ModelCall]]
) -> list[ThresholdSet]:
    """Return ways to carry out steps, from conservative to aggressive, each cheaper than the last.

    Args:
        evidence: From `gather`.
        steps: From `find_steps`.
    """
    found: list[ThresholdSet] = []
    cheapest = evidence.settled_ms
    for risk in SET_RISKS if steps else ():
        learnt = learn_thresholds(evidence, steps, risk)
        done = carry_out(evidence, steps, learnt.thresholds)
        ms = evidence.expected_ms(steps, done.exit_step)
        if ms < cheapest:
            cheapest = ms
            found.append(_threshold_set(evidence, steps, learnt.thresholds, done, learnt.risk))
    return found


def _threshold_set(
    evidence: Evidence,
    steps: Sequence[Sequence[ModelCall]],
    thresholds: tuple[float, ...],
    done: CarriedOut,
    risk: float,
) -> ThresholdSet:
    calls = np.append(np.cumsum([len(step) for step in steps]), 0)[done.exit_step]
    stayed = done.exit_step == len(steps)
    calls[stayed] = sum(len(step) for step in steps) + evidence.settling(steps).calls[stayed]
    labels = done.answers.argmax(axis=1)
    return ThresholdSet(
        thresholds=thresholds,
        ms=evidence.expected_ms(steps, done.exit_step),
        calls=float(calls.mean()),
        exits=tuple(float((done.exit_step == number).mean()) for number in range(len(steps))),
        agreement=_share(labels, evidence.full.argmax(axis=1)),
        accuracy=_share(labels, evidence.labels),
        risk=risk,
    )


def _share(labels: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    return float((labels == others).mean())


def _table(evidence: Evidence, sets: Sequence[ThresholdSet]) -> Iterable[Way]:
    """Yield cost against agreement and accuracy for the ways to predict."""
    views, weights = evidence.views, evidence.weights
    labels = evidence.full.argmax(axis=1)
    accuracy = _share(labels, evidence.labels)
    calls, settled = len(weights) * views, float(evidence.settling(()).calls.mean())
    full_ms, settled_ms = evidence.full_ms, evidence.settled_ms
    yield Way(way="full", ms=full_ms, calls=calls, agreement=1.0, accuracy=accuracy)
    yield Way(way="label-exact", ms=settled_ms, calls=settled, agreement=1.0, accuracy=accuracy)
    for way, voters, seen in _simple_ways(weights, views):
        made = full_calls(voters, seen)
        mixture = Mixture(voters, *evidence.full.shape)
        for call in made:
            mixture.add(call, evidence.answers[call])
        found = mixture.mean().argmax(axis=1)
        yield Way(
            way=way,
            ms=calls_ms(made, evidence.costs),
            calls=len(made),
            agreement=_share(found, labels),
            accuracy=_share(found, evidence.labels),
        )
    for number, each in enumerate(sets, start=1):
        yield Way(
            way=f"{CASCADE} {number}",
            ms=each.ms,
            calls=each.calls,
            agreement=each.agreement,
            accuracy=each.accuracy,
            risk=each.risk,
        )


def _simple_ways(weights: Weights, views: int) -> Iterable[tuple[str, Weights, int]]:
    """Yield what people do without a plan: name, voters with weights, and views."""
    for key, weight in weights.items():
        yield f"{key.member}, 1 view", {key: weight}, 1
        if views > 1:
            yield f"{key.member}, {views} views", {key: weight}, views
    if views > 1:
        yield "all members, 1 view", weights, 1
    yield "uniform ensemble", dict.fromkeys(weights, 1.0), views
