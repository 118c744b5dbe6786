"""How a bundle is used, and what inference then costs on this machine where it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from toolkit.inference.bundle import Bundle
from toolkit.inference.calls import ModelKey
from toolkit.inference.costs import Costs, keys_of, measure_costs
from toolkit.inference.devices import Device
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import Timings
from toolkit.inference.voting import Voting
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter


@dataclass(frozen=True)
class Serving:
    """How a bundle is used.

    Attributes:
        bundle: The bundle.
        voting: Its weights.
        views: Views a photo.
        device: Where it computes.
        batch: Photos a batch.
        measured: What its members cost; None where it was not measured.
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
        """Measure what each member costs, which planning then finds measured."""
        sessions = Sessions(
            self.bundle,
            device=self.device,
            threads=usable_cores(),
            batch=self.batch,
            timings=Timings(),
        )
        keys = keys_of(self.bundle, [member.name for member in self.bundle.members])
        measured = measure_costs(sessions, keys, fresh=True, reporter=reporter)
        return replace(self, measured=measured)

    def ms(self, names: Sequence[str], views: int) -> float | None:
        """Return what some members cost together on so many views, in milliseconds a photo.

        Decoding is not in it. None where nothing was measured.
        """
        if self.measured is None:
            return None
        return views * sum(
            self.measured.ms[ModelKey(member.name, member.precision)]
            for member in self.bundle.members
            if member.name in names
        )
