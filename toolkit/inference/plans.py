"""Finds the plan that a job shall follow, and keeps it beside the bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.errors import ToolkitError, UsageError, nearest
from toolkit.files import sha256_json
from toolkit.inference.bundle import Bundle, load_validation
from toolkit.inference.certificate import Certify, mean_ms, sample_size
from toolkit.inference.costs import machine_key, measure_costs, pairs_of
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.evidence import gather
from toolkit.inference.plan import (
    EXACT,
    Plan,
    described,
    exact_runs,
    load_plan,
    run_cost,
    save_plan,
)
from toolkit.inference.planner import make_plan
from toolkit.inference.promise import Promise
from toolkit.progress import SILENT, Reporter

FAST, CERTAIN = "fast", "certain"
FOLDER = "plans"
DEFAULT_TOLERANCE, DEFAULT_CONFIDENCE = 0.01, 0.95


@dataclass(frozen=True)
class FastOptions:
    """What a user may choose of the fast ensemble.

    Attributes:
        plan: `fast` to find one, `certain` for exact labels alone, or a plan's file.
        tolerance: Largest share of labels that may differ from the exact ensemble's; None takes the
            plan's, or 0.01.
        confidence: That no more differ; None takes the plan's, or 0.95.
        budget_ms: Largest mean inference cost a photo, certificate included; None sets no limit.
        certify: `test` or `off`.
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
        if self.file and not self.file.is_file():
            raise UsageError(
                f"--plan {self.plan}: no such file. Expected exact, certain, fast, or a file that "
                f"'toolkit plan' made. {nearest(self.plan, ('exact', CERTAIN, FAST))}".rstrip()
            )
        if self.plan == CERTAIN:
            self.refuse_choices()

    @property
    def file(self) -> Path | None:
        """The plan's file, where one was named."""
        return None if self.plan in (FAST, CERTAIN) else Path(self.plan)

    @property
    def promise(self) -> Promise:
        """What shall hold where a plan is found."""
        return Promise(
            DEFAULT_TOLERANCE if self.tolerance is None else self.tolerance,
            DEFAULT_CONFIDENCE if self.confidence is None else self.confidence,
        )

    def refuse_choices(self) -> None:
        """Refuse what there is to choose of a plan, where every label is exact.

        Raises:
            UsageError: Something was chosen.
        """
        if any(each is not None for each in (self.tolerance, self.confidence, self.budget_ms)):
            raise UsageError(
                "--tolerance, --confidence and --budget-ms: Expected with --plan fast or a plan "
                f"that it found, received --plan {self.plan}, of which every label is exact."
            )


def chosen_plan(
    ensemble: Ensemble,
    options: FastOptions,
    photos: int,
    reporter: Reporter = SILENT,
) -> Plan:
    """Return the plan that a job shall follow.

    Args:
        ensemble: The exact one, loaded for a plan.
        options: What the user chose.
        photos: How many will be predicted.

    Returns:
        The plan of the given file; or the one made, which is kept in `plans/` beside the bundle
        and taken from there the next time.

    Raises:
        ToolkitError: The file holds no plan for this ensemble, or no plan is within the budget.
    """
    if options.file:
        plan = given_plan(options, options.file)
        if dict(plan.device) != _device(ensemble):
            reporter.say(
                f"{options.file}: what it costs was measured on {plan.device['name']} "
                f"({plan.device['kind']}), and this is {ensemble.device.name} "
                f"({ensemble.device.kind})"
            )
    elif kept := _kept(path := kept_path(ensemble, options, photos)):
        plan = kept
    else:
        if options.plan == CERTAIN:
            plan = certain_plan(ensemble, reporter)
        else:
            plan = find_plan(ensemble, options.promise, photos, reporter=reporter)
        keep_plan(plan, path)
        reporter.say(f"plan: {path}")
    plan.check(ensemble.bundle, ensemble.voting, ensemble.views)
    return within_budget(plan, options.budget_ms, photos, options.certify)


def given_plan(options: FastOptions, file: Path) -> Plan:
    """Return the plan of a file, with the promise that the user chose instead of its own.

    Raises:
        UsageError: A promise was chosen, and the plan is of exact labels alone.
        ToolkitError: The file holds no plan.
    """
    plan = load_plan(file)
    if not plan.photos:
        options.refuse_choices()
    return replace(
        plan,
        tolerance=plan.tolerance if options.tolerance is None else options.tolerance,
        confidence=plan.confidence if options.confidence is None else options.confidence,
    )


def folder_beside(bundle: Bundle) -> Path:
    """Return where the plans of a bundle are kept."""
    return bundle.folder.absolute().parent / FOLDER


def kept_path(ensemble: Ensemble, options: FastOptions, photos: int) -> Path:
    """Return where the plan that is found for a job is kept.

    It is the same for all numbers of threads and sizes of batches, which must change no label.
    """
    key = {
        "bundle": ensemble.bundle.sha256,
        "voting": described(ensemble.bundle, ensemble.voting),
        "views": ensemble.views,
        "device": ensemble.device.name,
        "machine": machine_key(ensemble.device),
    }
    if options.plan == CERTAIN:
        return folder_beside(ensemble.bundle) / f"{CERTAIN}-{sha256_json(key)[:10]}.json"
    key |= {
        "photos": photos,
        "promise": [options.promise.tolerance, options.promise.confidence],
    }
    name = f"{FAST}-{options.promise.tolerance:g}-{sha256_json(key)[:10]}.json"
    return folder_beside(ensemble.bundle) / name


def keep_plan(plan: Plan, path: Path) -> None:
    """Write a plan where jobs look for it; one that it replaces stays beside it."""
    before = _kept(path)
    if before and before.sha256 != plan.sha256:
        path.rename(path.with_name(f"{path.stem}-{before.sha256[:10]}.json"))
    save_plan(plan, path)


def replaced_plans(path: Path) -> list[Path]:
    """Return the plans that `keep_plan` replaced there, which submissions may have followed."""
    return sorted(path.parent.glob(f"{path.stem}-*.json"))


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
    fresh: bool = False,
    reporter: Reporter = SILENT,
) -> Plan:
    """Measure what runs cost on this machine, and find the cheapest plan.

    Args:
        ensemble: The exact one, loaded for a plan.
        promise: What shall hold.
        photos: How many will be predicted.
        fresh: Measure the costs again.

    Returns:
        The plan.

    Raises:
        ToolkitError: The bundle has no held-out photos, or too few.
    """
    bundle = ensemble.bundle
    validation = load_validation(bundle)
    pairs = pairs_of(bundle, ensemble.member_names)
    costs = measure_costs(ensemble.sessions, pairs, fresh=fresh, reporter=reporter)
    for member in bundle.members:
        for variant in member.variants:
            reason = costs.skipped.get((member.name, variant.precision))
            if reason:
                reporter.say(f"not planned with: {reason}")
    evidence = gather(bundle, validation, ensemble.voting, ensemble.views, costs.ms)
    return make_plan(bundle, ensemble.voting, evidence, promise, photos, _device(ensemble))


def certain_plan(ensemble: Ensemble, reporter: Reporter = SILENT) -> Plan:
    """Return the plan of exact labels alone; runs come in the order of their cost by weight.

    Args:
        ensemble: The exact one, loaded for a plan.
    """
    bundle, voting, views = ensemble.bundle, ensemble.voting, ensemble.views
    pairs = [(name, EXACT) for name in ensemble.member_names]
    costs = measure_costs(ensemble.sessions, pairs, reporter=reporter).ms
    said = described(bundle, voting)
    by_name = {f"{name} {precision}": ms for (name, precision), ms in costs.items()}
    exact_ms = run_cost(exact_runs(said["weights"], views), by_name)
    known = bundle.validation_sha256 and gather(
        bundle, load_validation(bundle), voting, views, costs
    )
    return Plan(
        bundle=bundle.sha256,
        views=views,
        voting=said,
        device=_device(ensemble),
        tolerance=0.0,
        confidence=1.0,
        photos=0,
        exact_ms=exact_ms,
        settled_ms=known.settled_ms if known else exact_ms,
        costs=by_name,
        steps=(),
        candidates=(),
        table=(),
    )


def _device(ensemble: Ensemble) -> dict[str, str]:
    return {"kind": ensemble.device.kind, "name": ensemble.device.name}


def within_budget(
    plan: Plan, budget_ms: float | None, photos: int, certify: Certify = "test"
) -> Plan:
    """Keep the candidates whose mean inference cost a photo, certificate included, is in a budget.

    Args:
        plan: The plan.
        budget_ms: The budget; None sets none.
        photos: How many will be predicted.
        certify: What the promise shall rest on; a sample of the photos costs.

    Raises:
        ToolkitError: None is, nor the exact ensemble; names the cheapest.
    """
    if budget_ms is None:
        return plan
    kept, ways = plan, [plan.settled_ms]
    while costs := _mean_costs(kept, photos, certify):
        ways += costs
        affordable = tuple(
            each for each, ms in zip(kept.candidates, costs, strict=True) if ms <= budget_ms
        )
        if len(affordable) == len(kept.candidates):
            return kept
        kept = replace(kept, candidates=affordable)
    if plan.settled_ms > budget_ms:
        raise ToolkitError(
            f"--budget-ms {budget_ms:g}: no plan meets it; the cheapest takes {min(ways):.2f} ms a "
            f"photo for {photos} photos, its certificate included. Raise the budget or --tolerance."
        )
    return kept


def _mean_costs(plan: Plan, photos: int, certify: Certify) -> list[float]:
    """Return each candidate's; none where exact labels cost less than a certificate."""
    sample = sample_size(plan, photos, certify)
    if certify == "test" and not sample:
        return []
    return [mean_ms(plan, each, photos, sample) for each in plan.candidates]
