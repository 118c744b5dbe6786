"""What is run: a member in a precision, looking at one view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Weights = Mapping["ModelKey", float]
"""The full ensemble: its members in their own precision, with weights over 0 that sum to 1."""

Costs = Mapping["ModelKey", float]
"""Milliseconds an image."""


@dataclass(frozen=True, order=True)
class ModelKey:
    """A member in a precision: `fp32`, or one of its variants."""

    member: str
    precision: str

    def __str__(self) -> str:
        """Return it as reports show it; it is never read back."""
        return f"{self.member} {self.precision}"


@dataclass(frozen=True, order=True)
class ModelCall:
    """One network looks at one view.

    Attributes:
        member: Its name.
        precision: See `ModelKey`.
        view: Number in `toolkit.inference.views.VIEWS`.
    """

    member: str
    precision: str
    view: int

    @property
    def key(self) -> ModelKey:
        """What looks."""
        return ModelKey(self.member, self.precision)


def full_calls(weights: Weights, views: int) -> list[ModelCall]:
    """Return all calls of the full ensemble: every member, every view."""
    return [ModelCall(key.member, key.precision, view) for key in weights for view in range(views)]


def calls_ms(calls: Iterable[ModelCall], costs: Costs) -> float:
    """Return the milliseconds a photo that calls take."""
    return sum(costs[call.key] for call in calls)
