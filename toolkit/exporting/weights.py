"""Finds voting weights on the validation photos, and whether they are worth having."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize, minimize_scalar

from toolkit.inference.bundle import Alternative, VotingTable
from toolkit.inference.voting import soften
from toolkit.metrics import SMALLEST_PROBABILITY, log_losses

SHRINKAGE = 0.05
"""Weight of the squared distance from uniform weights, beside a mean log-loss in nats."""

FOLDS = 5
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0

Probabilities = NDArray[np.float64]
"""Shape (members, photos, classes), already averaged over views."""

Labels = NDArray[np.int64]
Weights = NDArray[np.float64]
Way = Callable[[Probabilities, Labels], Weights]

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
    losses: NDArray[np.float64]
    right: NDArray[np.bool_]

    @property
    def alternative(self) -> Alternative:
        return Alternative(
            tuple(self.weights.tolist()),
            self.temperature,
            float(self.right.mean()),
            float(self.losses.mean()),
        )


def voting_table(
    probabilities: Probabilities,
    labels: Labels,
    groups: NDArray[np.int64],
    members: list[str],
    custom: tuple[float, ...] | None = None,
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

    Returns:
        All alternatives. `fitted` is chosen where its log-loss beats that of `uniform` by more
        than one standard error of the paired difference; else `uniform`. Without two photos that
        differ nothing can be cross-fitted: `unvalidated_table`.
    """
    if not can_cross_fit(groups):
        return unvalidated_table(len(members), custom, "too few photos were held out to judge on")
    folds = _folds(groups)
    trials = {
        name: _trial(way, probabilities, labels, folds) for name, way in _ways(custom).items()
    }
    best = trials.pop(BEST_ALONE)
    gain = trials["uniform"].losses - trials["fitted"].losses
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    pays = len(members) > 1 and float(gain.mean()) > error
    reason = (
        f"fitted weights change the cross-fitted log-loss of uniform ones by {-gain.mean():+.4f} "
        f"(standard error {error:.4f})"
    )
    return VotingTable(
        choice="fitted" if pays else "uniform",
        reason=reason,
        alternatives={name: trial.alternative for name, trial in trials.items()},
        best_single={
            "name": members[int(best.weights.argmax())],
            "accuracy": best.alternative.accuracy,
            "log_loss": best.alternative.log_loss,
        },
    )


def can_cross_fit(groups: NDArray[np.int64]) -> bool:
    """Say whether two photos differ, given near-duplicate groups of shape (photos,)."""
    return len(np.unique(groups)) > 1


def cross_fitting(
    voting: str,
    probabilities: Probabilities,
    labels: Labels,
    groups: NDArray[np.int64],
    custom: tuple[float, ...] | None = None,
) -> CrossFitted:
    """Find what each photo is to be judged with, as `voting_table` does.

    Args:
        voting: `uniform`, `accuracy`, `fitted`, `custom`, or `BEST_ALONE`.
        probabilities: See `Probabilities`.
        labels: Shape (photos,), class indices.
        groups: Shape (photos,), near-duplicate groups, of which there are at least two.
        custom: The weights of `custom`.

    Returns:
        Weights and temperatures by fold.
    """
    return _cross_fitted(_ways(custom)[voting], probabilities, labels, _folds(groups))


def unvalidated_table(
    members: int,
    custom: tuple[float, ...] | None = None,
    reason: str = "no photos were held out to find weights on",
) -> VotingTable:
    """Return the table of a bundle without photos to find weights on: uniform weights."""
    uniform = Alternative((1 / members,) * members, 1.0, None, None)
    alternatives = {"uniform": uniform}
    if custom is not None:
        alternatives["custom"] = Alternative(custom, 1.0, None, None)
    return VotingTable("uniform", reason, alternatives, {})


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


def _ways(custom: tuple[float, ...] | None) -> dict[str, Way]:
    ways: dict[str, Way] = {
        "uniform": lambda some, _: np.full(len(some), 1 / len(some)),
        "accuracy": accuracy_weights,
        "fitted": fitted_weights,
        BEST_ALONE: _best_single,
    }
    if custom is not None:
        ways["custom"] = lambda some, _: np.array(custom)
    return ways


def _trial(
    way: Way, probabilities: Probabilities, labels: Labels, folds: NDArray[np.int64]
) -> _Trial:
    judged = _cross_fitted(way, probabilities, labels, folds).judge(probabilities)
    weights, temperature = _fit(way, probabilities, labels)
    return _Trial(weights, temperature, log_losses(judged, labels), judged.argmax(axis=1) == labels)


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


def _folds(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign photos to folds, whole groups together; always in the same way."""
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    folds = np.arange(count) % min(FOLDS, count)
    shuffled: NDArray[np.int64] = np.random.default_rng(0).permutation(folds)[group]
    return shuffled
