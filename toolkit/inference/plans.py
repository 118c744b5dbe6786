"""Finds the plan that a job shall follow, and keeps it beside the bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolkit.errors import ToolkitError, UsageError, nearest
from toolkit.files import sha256_json
from toolkit.inference.bundle import Bundle, load_validation
from toolkit.inference.certificate import Certify, held_back, part_of
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.plan import EXACT, Plan, described, load_plan, save_plan
from toolkit.inference.planner import gather, make_plan
from toolkit.inference.promise import Promise
from toolkit.inference.tuning import measure_costs
from toolkit.progress import SILENT, Reporter

FAST = "fast"
FOLDER = "plans"
DEFAULT_TOLERANCE, DEFAULT_CONFIDENCE = 0.01, 0.95


@dataclass(frozen=True)
class FastOptions:
    """What a user may choose of the fast ensemble.

    Attributes:
        plan: `fast` to find one, or a plan's file.
        tolerance: Largest share of labels that may differ from the exact ensemble's; None takes the
            plan's, or 0.01.
        confidence: That no more differ; None takes the plan's, or 0.95.
        budget_ms: Largest mean inference cost a photo; None sets no limit.
        certify: `test`, `validation` or `off`.
    """

    plan: str = FAST
    tolerance: float | None = None
    confidence: float | None = None
    budget_ms: float | None = None
    certify: Certify = "test"

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value in (("tolerance", self.tolerance), ("confidence", self.confidence)):
            if value is not None and not 0 < value < 1:
                raise UsageError(f"--{name}: Expected a number between 0 and 1, received {value}.")
        if self.plan != FAST and not Path(self.plan).is_file():
            raise UsageError(
                f"--plan {self.plan}: no such file. Expected exact, fast, or a file that 'toolkit "
                f"plan' made. {nearest(self.plan, ('exact', FAST))}".rstrip()
            )

    @property
    def promise(self) -> Promise:
        """What shall hold where a plan is found."""
        return Promise(
            DEFAULT_TOLERANCE if self.tolerance is None else self.tolerance,
            DEFAULT_CONFIDENCE if self.confidence is None else self.confidence,
        )


def chosen_plan(
    ensemble: Ensemble,
    options: FastOptions,
    photos: int,
    *,
    batch: int,
    reporter: Reporter = SILENT,
) -> Plan:
    """Return the plan that a job shall follow.

    Args:
        ensemble: The exact one.
        options: What the user chose.
        photos: How many will be predicted.
        batch: Images a run.
        reporter: Where progress is told.

    Returns:
        The plan of the given file; or the one found, which is kept in `plans/` beside the bundle
        and taken from there the next time.

    Raises:
        ToolkitError: The file holds no plan for this ensemble, or no plan is within the budget.
    """
    if options.plan == FAST:
        path = kept_path(ensemble, options, photos)
        kept = _kept(path)
        if kept is not None:
            plan = kept
        else:
            plan = find_plan(
                ensemble,
                options.promise,
                photos,
                batch=batch,
                hold_back=options.certify == "validation",
                reporter=reporter,
            )
            save_plan(plan, path)
            reporter.say(f"plan: {path}")
    else:
        plan = load_plan(Path(options.plan))
        plan = replace(
            plan,
            tolerance=plan.tolerance if options.tolerance is None else options.tolerance,
            confidence=plan.confidence if options.confidence is None else options.confidence,
        )
    plan.check(ensemble.bundle, ensemble.voting, ensemble.views)
    return within_budget(plan, options.budget_ms)


def folder_beside(bundle: Bundle) -> Path:
    """Return where the plans of a bundle are kept."""
    return bundle.folder.absolute().parent / FOLDER


def kept_path(ensemble: Ensemble, options: FastOptions, photos: int) -> Path:
    """Return where the plan that is found for a job is kept."""
    key = {
        "bundle": ensemble.bundle.sha256,
        "voting": described(ensemble.bundle, ensemble.voting),
        "views": ensemble.views,
        "device": [ensemble.device.kind, ensemble.device.name],
        "photos": photos,
        "promise": [options.promise.tolerance, options.promise.confidence],
        "hold_back": options.certify == "validation",
    }
    name = f"{FAST}-{options.promise.tolerance:g}-{sha256_json(key)[:10]}.json"
    return folder_beside(ensemble.bundle) / name


def _kept(path: Path) -> Plan | None:
    """Return the plan that an earlier call kept; None where there is none, or a spoilt one."""
    try:
        return load_plan(path)
    except ToolkitError:
        return None


def find_plan(
    ensemble: Ensemble,
    promise: Promise,
    photos: int,
    *,
    batch: int,
    hold_back: bool,
    fresh: bool = False,
    reporter: Reporter = SILENT,
) -> Plan:
    """Measure what runs cost on this machine, and find the cheapest plan.

    Args:
        ensemble: The exact one.
        promise: What shall hold.
        photos: How many will be predicted.
        batch: Images a run.
        hold_back: Plan on half of the held-out photos, and keep the others to certify on.
        fresh: Measure the costs again.
        reporter: Where progress is told.

    Returns:
        The plan.

    Raises:
        ToolkitError: The bundle has no held-out photos, or too few.
    """
    bundle = ensemble.bundle
    validation = load_validation(bundle)
    precisions = sorted(
        {EXACT} | {variant.precision for member in bundle.members for variant in member.variants}
    )
    costs = measure_costs(
        bundle,
        precisions,
        device=ensemble.device,
        threads=ensemble.threads.one_by_one(),
        batch=batch,
        fresh=fresh,
        reporter=reporter,
    )
    for member in bundle.members:
        for variant in member.variants:
            reason = costs.skipped.get((member.name, variant.precision))
            if reason:
                reporter.say(f"not planned with: {reason}")
    chosen = ~held_back(validation) if hold_back else np.ones(len(validation.labels), dtype=bool)
    evidence = gather(
        bundle, part_of(validation, chosen), ensemble.voting, ensemble.views, costs.ms
    )
    device = {"kind": ensemble.device.kind, "name": ensemble.device.name}
    return make_plan(bundle, ensemble.voting, evidence, promise, photos, device)


def within_budget(plan: Plan, budget_ms: float | None) -> Plan:
    """Keep the candidates whose mean inference cost a photo is within a budget.

    Raises:
        ToolkitError: None is; names the cheapest.
    """
    if budget_ms is None:
        return plan
    candidates = tuple(each for each in plan.candidates if each.figures["ms"] <= budget_ms)
    if not candidates and plan.exact_ms > budget_ms:
        cheapest = min([plan.exact_ms, *(each.figures["ms"] for each in plan.candidates)])
        raise ToolkitError(
            f"--budget-ms {budget_ms:g}: no plan meets it; the cheapest takes {cheapest:.2f} ms a "
            "photo. Raise the budget or --tolerance."
        )
    return replace(plan, candidates=candidates)
