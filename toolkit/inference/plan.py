"""A plan: in which steps photos are looked at, and when a photo may exit.

The full ensemble is a plan of one step; label-exact a plan of several, between which photos exit
whose label no call to come can change; a cascade has thresholds too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from toolkit.artifacts import explain
from toolkit.errors import ToolkitError
from toolkit.files import read_json, sha256_json, write_json
from toolkit.inference.bundle import Bundle
from toolkit.inference.calls import Costs, ModelCall, ModelKey, Weights, full_calls
from toolkit.inference.exits import settling_steps
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import Voting

Method = Literal["full", "label-exact", "cascade"]

CASCADE = "cascade"
"""Before its number the name of a threshold set in a plan's table."""

MOST_SETS = 50
"""Threshold sets of a plan: one bit each tells whose label differs, in a float64 of 53 bits."""

Share = Annotated[float, Field(ge=0, le=1)]
Cost = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Threshold = Annotated[
    float,
    BeforeValidator(lambda value: math.inf if value is None else value),
    Field(ge=0),  # JSON has no infinity.
    PlainSerializer(lambda value: None if value == math.inf else value, when_used="json"),
]
Steps = tuple[Annotated[tuple[ModelCall, ...], Field(min_length=1)], ...]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Voter(_Strict):
    """A member of the full ensemble, in its own precision; without a vote where its weight is 0."""

    member: str
    precision: str
    weight: Share


class PlanVoting(_Strict):
    """The full ensemble's voting: see `toolkit.inference.voting.Voting`."""

    name: str
    members: Annotated[tuple[Voter, ...], Field(min_length=1)]
    temperature: Cost

    @classmethod
    def of(cls, bundle: Bundle, voting: Voting) -> PlanVoting:
        """Return a voting as a plan holds it."""
        voters = tuple(
            Voter(member=member.name, precision=member.precision, weight=weight)
            for member, weight in zip(bundle.members, voting.weights, strict=True)
        )
        return cls(name=voting.name, members=voters, temperature=voting.temperature)

    @property
    def weights(self) -> Weights:
        """Of the members that vote."""
        return {ModelKey(v.member, v.precision): v.weight for v in self.members if v.weight > 0}


class Way(_Strict):
    """A way to predict, as the held-out photos tell.

    Attributes:
        way: Its name.
        ms: Inference cost a photo.
        calls: Model calls a photo.
        agreement: Share of labels that are the full ensemble's.
        accuracy: Share of labels that are right.
        risk: Expected share of photos that exit with another label; None where none exits.
    """

    way: str
    ms: Cost
    calls: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    agreement: Share
    accuracy: Share
    risk: Share | None = None


class ThresholdSet(_Strict):
    """One way to carry out the steps of a plan.

    Attributes:
        thresholds: One a step: a photo exits after it when its margin (see `margins`) reaches the
            threshold. Infinite where none exits.
        ms: Expected inference cost a photo, by the held-out photos.
        calls: Expected model calls a photo.
        exits: Share of the held-out photos that exit after each step.
        agreement: Share of their labels that are the full ensemble's.
        accuracy: Share of their labels that are right.
        risk: Expected share of photos that exit with another label.
    """

    thresholds: tuple[Threshold, ...]
    ms: Cost
    calls: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    exits: tuple[Share, ...]
    agreement: Share
    accuracy: Share
    risk: Share


class MeasuredCost(_Strict):
    """What a member costs in a precision, in milliseconds an image."""

    member: str
    precision: str
    ms: Cost


class PlanDevice(_Strict):
    """What costs were measured on: `cpu`, `cuda` or `tensorrt`, and its name."""

    kind: str
    name: str


class PlanSearch(_Strict):
    """What a plan was found for, and from.

    Attributes:
        device: What the costs were measured on.
        tolerance: Largest share of labels that may differ.
        confidence: That no more do.
        photos: Held-out photos that it was found on.
        full_ms: Cost a photo of the full ensemble.
        settled_ms: Cost a photo of its labels alone, by the held-out photos.
        costs: Of the members.
        table: Cost against agreement and accuracy on the held-out photos.
    """

    device: PlanDevice
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    photos: Annotated[int, Field(ge=1)]
    full_ms: Cost
    settled_ms: Cost
    costs: tuple[MeasuredCost, ...]
    table: tuple[Way, ...]

    @property
    def costs_by_key(self) -> Costs:
        """Milliseconds an image."""
        return {ModelKey(cost.member, cost.precision): cost.ms for cost in self.costs}


class CascadePlan(_Strict):
    """A way to predict.

    Attributes:
        bundle: Hash of the bundle it was made for.
        views: Views a photo of the full ensemble.
        voting: The full ensemble's.
        steps: What is called after what, with thresholds to exit after each.
        threshold_sets: From conservative to aggressive.
        rest: What is called then, of the full ensemble's calls, until no call to come can change
            a photo's label.
        search: What it was found for and from; None where nothing was searched.
    """

    bundle: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    views: Annotated[int, Field(ge=1, le=len(VIEWS))]
    voting: PlanVoting
    steps: Steps = ()
    threshold_sets: Annotated[tuple[ThresholdSet, ...], Field(max_length=MOST_SETS)] = ()
    rest: Steps
    search: PlanSearch | None = None

    @classmethod
    def full(cls, bundle: Bundle, voting: Voting, views: int) -> CascadePlan:
        """Return the plan of the full ensemble: all calls in one step."""
        described = PlanVoting.of(bundle, voting)
        rest = (tuple(full_calls(described.weights, views)),)
        return cls(bundle=bundle.sha256, views=views, voting=described, rest=rest)

    @classmethod
    def label_exact(cls, bundle: Bundle, voting: Voting, views: int, costs: Costs) -> CascadePlan:
        """Return the plan of its labels alone: what settles them for least comes first."""
        described = PlanVoting.of(bundle, voting)
        rest = settling_steps((), described.weights, views, costs)
        return cls(bundle=bundle.sha256, views=views, voting=described, rest=rest)

    @property
    def without_steps(self) -> CascadePlan:
        """Its labels alone: what is carried out where no threshold set may be."""
        if not self.steps or self.search is None:
            return self
        rest = settling_steps((), self.weights, self.views, self.search.costs_by_key)
        return self.model_copy(update={"steps": (), "threshold_sets": (), "rest": rest})

    def with_threshold_sets(self, sets: Sequence[ThresholdSet]) -> CascadePlan:
        """Return it with fewer; without any it has no steps."""
        if not sets:
            return self.without_steps
        return self.model_copy(update={"threshold_sets": tuple(sets)})

    @property
    def method(self) -> Method:
        """What it is."""
        if self.threshold_sets:
            return "cascade"
        return "full" if len(self.rest) == 1 else "label-exact"

    @property
    def weights(self) -> Weights:
        """Of the full ensemble's members that vote."""
        return self.voting.weights

    @property
    def calls(self) -> list[ModelCall]:
        """All of its calls, in order."""
        return [call for step in (*self.steps, *self.rest) for call in step]

    @property
    def sha256(self) -> str:
        """Hash of its content."""
        return sha256_json(self.content)

    @property
    def content(self) -> dict[str, Any]:
        """All of it as JSON can hold it; what `save_plan` writes."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, problem in _problems(self):
            raise ValueError(f"{key}: {problem}")
        return self

    def check(self, bundle: Bundle, voting: Voting, views: int, source: str) -> None:
        """Refuse a plan that was made for something else.

        Args:
            bundle: What it shall be carried out with.
            voting: Likewise.
            views: Views a photo of the full ensemble.
            source: The plan's file, for messages.

        Raises:
            ToolkitError: It was made for another bundle, voting or number of views, or calls what
                the bundle does not have.
        """
        if self.bundle != bundle.sha256:
            differs = f"bundle: Expected that of {bundle.folder}, received another"
        elif self.views != views:
            differs = f"views: Expected {views}, received {self.views}"
        elif self.voting != PlanVoting.of(bundle, voting):
            differs = f"voting: Expected '{voting.name}', received another ('{self.voting.name}')"
        else:
            members = {member.name: member for member in bundle.members}
            for call in self.calls:
                try:
                    members[call.member].variant(call.precision)
                except ToolkitError as error:
                    raise ToolkitError(f"{source}: steps: {error}") from None
            return
        raise ToolkitError(
            f"{source}: {differs}. Make a plan with 'toolkit plan' for the same bundle, views and "
            "voting."
        )


def _problems(plan: CascadePlan) -> Iterator[tuple[str, str]]:
    """Yield what is inconsistent: the key, and what is wrong there."""
    names = [voter.member for voter in plan.voting.members]
    if len(set(names)) < len(names):
        yield "voting.members", "Expected each member once."
    if abs(sum(plan.weights.values()) - 1) > 1e-6:
        yield "voting.members", "Expected weights that sum to 1."
    voters = {key.member for key in plan.weights}
    for part, steps in (("steps", plan.steps), ("rest", plan.rest)):
        calls = [call for step in steps for call in step]
        for call in calls:
            said = f"'{call.member}' {call.precision} view {call.view}"
            if call.member not in voters:
                yield part, f"{said}: Expected a member that has a vote."
            if not 0 <= call.view < plan.views:
                yield part, f"{said}: Expected a view from 0 to {plan.views - 1}."
            if calls.count(call) > 1:
                yield part, f"{said}: Expected each call once."
    stepped = {call for step in plan.steps for call in step}
    missing = [call for call in full_calls(plan.weights, plan.views) if call not in stepped]
    if sorted(call for step in plan.rest for call in step) != sorted(missing):
        yield "rest", "Expected the full ensemble's calls that no step makes, each once."
    if bool(plan.steps) != bool(plan.threshold_sets) or (plan.steps and not plan.search):
        yield "threshold_sets", "Expected steps, threshold_sets and search together, or no steps."
    for each in plan.threshold_sets:
        if len(each.thresholds) != len(plan.steps) or len(each.exits) != len(plan.steps):
            yield "threshold_sets", "Expected one threshold and one share of exits a step."
    if plan.search:
        yield from _unpriced(plan, plan.search.costs)


def _unpriced(plan: CascadePlan, costs: Sequence[MeasuredCost]) -> Iterator[tuple[str, str]]:
    priced = [ModelKey(cost.member, cost.precision) for cost in costs]
    if len(set(priced)) < len(priced):
        yield "search.costs", "Expected each member and precision once."
    for call in plan.calls:
        if call.key not in priced:
            yield "search.costs", f"Expected a cost of '{call.member}' {call.precision}."


def measured_costs(costs: Costs) -> tuple[MeasuredCost, ...]:
    """Return costs as a plan holds them."""
    return tuple(
        MeasuredCost(member=key.member, precision=key.precision, ms=ms) for key, ms in costs.items()
    )


def save_plan(plan: CascadePlan, path: Path) -> None:
    """Write a plan as JSON."""
    write_json(path, {**plan.content, "sha256": plan.sha256})


def load_plan(path: Path) -> CascadePlan:
    """Read a plan.

    Raises:
        ToolkitError: The file is no plan, is inconsistent, or was edited.
    """
    content = read_json(path)
    if not {"steps", "rest", "sha256"} <= set(content):
        raise ToolkitError(f"{path}: is no plan of this toolkit. Make one with 'toolkit plan'.")
    sha256 = content.pop("sha256")
    plan = read_plan(content, str(path))
    if sha256 != plan.sha256:
        raise ToolkitError(f"{path}: sha256: was changed after it was made. Make it again.")
    return plan


def read_plan(content: Any, source: str) -> CascadePlan:
    """Check a plan's content.

    Args:
        content: As `CascadePlan.content` gives it.
        source: Where it stands, for messages.

    Raises:
        ToolkitError: A key is missing, unknown or holds what no plan has; names it.
    """
    try:
        return CascadePlan.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise ToolkitError(f"{source}: {explain(error)}") from None
