"""A plan: in which steps photos are looked at, and when a photo may leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.files import read_json, sha256_json, write_json
from toolkit.inference.bundle import Bundle
from toolkit.inference.voting import Voting

SCHEMA_VERSION = 2
EXACT = "fp32"
BATCHES_A_WINDOW = 32
"""Batches of photos that go through the steps together.

More would fill later steps' batches better, and take more memory.
"""

SMALLEST = 1e-9
"""Probabilities are clipped to this before a logarithm."""


@dataclass(frozen=True, order=True)
class Run:
    """One network run: a member looks at one view in one precision.

    Attributes:
        member: Its name.
        precision: `fp32`, or one of its variants.
        view: Number in `toolkit.inference.views.VIEWS`.
    """

    member: str
    precision: str
    view: int


@dataclass(frozen=True)
class Candidate:
    """One way to carry out the steps of a plan.

    Attributes:
        thresholds: One a step: a photo leaves after it when its margin (see `margins`) reaches the
            threshold. Infinite where nobody leaves.
        figures: What the validation photos say: `ms` a photo, `runs` a photo, `left` (share of
            photos that leave after each step), `agreement` with the exact ensemble, `accuracy`,
            and `risk`, the expected share of photos that leave with another label.
    """

    thresholds: tuple[float, ...]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """A way to give the exact ensemble's labels at less cost.

    A photo that has not left after the last step has the exact ensemble's label; what runs remain
    are made until it is certain (see `settling`).

    Attributes:
        bundle: Hash of the bundle it was made for.
        views: Views a photo of the exact ensemble.
        voting: The exact ensemble's name of voting, weights by member, and temperature.
        device: `cpu`, `cuda` or `tensorrt`, and its name: what the costs were measured on.
        tolerance: Largest share of labels that may differ.
        confidence: That they do not.
        photos: Held-out photos that it was found on; 0 where none were needed.
        exact_ms: Cost a photo of the exact ensemble.
        settled_ms: Cost a photo of its labels alone (see `settling`), by held-out photos; where
            there are none, `exact_ms`.
        costs: Milliseconds an image by `MEMBER PRECISION`.
        steps: What is run after what.
        candidates: From conservative to aggressive.
        table: Cost against agreement and accuracy on the validation photos, a row a way to predict.
    """

    bundle: str
    views: int
    voting: Mapping[str, Any]
    device: Mapping[str, str]
    tolerance: float
    confidence: float
    photos: int
    exact_ms: float
    settled_ms: float
    costs: Mapping[str, float]
    steps: tuple[tuple[Run, ...], ...]
    candidates: tuple[Candidate, ...]
    table: tuple[Mapping[str, Any], ...]

    @property
    def sha256(self) -> str:
        """Hash of its content."""
        return sha256_json(self.content)

    @property
    def content(self) -> dict[str, Any]:
        """All of it as JSON can hold it; what `save_plan` writes."""
        content = asdict(self)
        for candidate in content["candidates"]:
            # JSON has no infinity.
            candidate["thresholds"] = [
                None if each == float("inf") else each for each in candidate["thresholds"]
            ]
        return {"schema_version": SCHEMA_VERSION, **content}

    def check(self, bundle: Bundle, voting: Voting, views: int) -> None:
        """Refuse a plan that was made for something else.

        Raises:
            ToolkitError: It was made for another bundle, voting or number of views.
        """
        if self.bundle != bundle.sha256:
            differs = f"another bundle than {bundle.folder}"
        elif self.views != views:
            differs = f"--tta {self.views}, not {views}"
        elif self.voting != described(bundle, voting):
            differs = f"another voting ('{self.voting['name']}'; now '{voting.name}')"
        else:
            return
        raise ToolkitError(
            f"the plan was made for {differs}. Make one with 'toolkit plan' and the same --bundle, "
            "--tta and --voting."
        )


def described(bundle: Bundle, voting: Voting) -> dict[str, Any]:
    """Return a voting as a plan holds it."""
    names = [member.name for member in bundle.members]
    return {
        "name": voting.name,
        "weights": dict(zip(names, voting.weights, strict=True)),
        "temperature": voting.temperature,
    }


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan as JSON."""
    write_json(path, {**plan.content, "sha256": plan.sha256})


def load_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        ToolkitError: The file is no plan, or was edited.
    """
    content = read_json(path)
    if content.get("schema_version") != SCHEMA_VERSION or "steps" not in content:
        raise ToolkitError(f"{path}: is no plan of this toolkit. Make one with 'toolkit plan'.")
    if content.pop("sha256", "") != sha256_json(content):
        raise ToolkitError(f"{path}: was changed after it was made. Make it again.")
    del content["schema_version"]
    content["steps"] = tuple(tuple(Run(**run) for run in step) for step in content["steps"])
    content["candidates"] = tuple(
        Candidate(
            tuple(float("inf") if each is None else each for each in candidate["thresholds"]),
            candidate["figures"],
        )
        for candidate in content["candidates"]
    )
    content["table"] = tuple(content["table"])
    return Plan(**content)


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
    """The weighted mean of the runs seen so far, for a fixed set of photos.

    Members count by their weight in the ensemble, a member's views equally. Sums run in a fixed
    order, so a photo's answer does not depend on the others.
    """

    def __init__(self, weights: Mapping[str, float], photos: int, classes: int) -> None:
        """Begin with no run seen."""
        self._weights = weights
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._counts: dict[str, int] = {}
        self._shape = (photos, classes)

    def add(self, run: Run, probabilities: NDArray[np.floating]) -> None:
        """Add what a run says, shape (photos, classes)."""
        known = self._sums.get(run.member)
        added = probabilities.astype(np.float64)
        self._sums[run.member] = added if known is None else known + added
        self._counts[run.member] = self._counts.get(run.member, 0) + 1

    def mean(self) -> NDArray[np.float64]:
        """Return the mixture, shape (photos, classes)."""
        mixed, total = np.zeros(self._shape), 0.0
        for member, sums in sorted(self._sums.items()):
            mixed += self._weights[member] * (sums / self._counts[member])
            total += self._weights[member]
        return mixed / total

    def copy(self) -> Mixture:
        """Return a copy to which other runs may be added."""
        copied = Mixture(self._weights, *self._shape)
        copied._sums, copied._counts = dict(self._sums), dict(self._counts)
        return copied

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Go on with a part of the photos only, shape (photos,)."""
        self._sums = {member: sums[chosen] for member, sums in self._sums.items()}
        self._shape = (int(chosen.sum()), self._shape[1])


def exact_runs(weights: Mapping[str, float], views: int) -> list[Run]:
    """Return all runs of the exact ensemble."""
    return [
        Run(member, EXACT, view)
        for member, weight in weights.items()
        if weight > 0
        for view in range(views)
    ]


def run_cost(runs: Sequence[Run], costs: Mapping[str, float]) -> float:
    """Return the milliseconds a photo that runs take."""
    return sum(costs[f"{run.member} {run.precision}"] for run in runs)
