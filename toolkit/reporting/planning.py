"""A plan for people: made, kept, drawn, and what it would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from toolkit.data.reading import AUTO
from toolkit.data.request import load_request
from toolkit.errors import UsageError
from toolkit.inference.bundle import load_bundle
from toolkit.inference.certificate import exact_from_the_start, sample_size
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.plan import Plan
from toolkit.inference.planner import price
from toolkit.inference.plans import FastOptions, find_plan, keep_plan, kept_path, within_budget
from toolkit.inference.promise import Promise
from toolkit.progress import SILENT, Reporter, counted
from toolkit.reporting.pictures import draw_cost


@dataclass(frozen=True)
class Planned:
    """A plan that was made.

    Attributes:
        plan: The plan.
        file: Where it is kept; its picture has the suffix `.png`.
        photos: How many it was made for.
        sample: Of them would get their exact label to certify it; 0 where `promise` tells.
        promise: What would hold, in words, where all labels would be exact; else empty.
        expected_ms: Mean inference cost a photo, the certificate and its chance of failing
            included.
        seconds: What planning took.
    """

    plan: Plan
    file: Path
    photos: int
    sample: int
    promise: str
    expected_ms: float
    seconds: float


def make_and_draw(
    bundle: Path,
    data: Path,
    settings: Mapping[str, Any],
    options: FastOptions,
    *,
    photos: int | None = None,
    out: Path | None = None,
    fresh: bool = False,
    reporter: Reporter = SILENT,
) -> Planned:
    """Measure this machine and a bundle, find the cheapest plan, write and draw it.

    Args:
        bundle: The bundle's folder.
        data: The data folder, for how many photos are to be predicted.
        settings: `tta`, `voting`, `device` and `batch`, as `Ensemble.load` takes them.
        options: The promise.
        photos: How many will be predicted, where the data folder does not tell.
        out: The plan's file; None keeps it where `toolkit ensemble --plan fast` looks for it.
        fresh: Measure costs anew.

    Raises:
        UsageError: The plan's file has another suffix than `.json`.
        ToolkitError: The bundle has no held-out photos, or no plan is within the budget.
    """
    if out and out.suffix.lower() != ".json":
        raise UsageError(
            f"--out {out}: Expected a name that ends in .json. The picture beside it ends in .png."
        )
    if photos is None:
        reading = AUTO.completed(load_bundle(bundle).data.reading, data)
        photos = len(load_request(data, reading, reporter).ids)
    count = photos
    ensemble = Ensemble.load(bundle, **settings)
    for note in ensemble.notes:
        reporter.say(note)
    for line in ensemble.details:
        reporter.detail(line)
    started = perf_counter()
    plan = find_plan(ensemble, options.promise, count, fresh=fresh, reporter=reporter)
    seconds = perf_counter() - started
    affordable = within_budget(plan, options.budget_ms, count, options.certify)
    file = out or kept_path(ensemble, options, count)
    keep_plan(plan, file)
    draw_cost(plan.table, f"{bundle}, {counted(ensemble.views, 'view')}", file.with_suffix(".png"))
    sample = sample_size(affordable, count, options.certify)
    certificate = exact_from_the_start(affordable, count, options.certify, sample)
    if certificate:
        return Planned(plan, file, count, sample, certificate.promise, plan.settled_ms, seconds)
    promise = Promise(plan.tolerance, plan.confidence)
    cost = price(affordable.candidates, plan.settled_ms, promise, count, plan.photos)
    return Planned(plan, file, count, sample, "", cost / count, seconds)
