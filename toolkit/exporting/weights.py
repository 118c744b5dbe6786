"""Finds voting weights on the validation photos, and whether they are worth having."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize, minimize_scalar

from toolkit.bootstrap import label_values, standard_error
from toolkit.inference.bundle import Alternative, BestSingle, VotingTable
from toolkit.inference.voting import soften
from toolkit.metrics import (
    METRICS,
    SMALLEST_PROBABILITY,
    Answers,
    Metric,
    log_losses,
    measure,
)

SHRINKAGE = 0.05
"""Weight of the squared distance from uniform weights, beside a mean log-loss in nats."""

FOLDS = 5
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0

Probabilities = NDArray[np.float64]
"""Shape (members, photos, classes), already averaged over views."""

Labels = NDArray[np.int64]
Weights = NDArray[np.float64]
Way = Callable[[Probabilities, Labels], Weights]

LOG_LOSS = METRICS["log-loss"]
SELECTED = "selected"
"""Weights found for the metric itself, see `selected_weights`."""

VOTES = 20
"""Votes that `selected_weights` gives at the most."""

BEST_ALONE = "best alone"
"""The member that is most accurate on the photos it is chosen on, to compare with."""


@dataclass(frozen=True)
class CrossFitted:
    """Weights and a temperature for each fold of photos, found on the photos of the others.

    Attributes:
        folds: Shape (photos,), each photo's fold.
        weights: By fold, shape (members,).
        temperatures: By fold.
    """

    folds: NDArray[np.int64]
    weights: tuple[Weights, ...]
    temperatures: tuple[float, ...]

    def mix(self, probabilities: Probabilities) -> NDArray[np.float64]:
        """Return what the weights make of probabilities, without temperature, (photos, classes)."""
        mixed = np.zeros(probabilities.shape[1:])
        for fold, weights in enumerate(self.weights):
            inside = self.folds == fold
            mixed[inside] = _mix(weights, probabilities[:, inside])
        return mixed

    def judge(self, probabilities: Probabilities) -> NDArray[np.float64]:
        """Return the same with temperature, shape (photos, classes)."""
        judged = self.mix(probabilities)
        for fold, temperature in enumerate(self.temperatures):
            inside = self.folds == fold
            judged[inside] = soften(judged[inside], temperature)
        return judged


@dataclass(frozen=True)
class _Trial:
    """One way to weigh, fitted on all photos, and judged on photos it was not fitted on."""

    weights: Weights
    temperature: float
    judged: Answers
    value: float | None

    @property
    def alternative(self) -> Alternative:
        assert self.judged.probabilities is not None
        return Alternative(
            tuple(self.weights.tolist()),
            self.temperature,
            float((self.judged.predicted == self.judged.labels).mean()),
            float(log_losses(self.judged.probabilities, self.judged.labels).mean()),
            self.value,
        )


def voting_table(
    probabilities: Probabilities,
    labels: Labels,
    groups: NDArray[np.int64],
    members: list[str],
    custom: tuple[float, ...] | None = None,
    *,
    metric: Metric = LOG_LOSS,
    ordered: bool = False,
) -> VotingTable:
    """Compare the ways to weigh the members for one number of views.

    Every figure is cross-fitted: weights and temperature are found on four fifths of the photos
    and judged on the last, near-duplicates on one side.

    Args:
        probabilities: See `Probabilities`.
        labels: Shape (photos,), class indices.
        groups: Shape (photos,), near-duplicate groups.
        members: Names, in the order of the first axis.
        custom: Weights that a user gave, to be compared too.
        metric: What the choice is made by; it has a value for these photos.
        ordered: See `toolkit.metrics.Answers`.

    Returns:
        All alternatives. The best of those that were found for these members, `selected` where it
        was found for the metric and else `fitted`, is chosen where it beats `uniform` by more than
        one standard error of the paired difference; else `uniform`. Without two photos that differ
        nothing can be cross-fitted: `unvalidated_table`.
    """
    if not can_cross_fit(groups):
        reason = "too few photos were held out to judge on"
        return unvalidated_table(len(members), custom, reason, metric)
    folds = _folds(groups, labels)
    trials = {
        name: _trial(way, probabilities, labels, folds, metric, ordered)
        for name, way in _ways(custom, metric).items()
    }
    best = trials.pop(BEST_ALONE)
    choice, reason = _choice(trials, metric)
    return VotingTable(
        choice=choice if len(members) > 1 else "uniform",
        reason=reason,
        alternatives={name: trial.alternative for name, trial in trials.items()},
        best_single=BestSingle(
            name=members[int(best.weights.argmax())],
            accuracy=best.alternative.accuracy,
            log_loss=best.alternative.log_loss,
            value=best.value,
        ),
        metric=metric.name,
    )


def _choice(trials: Mapping[str, _Trial], metric: Metric) -> tuple[str, str]:
    """Return which trial to vote by, and why."""
    uniform = trials["uniform"]
    found = [name for name in (SELECTED, "fitted") if name in trials]
    gains = {name: _gain(metric, trials[name], uniform) for name in found}
    name = max(found, key=lambda name: gains[name])
    gain = gains[name]
    error = standard_error(metric, trials[name].judged, uniform.judged)
    change = gain if metric.larger_is_better else -gain
    reason = (
        f"{name} weights change the cross-fitted {metric.title} of uniform ones by {change:+.4f} "
        f"(standard error {error:.4f})"
    )
    return (name if gain > error else "uniform"), reason


def _gain(metric: Metric, trial: _Trial, uniform: _Trial) -> float:
    if trial.value is None or uniform.value is None:
        return 0.0
    gain = trial.value - uniform.value
    return gain if metric.larger_is_better else -gain


def can_cross_fit(groups: NDArray[np.int64]) -> bool:
    """Say whether two photos differ, given near-duplicate groups of shape (photos,)."""
    return len(np.unique(groups)) > 1


def cross_fitting(
    voting: str,
    probabilities: Probabilities,
    labels: Labels,
    groups: NDArray[np.int64],
    custom: tuple[float, ...] | None = None,
    metric: Metric = LOG_LOSS,
) -> CrossFitted:
    """Find what each photo is to be judged with, as `voting_table` does.

    Args:
        voting: `uniform`, `accuracy`, `fitted`, `selected`, `custom`, or `BEST_ALONE`.
        probabilities: See `Probabilities`.
        labels: Shape (photos,), class indices.
        groups: Shape (photos,), near-duplicate groups, of which there are at least two.
        custom: The weights of `custom`.
        metric: What `selected` is found for.

    Returns:
        Weights and temperatures by fold.
    """
    way = _ways(custom, metric)[voting]
    return _cross_fitted(way, probabilities, labels, _folds(groups, labels))


def unvalidated_table(
    members: int,
    custom: tuple[float, ...] | None = None,
    reason: str = "no photos were held out to find weights on",
    metric: Metric = LOG_LOSS,
) -> VotingTable:
    """Return the table of a bundle without photos to find weights on: uniform weights."""
    uniform = Alternative((1 / members,) * members, 1.0, None, None)
    alternatives = {"uniform": uniform}
    if custom is not None:
        alternatives["custom"] = Alternative(custom, 1.0, None, None)
    return VotingTable("uniform", reason, alternatives, None, metric.name)


def fitted_weights(probabilities: Probabilities, labels: Labels) -> Weights:
    """Minimise the log-loss over the simplex, shrunk towards uniform weights.

    The log-loss of a mixture is convex in its weights, so the minimum found is the only one.
    """
    members = len(probabilities)
    uniform = np.full(members, 1 / members)
    chosen = probabilities[:, np.arange(len(labels)), labels]

    def objective(weights: Weights) -> tuple[float, Weights]:
        mixed = np.maximum(weights @ chosen, SMALLEST_PROBABILITY)
        away = weights - uniform
        loss = float(-np.log(mixed).mean() + SHRINKAGE * away @ away)
        return loss, -(chosen / mixed).mean(axis=1) + 2 * SHRINKAGE * away

    result = minimize(
        objective,
        uniform,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints=LinearConstraint(np.ones((1, members)), 1.0, 1.0),
        options={"ftol": 1e-10, "maxiter": 500},
    )
    # A member with a thousandth of the vote costs a whole run and changes nothing.
    weights = np.where(result.x < 1e-3, 0.0, result.x)
    return np.asarray(weights / weights.sum())


def accuracy_weights(probabilities: Probabilities, labels: Labels) -> Weights:
    """Return weights in proportion to each member's accuracy."""
    accuracy = (probabilities.argmax(axis=2) == labels).mean(axis=1)
    if not accuracy.any():
        return np.full(len(probabilities), 1 / len(probabilities))
    return np.asarray(accuracy / accuracy.sum())


def can_select(metric: Metric) -> bool:
    """Return whether weights can be found for a metric itself: where labels alone decide it."""
    return not metric.needs_probabilities


def selected_weights(probabilities: Probabilities, labels: Labels, metric: Metric) -> Weights:
    """Give one vote after another to the member that helps the metric most.

    This is ensemble selection with replacement (Caruana et al. 2004): it needs no gradient, so that
    it serves any metric. Equal gains are decided by the log-loss.

    Args:
        probabilities: See `Probabilities`.
        labels: Shape (photos,), class indices.
        metric: One that `can_select`.

    Returns:
        The shares of votes, as they were when the metric was best.
    """
    members, once = len(probabilities), np.ones((1, len(labels)))
    votes, total = np.zeros(members), np.zeros(probabilities.shape[1:])
    best, best_rank = np.full(members, 1 / members), (-np.inf, -np.inf)
    for given in range(1, VOTES + 1):
        ranks = []
        for member in range(members):
            mixed = (total + probabilities[member]) / given
            value = label_values(metric.name, labels, mixed.argmax(axis=1), once)[0]
            ranks.append((float(np.nan_to_num(value, nan=-1.0)), -_loss(mixed, labels)))
        member = max(range(members), key=lambda number: ranks[number])
        votes[member] += 1
        total += probabilities[member]
        if ranks[member] > best_rank:
            best, best_rank = votes / given, ranks[member]
    return best


def _loss(mixed: NDArray[np.float64], labels: Labels) -> float:
    return float(log_losses(mixed, labels).mean())


def fitted_temperature(mixed: NDArray[np.float64], labels: Labels) -> float:
    """Find the temperature of least log-loss for averaged probabilities (arXiv 2007.08792).

    Args:
        mixed: Shape (photos, classes).
        labels: Shape (photos,), class indices.
    """
    # Logarithms once: powers of all probabilities at every step take minutes at 1,000 classes.
    logs = np.log(np.maximum(mixed, np.finfo(np.float64).tiny))
    logs -= logs.max(axis=1, keepdims=True)
    true = logs[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        sharpness = np.exp(-log_temperature)
        powers = logs * sharpness
        np.exp(powers, out=powers)
        losses = np.log(powers.sum(axis=1)) - true * sharpness
        return float(np.minimum(losses, -np.log(SMALLEST_PROBABILITY)).mean())

    bounds = (np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _ways(custom: tuple[float, ...] | None, metric: Metric) -> dict[str, Way]:
    ways: dict[str, Way] = {
        "uniform": lambda some, _: np.full(len(some), 1 / len(some)),
        "accuracy": accuracy_weights,
        "fitted": fitted_weights,
        BEST_ALONE: _best_single,
    }
    if can_select(metric):
        ways[SELECTED] = lambda some, theirs: selected_weights(some, theirs, metric)
    if custom is not None:
        ways["custom"] = lambda some, _: np.array(custom)
    return ways


def _trial(
    way: Way,
    probabilities: Probabilities,
    labels: Labels,
    folds: NDArray[np.int64],
    metric: Metric,
    ordered: bool,
) -> _Trial:
    judged = _cross_fitted(way, probabilities, labels, folds).judge(probabilities)
    weights, temperature = _fit(way, probabilities, labels)
    answers = Answers.of(judged, labels, ordered=ordered)
    return _Trial(weights, temperature, answers, measure(metric, answers))


def _cross_fitted(
    way: Way, probabilities: Probabilities, labels: Labels, folds: NDArray[np.int64]
) -> CrossFitted:
    outside = [folds != fold for fold in range(folds.max() + 1)]
    fitted = [_fit(way, probabilities[:, others], labels[others]) for others in outside]
    return CrossFitted(
        folds,
        tuple(weights for weights, _ in fitted),
        tuple(temperature for _, temperature in fitted),
    )


def _fit(way: Way, probabilities: Probabilities, labels: Labels) -> tuple[Weights, float]:
    weights = way(probabilities, labels)
    return weights, fitted_temperature(_mix(weights, probabilities), labels)


def _mix(weights: Weights, probabilities: Probabilities) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = np.tensordot(weights, probabilities, axes=1)
    return mixed


def _best_single(probabilities: Probabilities, labels: Labels) -> Weights:
    accuracy = (probabilities.argmax(axis=2) == labels).mean(axis=1)
    weights: Weights = np.eye(len(probabilities))[int(accuracy.argmax())]
    return weights


def _folds(groups: NDArray[np.int64], labels: Labels) -> NDArray[np.int64]:
    """Assign photos to folds, whole groups together, classes evenly; always in the same way."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    count = len(first)
    order = np.random.default_rng(0).permutation(count)
    order = order[np.argsort(labels[first][order], kind="stable")]
    folds = np.empty(count, dtype=np.int64)
    folds[order] = np.arange(count) % min(FOLDS, count)
    dealt: NDArray[np.int64] = folds[group]
    return dealt
