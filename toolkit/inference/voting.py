"""Weighted soft voting over members and views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UsageError, nearest, suggestion

if TYPE_CHECKING:
    from toolkit.inference.bundle import Bundle


@dataclass(frozen=True)
class Voting:
    """How members' probabilities become the ensemble's.

    Attributes:
        name: Which of the bundle's alternatives this is, or `custom`, or `uniform` with a reason.
        weights: One a member, in the bundle's order, summing to 1. A member of weight 0 is never
            loaded.
        temperature: The averaged probabilities are sharpened (below 1) or softened (above 1) by
            it; this never changes a label.
    """

    name: str
    weights: tuple[float, ...]
    temperature: float = 1.0


def choose_voting(bundle: Bundle, views: int, wanted: str) -> Voting:
    """Find the weights to vote with.

    Args:
        bundle: Its manifest holds the alternatives for each number of views.
        views: Number of views a photo.
        wanted: `auto` for what the export chose, the name of an alternative, or
            `NAME=W,NAME=W,...` (members not named get 0).

    Returns:
        The weights.

    Raises:
        UsageError: There is no such alternative or member, or a weight is no number.
    """
    alternatives = bundle.voting[views].alternatives
    if "=" in wanted:
        names = [member.name for member in bundle.members]
        return Voting("custom", parse_weights(wanted, names))
    name = bundle.voting[views].choice if wanted == "auto" else wanted
    if name not in alternatives:
        raise UsageError(
            f"--voting {wanted}: this bundle has no such voting. Expected auto, "
            f"{', '.join(alternatives)}, or NAME=WEIGHT,... "
            f"{nearest(wanted, ['auto', *alternatives])}".rstrip()
        )
    return Voting(name, alternatives[name].weights, alternatives[name].temperature)


def voting_on_random_views(bundle: Bundle, views: int, wanted: str) -> Voting:
    """Find the weights to vote with on views that the export never saw.

    The bundle's weights and temperatures were found on the fixed views. So `auto` means one vote a
    member and temperature 1; whatever else is wanted is taken as by `choose_voting`.
    """
    if wanted != "auto":
        return choose_voting(bundle, views, wanted)
    members = len(bundle.members)
    return Voting("uniform, as the others are for fixed views", (1 / members,) * members)


def parse_weights(text: str, members: Sequence[str]) -> tuple[float, ...]:
    """Read `NAME=W,NAME=W,...` into weights that sum to 1, in the order of `members`.

    Raises:
        UsageError: A name is unknown or stands twice, or the weights are no shares.
    """
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in members:
            raise UsageError(f"--voting: unknown member '{name}'. {suggestion(name, members)}")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not 0 <= weight < float("inf") or name in given:
            raise UsageError(
                f"--voting: Expected each NAME=WEIGHT once with a weight of at least 0, "
                f"received '{part}'."
            )
        given[name] = weight
    total = sum(given.values())
    if total == 0:
        raise UsageError("--voting: Expected at least one weight over 0.")
    return tuple(given.get(member, 0.0) / total for member in members)


def vote(
    probabilities: Sequence[NDArray[np.floating]], weights: Sequence[float], temperature: float
) -> NDArray[np.float64]:
    """Average over views, then over members by weight, then apply the temperature.

    Sums run in a fixed order a photo, so the result does not depend on the batch.

    Args:
        probabilities: One array a member, shape (photos, views, classes).
        weights: One a member, summing to 1.
        temperature: See `Voting`.

    Returns:
        Shape (photos, classes), rows summing to 1.
    """
    mixed = np.zeros(probabilities[0][:, 0].shape, dtype=np.float64)
    for member, weight in zip(probabilities, weights, strict=True):
        views = np.zeros_like(mixed)
        for view in range(member.shape[1]):
            views += member[:, view]
        mixed += weight * (views / member.shape[1])
    return soften(mixed, temperature)


def soften(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Apply a temperature to probabilities of shape (photos, classes) (Guo et al. 2017)."""
    if temperature != 1.0:
        probabilities = np.maximum(probabilities, np.finfo(np.float64).tiny) ** (1 / temperature)
    softened: NDArray[np.float64] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return softened
