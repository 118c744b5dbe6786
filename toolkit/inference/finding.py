"""Chooses the plan that a job shall follow: given, cached, or found now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import ToolkitError, UsageError, argument
from toolkit.files import cache_folder, sha256_json
from toolkit.inference.bundle import load_search_photos
from toolkit.inference.calls import Costs
from toolkit.inference.certificate import Certify, mean_ms, sample_size
from toolkit.inference.costs import (
    estimated_costs,
    keys_of,
    known_costs,
    machine_key,
    measure_costs,
)
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.evidence import gather
from toolkit.inference.guarantee import Guarantee
from toolkit.inference.plan import CascadePlan, PlanVoting, load_plan, save_plan
from toolkit.inference.planner import make_plan
from toolkit.progress import SILENT, Reporter

DEFAULT_TOLERANCE, DEFAULT_CONFIDENCE = 0.01, 0.95


@dataclass(frozen=True)
class Skipping:
    """Which model calls a job may skip. By default those that can change no label.

    Attributes:
        full: None.
        tolerance: Largest share of labels that may differ from the full ensemble's; None takes the
            plan's, or allows none where there is no plan.
        confidence: That no more differ; None takes the plan's, or 0.95.
        budget_ms: Largest mean inference cost a photo, certificate included; None sets no limit.
        certify: `test` or `off`.
        plan: A plan, or its file; None finds one where there is a tolerance.
    """

    full: bool = False
    tolerance: float | None = None
    confidence: float | None = None
    budget_ms: float | None = None
    certify: Certify = "test"
    plan: Path | CascadePlan | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: One is out of range, or they do not fit together.
        """
        for name, value in (("tolerance", self.tolerance), ("confidence", self.confidence)):
            if value is not None and not 0 < value < 1:
                raise UsageError.of(name, value, "Expected a number between 0 and 1.")
        if self.budget_ms is not None and not 0 < self.budget_ms < float("inf"):
            raise UsageError.of("budget_ms", self.budget_ms, "Expected a number over 0.")
        chosen = {
            "plan": self.plan is not None,
            "tolerance": self.tolerance is not None,
            "confidence": self.confidence is not None,
            "budget_ms": self.budget_ms is not None,
            "certify": self.certify != "test",
        }
        names = [name for name, is_chosen in chosen.items() if is_chosen]
        if self.full and names:
            others = ", ".join(f"`{name}`" for name in names)
            raise UsageError(f"`full`: Expected without {others}.", argument="full", value=True)
        if names and not self.allows_differences:
            raise UsageError(
                f"`{names[0]}`: Expected with `tolerance` or `plan`. Without, all labels are the "
                "full ensemble's.",
                argument=names[0],
            )

    @property
    def allows_differences(self) -> bool:
        """Whether some labels may differ from the full ensemble's."""
        return self.plan is not None or self.tolerance is not None

    @property
    def guarantee(self) -> Guarantee:
        """What shall hold where a plan is found."""
        return Guarantee(
            DEFAULT_TOLERANCE if self.tolerance is None else self.tolerance,
            DEFAULT_CONFIDENCE if self.confidence is None else self.confidence,
        )


LABEL_EXACT, FULL = Skipping(), Skipping(full=True)


def chosen_plan(
    ensemble: Ensemble, skipping: Skipping, photos: int, reporter: Reporter = SILENT
) -> CascadePlan:
    """Return the plan that a job shall follow.

    Args:
        ensemble: Loaded.
        skipping: Which model calls may be skipped.
        photos: How many will be predicted.

    Returns:
        The given one; or the one found for the same job before, or now.

    Raises:
        ToolkitError: The file holds no plan for this ensemble, or no plan is within the budget.
    """
    if skipping.full or ensemble.looks_at_random_views:
        return ensemble.plan
    if skipping.plan is not None:
        plan = _given(ensemble, skipping, skipping.plan, reporter)
    elif skipping.tolerance is None:
        return _label_exact(ensemble)
    else:
        plan = _cached(ensemble, skipping.guarantee, photos, reporter)
    return within_budget(plan, skipping.budget_ms, photos, skipping.certify)


def find_plan(
    ensemble: Ensemble,
    guarantee: Guarantee,
    photos: int,
    *,
    fresh: bool = False,
    reporter: Reporter = SILENT,
) -> CascadePlan:
    """Measure what calls cost on this machine, and find the cheapest plan.

    Args:
        ensemble: Loaded.
        guarantee: What shall hold.
        photos: How many will be predicted.
        fresh: Measure the costs again.

    Returns:
        The plan.

    Raises:
        ToolkitError: The bundle has no held-out photos, or too few.
    """
    bundle = ensemble.bundle
    validation = load_search_photos(bundle)
    keys = keys_of(bundle, ensemble.member_names)
    costs = measure_costs(ensemble.sessions, keys, fresh=fresh, reporter=reporter)
    for key, reason in costs.skipped.items():
        if key in keys:
            reporter.say(f"not planned with: {reason}")
    measured = {key: ms for key, ms in costs.ms.items() if key in keys}
    evidence = gather(bundle, validation, ensemble.voting, ensemble.views, measured)
    return make_plan(bundle, ensemble.voting, evidence, guarantee, photos, ensemble.device)


def cached_file(ensemble: Ensemble, guarantee: Guarantee, photos: int) -> Path:
    """Return where the plan that is found for a job is cached.

    It is the same for all numbers of threads and sizes of batches, which must change no label.
    """
    key = {
        "bundle": ensemble.bundle.sha256,
        "voting": PlanVoting.of(ensemble.bundle, ensemble.voting).model_dump(mode="json"),
        "views": ensemble.views,
        "device": ensemble.device.name,
        "machine": machine_key(ensemble.device),
        "photos": photos,
        "guarantee": [guarantee.tolerance, guarantee.confidence],
    }
    return cache_folder() / "plans" / f"{sha256_json(key)[:32]}.json"


def within_budget(
    plan: CascadePlan, budget_ms: float | None, photos: int, certify: Certify = "test"
) -> CascadePlan:
    """Keep the threshold sets that are within a budget, their certificate included.

    Args:
        plan: The plan.
        budget_ms: The budget; None sets none.
        photos: How many will be predicted.
        certify: What the guarantee shall rest on; a sample of the photos costs.

    Raises:
        ToolkitError: None is, nor label-exact; names the cheapest.
    """
    if budget_ms is None or plan.search is None:
        return plan
    kept, ways = plan, [plan.search.settled_ms]
    while costs := _mean_costs(kept, photos, certify):
        ways += costs
        affordable = [
            each for each, ms in zip(kept.threshold_sets, costs, strict=True) if ms <= budget_ms
        ]
        if len(affordable) == len(kept.threshold_sets):
            return kept
        kept = plan.with_threshold_sets(affordable)
    if plan.search.settled_ms > budget_ms:
        raise ToolkitError(
            f"{argument('budget_ms', budget_ms)}: no plan meets it; the cheapest takes "
            f"{min(ways):.2f} ms a photo for {photos} photos, its certificate included. Raise it "
            "or `tolerance`."
        )
    return kept


def _given(
    ensemble: Ensemble, skipping: Skipping, given: Path | CascadePlan, reporter: Reporter
) -> CascadePlan:
    """Check a plan, with the guarantee that the user chose instead of its own."""
    if isinstance(given, Path) and not given.is_file():
        raise UsageError.of("plan", given, "no such file. Expected one that 'toolkit plan' made.")
    plan = load_plan(given) if isinstance(given, Path) else given
    source = str(given) if isinstance(given, Path) else "plan"
    plan.check(ensemble.bundle, ensemble.voting, ensemble.views, source)
    if plan.search is None:
        return plan
    on, device = plan.search.device, ensemble.device
    if (on.kind, on.name) != (device.kind, device.name):
        reporter.say(
            f"{source}: its costs were measured on {on.name} ({on.kind}), and this is "
            f"{device.name} ({device.kind})"
        )
    changes = {
        name: value
        for name, value in (
            ("tolerance", skipping.tolerance),
            ("confidence", skipping.confidence),
        )
        if value is not None
    }
    return plan.model_copy(update={"search": plan.search.model_copy(update=changes)})


def _label_exact(ensemble: Ensemble) -> CascadePlan:
    """Return the plan of the full ensemble's labels, by costs if they were ever measured."""
    costs: Costs = estimated_costs(ensemble.bundle)
    known = known_costs(ensemble.sessions)
    if known and all(key in known.ms for key in ensemble.plan.weights):
        costs = known.ms
    return CascadePlan.label_exact(ensemble.bundle, ensemble.voting, ensemble.views, costs)


def _cached(
    ensemble: Ensemble, guarantee: Guarantee, photos: int, reporter: Reporter
) -> CascadePlan:
    path = cached_file(ensemble, guarantee, photos)
    try:
        plan = load_plan(path)
        plan.check(ensemble.bundle, ensemble.voting, ensemble.views, str(path))
    except ToolkitError:  # There is none, or it is damaged.
        plan = find_plan(ensemble, guarantee, photos, reporter=reporter)
        save_plan(plan, path)
    return plan


def _mean_costs(plan: CascadePlan, photos: int, certify: Certify) -> list[float]:
    """Return each threshold set's; none where label-exact costs less than a certificate."""
    sample = sample_size(plan, photos, certify)
    if certify == "test" and not sample:
        return []
    return [mean_ms(plan, each, photos, sample) for each in plan.threshold_sets]
