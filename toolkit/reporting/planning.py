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
from toolkit.inference.certificate import label_exact_from_the_start, sample_size
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.finding import Skipping, find_plan, within_budget
from toolkit.inference.guarantee import Guarantee, choose_sample
from toolkit.inference.plan import CascadePlan, save_plan
from toolkit.progress import SILENT, Reporter, counted
from toolkit.reporting.pictures import draw_cost

PLAN = Path("plan.json")
"""Where a plan is written where nothing else is chosen."""


@dataclass(frozen=True)
class Planned:
    """A plan that was made.

    Attributes:
        plan: The plan.
        file: Where it is kept; its picture has the suffix `.png`.
        photos: How many it was made for.
        sample: Of them would get the full ensemble to certify it; 0 where `guarantee` tells.
        guarantee: What would hold, in words, where all labels would be the full ensemble's; else
            empty.
        expected_ms: Mean inference cost a photo, the certificate and its chance of failing
            included.
        seconds: What planning took.
    """

    plan: CascadePlan
    file: Path
    photos: int
    sample: int
    guarantee: str
    expected_ms: float
    seconds: float


def make_and_draw(
    bundle: Path,
    data: Path,
    settings: Mapping[str, Any],
    skipping: Skipping,
    *,
    photos: int | None = None,
    out: Path = PLAN,
    fresh: bool = False,
    reporter: Reporter = SILENT,
) -> Planned:
    """Measure this machine and a bundle, find the cheapest plan, write and draw it.

    Args:
        bundle: The bundle's folder.
        data: The data folder, for how many photos are to be predicted.
        settings: `tta`, `voting`, `device` and `batch`, as `Ensemble.load` takes them.
        skipping: The guarantee and the budget.
        photos: How many will be predicted, where the data folder does not tell.
        out: The plan's file; its picture is put beside it.
        fresh: Measure costs anew.

    Raises:
        UsageError: The plan's file has another suffix than `.json`.
        ToolkitError: The bundle has no held-out photos, or no plan is within the budget.
    """
    if out.suffix.lower() != ".json":
        said = "Expected a name that ends in .json. The picture beside it ends in .png."
        raise UsageError.of("out", out, said)
    if photos is None:
        reading = AUTO.completed(load_bundle(bundle).data.reading, data, reporter)
        request = load_request(data, reading, reporter)
        reporter.say(f"{data}: {request.found.line}")
        photos = len(request.ids)
    count = photos
    ensemble = Ensemble.load(bundle, **settings)
    for note in ensemble.notes:
        reporter.say(note)
    for line in ensemble.details:
        reporter.detail(line)
    started = perf_counter()
    plan = find_plan(ensemble, skipping.guarantee, count, fresh=fresh, reporter=reporter)
    seconds = perf_counter() - started
    affordable = within_budget(plan, skipping.budget_ms, count)
    save_plan(plan, out)
    search = plan.search
    assert search is not None
    draw_cost(search.table, f"{bundle}, {counted(ensemble.views, 'view')}", out.with_suffix(".png"))
    sample = sample_size(affordable, count, "test")
    certain = label_exact_from_the_start(affordable, count, "test", sample)
    if certain:
        return Planned(plan, out, count, sample, certain.guarantee, search.settled_ms, seconds)
    cost = choose_sample(
        count,
        Guarantee(search.tolerance, search.confidence),
        [each.risk for each in affordable.threshold_sets],
        search.photos,
        [each.ms for each in affordable.threshold_sets],
        search.settled_ms,
        search.full_ms,
    ).expected_cost
    return Planned(plan, out, count, sample, "", cost / count, seconds)
