"""Weighted soft voting over members and views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UsageError, argument, nearest, suggestion

if TYPE_CHECKING:
    from toolkit.inference.bundle import Bundle, Voter
    from toolkit.inference.calls import ModelCall, Weights

SMALLEST = 1e-9
"""Probabilities are clipped to this before a logarithm."""


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
            `NAME=W,NAME=W,...` of members or bags (members not named get 0).

    Returns:
        The weights.

    Raises:
        UsageError: There is no such alternative or member, or a weight is no number.
    """
    alternatives = bundle.voting[views].alternatives
    if "=" in wanted:
        return Voting("custom", _custom(bundle, wanted))
    name = bundle.voting[views].choice if wanted == "auto" else wanted
    if name not in alternatives:
        raise UsageError(
            f"{argument('voting', wanted)}: this bundle has no such voting. Expected auto, "
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


def _custom(bundle: Bundle, wanted: str) -> tuple[float, ...]:
    """Return one weight a member; that of a bag is shared by its networks."""
    members = [member.name for member in bundle.members]
    if not bundle.has_bags:
        return parse_weights(wanted, members)
    bags = bundle.voters
    given = parse_weights(wanted, [*members, *(bag.name for bag in bags)])
    own, of_bags = given[: len(members)], given[len(members) :]
    return tuple(map(sum, zip(own, share_out(of_bags, bags), strict=True)))


def share_out(weights: Sequence[float], voters: Sequence[Voter]) -> tuple[float, ...]:
    """Return one weight a network, given one a voter: those of a bag vote alike."""
    shared: dict[int, float] = {}
    for weight, voter in zip(weights, voters, strict=True):
        shared |= dict.fromkeys(voter.members, weight / len(voter.members))
    return tuple(shared[index] for index in sorted(shared))


def parse_weights(text: str, members: Sequence[str]) -> tuple[float, ...]:
    """Read `NAME=W,NAME=W,...` into weights that sum to 1, in the order of `members`.

    Raises:
        UsageError: A name is unknown or stands twice, or the weights are no shares.
    """
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in members:
            raise UsageError(f"`voting`: unknown member '{name}'. {suggestion(name, members)}")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not 0 <= weight < float("inf") or name in given:
            raise UsageError(
                f"`voting`: Expected each NAME=WEIGHT once with a weight of at least 0, "
                f"received '{part}'."
            )
        given[name] = weight
    total = sum(given.values())
    if total == 0:
        raise UsageError("`voting`: Expected at least one weight over 0.")
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


def margins(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how clear each photo's label is: the log of its two best probabilities' ratio.

    Args:
        probabilities: Shape (photos, classes).

    Returns:
        Shape (photos,), at least 0.
    """
    best = np.sort(np.maximum(probabilities, SMALLEST), axis=1)[:, -2:]
    clear: NDArray[np.float64] = np.log(best[:, 1] / best[:, 0])
    return clear


class Mixture:
    """The weighted mean of the calls seen so far, for a fixed set of photos.

    Members count by their weight in the ensemble, a member's views equally. Sums run in a fixed
    order, so a photo's answer does not depend on the others.
    """

    def __init__(self, weights: Weights, photos: int, classes: int) -> None:
        """Begin with no call seen."""
        self._weights = {key.member: weight for key, weight in weights.items()}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._counts: dict[str, int] = {}
        self._shape = (photos, classes)

    def add(self, call: ModelCall, probabilities: NDArray[np.floating]) -> None:
        """Add what a call says, shape (photos, classes)."""
        known = self._sums.get(call.member)
        added = probabilities.astype(np.float64)
        self._sums[call.member] = added if known is None else known + added
        self._counts[call.member] = self._counts.get(call.member, 0) + 1

    def mean(self) -> NDArray[np.float64]:
        """Return the mixture, shape (photos, classes)."""
        mixed, total = np.zeros(self._shape), 0.0
        for member, sums in sorted(self._sums.items()):
            mixed += self._weights[member] * (sums / self._counts[member])
            total += self._weights[member]
        return mixed / total

    def copy(self) -> Mixture:
        """Return a copy to which other runs may be added."""
        copied = Mixture({}, *self._shape)
        copied._weights = self._weights
        copied._sums, copied._counts = dict(self._sums), dict(self._counts)
        return copied

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Go on with a part of the photos only, shape (photos,)."""
        self._sums = {member: sums[chosen] for member, sums in self._sums.items()}
        self._shape = (int(chosen.sum()), self._shape[1])
