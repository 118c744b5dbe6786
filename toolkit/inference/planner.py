"""Finds the cheapest way to give the exact ensemble's labels, from the held-out photos alone.

Steps are added greedily by what they save: after each, the photos whose label is clear leave, and
only the rest cost the exact ensemble (arXiv 2012.01988). Members, views and precisions mix freely,
because one view a member is often nearly as good as all (arXiv 2002.06470). How likely a photo's
label differs from the exact ensemble's is a logistic function of its margin, fitted after averaging
(arXiv 2007.08792).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Bundle, BundleValidation
from toolkit.inference.plan import (
    EXACT,
    Candidate,
    Mixture,
    Plan,
    Run,
    described,
    exact_runs,
    margins,
    run_cost,
)
from toolkit.inference.promise import Promise, choose_sample
from toolkit.inference.voting import Voting, vote

RISKS = tuple(np.geomspace(1e-3, 0.5, 18).tolist())
"""Chances of another label at which a photo may leave; each makes one candidate."""

BASE_RISKS = (0.5, 1.0, 2.0, 4.0)
"""Steps are looked for at these multiples of the tolerance, and the cheapest plan is taken."""

LEAST_SAVING = 0.005
"""Share of the exact ensemble's cost that a further step must save."""

SLOPE_DEVIATION = 2.5
"""Of the prior of a slope on standardized margins (Gelman et al. 2008)."""


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
    best: tuple[float, tuple[tuple[Run, ...], ...], list[Candidate]] | None = None
    for multiple in BASE_RISKS:
        steps = find_steps(evidence, min(multiple * promise.tolerance, RISKS[-1]))
        candidates = find_candidates(evidence, steps)
        cost = price(candidates, evidence.exact_ms, promise, photos, len(evidence.labels))
        if best is None or cost < best[0]:
            best = (cost, steps, candidates)
    assert best is not None
    _, steps, found = best
    return Plan(
        bundle=bundle.sha256,
        views=evidence.views,
        voting=described(bundle, voting),
        device=device,
        tolerance=promise.tolerance,
        confidence=promise.confidence,
        photos=len(evidence.labels),
        exact_ms=evidence.exact_ms,
        costs=evidence.costs,
        steps=steps if found else (),
        candidates=tuple(found),
        table=tuple(_table(evidence, found)),
    )


def price(
    candidates: Sequence[Candidate],
    exact_ms: float,
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
        exact_ms,
    ).expected_cost


def find_steps(evidence: Evidence, risk: float) -> tuple[tuple[Run, ...], ...]:
    """Add the step that saves most, as long as one saves.

    Args:
        evidence: From `gather`.
        risk: Chance of another label at which a photo may leave.

    Returns:
        The steps.
    """
    labels = evidence.exact.argmax(axis=1)
    staying = np.arange(len(labels))
    mixture = Mixture(evidence.weights, *evidence.exact.shape)
    seen: set[tuple[str, int]] = set()
    steps: list[tuple[Run, ...]] = []
    while len(staying):
        least, chosen = len(staying) * evidence.rest_ms(steps), None
        least -= LEAST_SAVING * evidence.exact_ms * len(labels)
        for runs in _groups(evidence, seen):
            trial = mixture.copy()
            for run in runs:
                trial.add(run, evidence.answers[run][staying])
            mean = trial.mean()
            clear = margins(mean)
            rule = LeavingRule.fitted(clear, mean.argmax(axis=1) != labels[staying])
            stays = clear < rule.threshold(risk)
            cost = len(staying) * run_cost(runs, evidence.costs)
            cost += stays.sum() * evidence.rest_ms([*steps, runs])
            if cost < least:
                least, chosen = cost, (runs, trial, stays)
        if chosen is None:
            break
        runs, mixture, stays = chosen
        steps.append(runs)
        seen |= {(run.member, run.view) for run in runs}
        mixture.keep(stays)
        staying = staying[stays]
    return tuple(steps)


def find_candidates(evidence: Evidence, steps: Sequence[Sequence[Run]]) -> list[Candidate]:
    """Return ways to carry out steps, from conservative to aggressive, each cheaper than the last.

    Args:
        evidence: From `gather`.
        steps: From `find_steps`.
    """
    found: list[Candidate] = []
    cheapest = evidence.exact_ms
    for risk in RISKS if steps else ():
        thresholds, expected = _thresholds(evidence, steps, risk)
        done = carry_out(evidence, steps, thresholds)
        figures = {**_figures(evidence, steps, done), "risk": expected}
        if figures["ms"] < cheapest:
            cheapest = float(figures["ms"])
            found.append(Candidate(thresholds, figures))
    return found


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
class LeavingRule:
    """How likely a label differs from the exact ensemble's, by its margin.

    Attributes:
        intercept: Of the logistic function of the margin.
        slope: Below 0.
    """

    intercept: float
    slope: float

    @classmethod
    def fitted(cls, clear: NDArray[np.float64], differs: NDArray[np.bool_]) -> LeavingRule:
        """Fit to photos.

        The slope on standardized margins has a normal prior (Gelman et al. 2008); half a differing
        and half an agreeing photo, spread over the margins, keep the chance from 0 where no photo
        was seen to differ.

        Args:
            clear: Margins, shape (photos,).
            differs: Whether the label is another than the exact ensemble's, shape (photos,).
        """
        middle, spread = float(clear.mean()), float(clear.std()) or 1.0
        quantiles = np.quantile(clear, (0.1, 0.3, 0.5, 0.7, 0.9))
        margin = (np.concatenate([clear, quantiles, quantiles]) - middle) / spread
        outcome = np.concatenate([differs.astype(np.float64), np.ones(5), np.zeros(5)])
        weight = np.concatenate([np.ones(len(clear)), np.full(10, 0.1)])
        intercept, slope = _logistic(margin, outcome, weight)
        return cls(intercept - slope * middle / spread, slope / spread)

    def threshold(self, risk: float) -> float:
        """Return the margin from which on the chance of another label is at most `risk`."""
        if self.slope >= 0:
            return float("inf")
        return max(0.0, (math.log(risk / (1 - risk)) - self.intercept) / self.slope)

    def risk(self, clear: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the chance of another label for margins of shape (photos,)."""
        return 1 / (1 + np.exp(-np.clip(self.intercept + self.slope * clear, -30, 30)))


def _logistic(
    margin: NDArray[np.float64], outcome: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Return intercept and slope of a logistic regression, by Newton's method."""
    design = np.stack([np.ones_like(margin), margin])
    prior = np.array([0.0, 1 / SLOPE_DEVIATION**2])
    found = np.array([-2.0, -1.0])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(found @ design, -30, 30)))
        gradient = design @ (weight * (outcome - chance)) - prior * found
        curvature = (design * (weight * chance * (1 - chance))) @ design.T + np.diag(prior + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        found = found + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return float(found[0]), float(found[1])


def _thresholds(
    evidence: Evidence, steps: Sequence[Sequence[Run]], risk: float
) -> tuple[tuple[float, ...], float]:
    """Return thresholds, and the share of photos expected to leave with another label."""
    expected = 0.0
    labels = evidence.exact.argmax(axis=1)
    staying = np.arange(len(labels))
    mixture = Mixture(evidence.weights, *evidence.exact.shape)
    thresholds: list[float] = []
    for runs in steps:
        if not len(staying):
            # No photo tells how clear is clear enough here: whoever comes goes on.
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
    return tuple(thresholds), expected / len(labels)


def _groups(evidence: Evidence, seen: set[tuple[str, int]]) -> Iterator[tuple[Run, ...]]:
    """Yield what may be run next: single views, a view and its mirror, all views, all members."""
    names = list(evidence.weights)
    precisions = sorted({run.precision for run in evidence.answers})
    spans = {(view,) for view in range(evidence.views)} | {
        tuple(range(count)) for count in (2, evidence.views) if count <= evidence.views
    }
    teams = [(name,) for name in names] + ([tuple(names)] if len(names) > 1 else [])
    offered: set[tuple[Run, ...]] = set()
    for precision in precisions:
        for team in teams:
            for span in sorted(spans):
                runs = tuple(
                    Run(name, precision, view)
                    for name in team
                    for view in span
                    if (name, view) not in seen and Run(name, precision, view) in evidence.answers
                )
                if runs and runs not in offered:
                    offered.add(runs)
                    yield runs


def _figures(
    evidence: Evidence, steps: Sequence[Sequence[Run]], done: CarriedOut
) -> dict[str, Any]:
    photos = len(done.left)
    share = [float((done.left == number).mean()) for number in range(len(steps))]
    labels = done.answers.argmax(axis=1)
    ms = runs = 0.0
    for number, step in enumerate(steps):
        reached = float((done.left >= number).sum() / photos)
        ms += reached * run_cost(step, evidence.costs)
        runs += reached * len(step)
    rest = evidence.rest(steps)
    exactly = float((done.left == len(steps)).mean())
    return {
        "ms": ms + exactly * run_cost(rest, evidence.costs),
        "runs": runs + exactly * len(rest),
        "left": share,
        "agreement": float((labels == evidence.exact.argmax(axis=1)).mean()),
        "accuracy": float((labels == evidence.labels).mean()),
    }


def _table(evidence: Evidence, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
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
    rows = [
        {
            "way": "exact",
            "ms": evidence.exact_ms,
            "runs": len(names) * len(views),
            "agreement": 1.0,
            "accuracy": float((evidence.exact.argmax(axis=1) == evidence.labels).mean()),
        }
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
