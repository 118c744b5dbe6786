"""What inference costs on this machine, where it was really measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.errors import ToolkitError
from toolkit.files import read_json
from toolkit.inference.bundle import Bundle
from toolkit.inference.costs import Costs, measure_costs, pairs_of, saved_costs
from toolkit.inference.devices import Device
from toolkit.inference.plan import described
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import Timings
from toolkit.inference.voting import Voting
from toolkit.machine import RUNTIMES, package_versions, usable_cores
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.submission import latency_path

SUBMISSION, SUBMISSION_MANIFEST = "submission.csv", "submission.json"
"""As `toolkit ensemble` names them beside a bundle where nothing else was asked."""


@dataclass(frozen=True)
class InferenceCost:
    """A measured cost.

    Attributes:
        ms: Milliseconds a photo, all members and views; decoding is not in it.
        by: What measured it: `compare` now, `ensemble`, or `members` where it is the sum of
            what any command measured of the members.
    """

    ms: float
    by: str


@dataclass(frozen=True)
class Serving:
    """How a bundle is used.

    Attributes:
        bundle: The bundle.
        voting: Its weights.
        views: Views a photo.
        device: Where it computes.
        batch: Photos a batch.
        measured: What its members cost, measured just now; None where nothing was.
    """

    bundle: Bundle
    voting: Voting
    views: int
    device: Device
    batch: int
    measured: Costs | None = None

    @property
    def voters(self) -> list[str]:
        """Names of the members that have a vote."""
        return [
            member.name
            for member, weight in zip(self.bundle.members, self.voting.weights, strict=True)
            if weight > 0
        ]

    def measure(self, reporter: Reporter = SILENT) -> Serving:
        """Measure now what each member costs, which `toolkit plan` then finds measured."""
        sessions = Sessions(
            self.bundle,
            device=self.device,
            threads=usable_cores(),
            batch=self.batch,
            timings=Timings(),
        )
        pairs = pairs_of(self.bundle, [member.name for member in self.bundle.members])
        measured = measure_costs(sessions, pairs, fresh=True, reporter=reporter)
        return Serving(self.bundle, self.voting, self.views, self.device, self.batch, measured)

    def ensemble_cost(self) -> InferenceCost | None:
        """Return what the exact ensemble costs, or None where that was never measured here.

        What was measured just now goes first, so that several bundles are measured alike; then
        what the commands that measure members and a job beside the bundle did.
        """
        return self.members_cost(self.voters, self.views) or self._cost_of_a_job()

    def members_cost(self, names: Sequence[str], views: int) -> InferenceCost | None:
        """Return what some members cost together, or None where one of them was not measured."""
        costs = self.measured or saved_costs(
            self.bundle, device=self.device, threads=usable_cores(), batch=self.batch
        )
        pairs = [(each.name, each.precision) for each in self.bundle.members if each.name in names]
        if costs is None or any(pair not in costs.ms for pair in pairs):
            return None
        ms = views * sum(costs.ms[pair] for pair in pairs)
        return InferenceCost(ms, "compare" if self.measured else "members")

    def _cost_of_a_job(self) -> InferenceCost | None:
        """Return what the exact job cost whose submission lies beside the bundle."""
        folder = self.bundle.folder.absolute().parent
        try:
            made = read_json(folder / SUBMISSION_MANIFEST)
            spent = read_json(latency_path(folder / SUBMISSION))
            same = (
                made["bundle"]["sha256"] == self.bundle.sha256
                and made["options"]["plan"] == "exact"
                and made["options"]["tta_views"] == "fixed"
                and made["voting"] == described(self.bundle, self.voting)
                and made["device"]["device"] == spent["device"] == self.device.name
                and (spent["views"], spent["batch"]) == (self.views, self.batch)
                and package_versions(RUNTIMES).items() <= made["versions"].items()
            )
            ms = spent["inference"]["ms_a_photo"]
            return InferenceCost(float(ms), "ensemble") if same and ms is not None else None
        except (ToolkitError, KeyError, TypeError, ValueError, AttributeError):
            return None  # There is none, or something else has the same names.
