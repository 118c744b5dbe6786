"""Finds the cheapest way to give the exact ensemble's labels, from the held-out photos alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Bundle
from toolkit.inference.evidence import CarriedOut, Evidence, carry_out, learn_thresholds
from toolkit.inference.plan import (
    EXACT,
    Candidate,
    Mixture,
    Plan,
    Run,
    described,
    exact_runs,
    run_cost,
)
from toolkit.inference.promise import Promise, choose_sample
from toolkit.inference.steps import Steps, better_steps, find_steps
from toolkit.inference.voting import Voting

CANDIDATE_RISKS = tuple(np.geomspace(1e-3, 0.5, 18).tolist())
"""Chances of another label at which a photo may leave; each makes one candidate."""

BASE_RISKS = (0.5, 1.0, 2.0, 4.0)
"""Steps are looked for at these multiples of the tolerance, and the cheapest plan is taken."""

TARGET_RISK = 0.3
"""Share of the tolerance at which steps are compared: about what passes a certificate."""

SEARCH_SHARE, MS_A_TRIAL, MOST_TRIALS = 0.02, 3.0, 6000
"""A search may take this share of the time of the exact ensemble, in trials of about so long."""


def make_plan(
    bundle: Bundle,
    voting: Voting,
    evidence: Evidence,
    promise: Promise,
    photos: int,
    device: Mapping[str, str],
) -> Plan:
    """Find the plan of least expected cost, the cost of its certificate included.

    Args:
        bundle: The bundle.
        voting: The exact ensemble's.
        evidence: From `gather`.
        promise: What shall hold.
        photos: How many will be predicted.
        device: What the costs were measured on.

    Returns:
        The plan. It has no candidates where nothing is cheaper than the exact ensemble.

    Raises:
        ToolkitError: There are too few held-out photos to learn from.
    """
    if len(evidence.labels) < 20:
        raise ToolkitError(
            f"{bundle.folder}: {len(evidence.labels)} held-out photos are too few to plan from "
            "(20 at least). Pass --plan exact."
        )

    def priced(steps: Steps) -> tuple[float, Steps, list[Candidate]]:
        candidates = find_candidates(evidence, steps)
        cost = price(candidates, evidence.settled_ms, promise, photos, len(evidence.labels))
        return cost, steps, candidates

    greedy = [
        priced(find_steps(evidence, min(multiple * promise.tolerance, CANDIDATE_RISKS[-1])))
        for multiple in BASE_RISKS
    ]
    best = min(greedy, key=itemgetter(0))
    trials = int(SEARCH_SHARE * photos * evidence.exact_ms / MS_A_TRIAL)
    target = TARGET_RISK * promise.tolerance
    better = better_steps(evidence, best[1], target, min(trials, MOST_TRIALS))
    _, steps, found = min(best, priced(better), key=itemgetter(0))
    return Plan(
        bundle=bundle.sha256,
        views=evidence.views,
        voting=described(bundle, voting),
        device=device,
        tolerance=promise.tolerance,
        confidence=promise.confidence,
        photos=len(evidence.labels),
        exact_ms=evidence.exact_ms,
        settled_ms=evidence.settled_ms,
        costs=evidence.costs,
        steps=steps if found else (),
        candidates=tuple(found),
        table=tuple(_pareto_table(evidence, found)),
    )


def price(
    candidates: Sequence[Candidate],
    settled_ms: float,
    promise: Promise,
    photos: int,
    known: int,
) -> float:
    """Return the expected cost of predicting and certifying; see `choose_sample`."""
    return choose_sample(
        photos,
        promise,
        [candidate.figures["risk"] for candidate in candidates],
        known,
        [candidate.figures["ms"] for candidate in candidates],
        settled_ms,
    ).expected_cost


def find_candidates(evidence: Evidence, steps: Sequence[Sequence[Run]]) -> list[Candidate]:
    """Return ways to carry out steps, from conservative to aggressive, each cheaper than the last.

    Args:
        evidence: From `gather`.
        steps: From `find_steps`.
    """
    found: list[Candidate] = []
    cheapest = evidence.settled_ms
    for risk in CANDIDATE_RISKS if steps else ():
        learnt = learn_thresholds(evidence, steps, risk)
        done = carry_out(evidence, steps, learnt.thresholds)
        figures = {**_figures(evidence, steps, done), "risk": learnt.risk}
        if figures["ms"] < cheapest:
            cheapest = float(figures["ms"])
            found.append(Candidate(learnt.thresholds, figures))
    return found


def _figures(
    evidence: Evidence, steps: Sequence[Sequence[Run]], done: CarriedOut
) -> dict[str, Any]:
    share = [float((done.left == number).mean()) for number in range(len(steps))]
    labels = done.answers.argmax(axis=1)
    runs = np.append(np.cumsum([len(step) for step in steps]), 0)[done.left]
    stayed = done.left == len(steps)
    runs[stayed] = sum(len(step) for step in steps) + evidence.settling(steps).runs[stayed]
    return {
        "ms": evidence.expected_ms(steps, done.left),
        "runs": float(runs.mean()),
        "left": share,
        "agreement": float((labels == evidence.exact.argmax(axis=1)).mean()),
        "accuracy": float((labels == evidence.labels).mean()),
    }


def _pareto_table(evidence: Evidence, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return cost against agreement and accuracy for the ways to predict."""
    views = range(evidence.views)
    names = list(evidence.weights)
    ways: dict[str, tuple[list[Run], Mapping[str, float]]] = {}
    for name in names:
        ways[f"{name}, 1 view"] = ([Run(name, EXACT, 0)], evidence.weights)
        if len(views) > 1:
            all_views = [Run(name, EXACT, view) for view in views]
            ways[f"{name}, {len(views)} views"] = (all_views, evidence.weights)
    if len(views) > 1:
        ways["all members, 1 view"] = ([Run(name, EXACT, 0) for name in names], evidence.weights)
    ways["uniform ensemble"] = (
        exact_runs(evidence.weights, evidence.views),
        dict.fromkeys(names, 1.0),
    )
    accuracy = float((evidence.exact.argmax(axis=1) == evidence.labels).mean())
    rows = [
        {
            "way": "exact",
            "ms": evidence.exact_ms,
            "runs": len(names) * len(views),
            "agreement": 1.0,
            "accuracy": accuracy,
        },
        {
            "way": "exact labels alone",
            "ms": evidence.settled_ms,
            "runs": float(evidence.settling(()).runs.mean()),
            "agreement": 1.0,
            "accuracy": accuracy,
        },
    ]
    for way, (runs, weights) in ways.items():
        mixture = Mixture(weights, *evidence.exact.shape)
        for run in runs:
            mixture.add(run, evidence.answers[run])
        labels = mixture.mean().argmax(axis=1)
        rows.append(
            {
                "way": way,
                "ms": run_cost(runs, evidence.costs),
                "runs": len(runs),
                "agreement": float((labels == evidence.exact.argmax(axis=1)).mean()),
                "accuracy": float((labels == evidence.labels).mean()),
            }
        )
    for number, candidate in enumerate(candidates, start=1):
        figures = {key: value for key, value in candidate.figures.items() if key != "left"}
        rows.append({"way": f"fast {number}", **figures})
    return rows
