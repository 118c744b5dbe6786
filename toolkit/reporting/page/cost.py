"""The section on cost: where the time goes, and what less of it would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.inference.bundle import QuantizationTrial
from toolkit.inference.plan import PlanSearch
from toolkit.reporting.page.charts import Chart, cost_chart

BARS = 24
"""Bars of the little histogram of a stage's samples."""


@dataclass(frozen=True)
class StageRow:
    """Latency of one stage: percentiles in ms where the samples carry them, and all samples.

    Attributes:
        name: Of the stage.
        unit: Of its figures.
        n: Samples.
        p50: Median.
        p90: None where there are too few samples.
        p99: Likewise.
        heights: Of a histogram from the smallest sample to the largest, 0 to 1; may be empty.
        least: Smallest sample.
        most: Largest sample.
    """

    name: str
    unit: str
    n: int
    p50: float | None
    p90: float | None
    p99: float | None
    heights: tuple[float, ...]
    least: float
    most: float


@dataclass(frozen=True)
class FlowStep:
    """Where photos exit: after which calls, how many, and their share."""

    name: str
    calls: str
    photos: int
    share: float
    kind: str


@dataclass(frozen=True)
class CostSection:
    """What the page says of cost.

    Attributes:
        latency: The latency report, or empty.
        stages: One row a stage.
        precisions: What the export tried.
        flow: How many photos exited where; empty where there was no cascade.
        cascade: The cascade's own report, or empty.
        search: What a plan was found from, or None.
        chart: Ways to predict, by cost and agreement; None without that.
    """

    latency: Mapping[str, Any]
    stages: tuple[StageRow, ...]
    precisions: tuple[QuantizationTrial, ...]
    flow: tuple[FlowStep, ...]
    cascade: Mapping[str, Any]
    search: PlanSearch | None
    chart: Chart | None


def cost_section(
    latency: Mapping[str, Any],
    precisions: tuple[QuantizationTrial, ...],
    search: PlanSearch | None,
) -> CostSection | None:
    """Describe what predicting costs; None where nothing is known of it."""
    if not latency and not precisions and search is None:
        return None
    cascade = latency.get("cascade") or {}
    return CostSection(
        latency=latency,
        stages=tuple(
            _stage(name, row, latency.get("samples_ms", {}).get(name, []))
            for name, row in latency.get("stages", {}).items()
        ),
        precisions=precisions,
        flow=_flow(cascade),
        cascade=cascade,
        search=search,
        chart=cost_chart(search.table) if search else None,
    )


def _stage(name: str, row: Mapping[str, Any], samples: list[float]) -> StageRow:
    heights: tuple[float, ...] = ()
    least = most = float(row.get("p50") or 0.0)
    if samples:
        least, most = min(samples), max(samples)
        width = (most - least) / BARS or 1.0
        counts = [0] * BARS
        for sample in samples:
            counts[min(BARS - 1, int((sample - least) / width))] += 1
        heights = tuple(count / max(counts) for count in counts)
    percentiles = {key: row.get(key) for key in ("p50", "p90", "p99")}
    return StageRow(
        name, row["unit"], row["n"], **percentiles, heights=heights, least=least, most=most
    )


def _flow(cascade: Mapping[str, Any]) -> tuple[FlowStep, ...]:
    if not cascade or not cascade.get("steps"):
        return ()
    photos, sampled = int(cascade["certificate"]["photos"]), int(cascade["sampled"])
    steps = [FlowStep("sample", "drawn at random to certify on", sampled, sampled / photos, "full")]
    for number, step in enumerate(cascade["steps"], start=1):
        calls = "; ".join(step["calls"])
        steps.append(FlowStep(f"step {number}", calls, step["photos"], step["share"], "exited"))
    full = cascade["full"]
    steps.append(FlowStep("full", "never clear enough", full["photos"], full["share"], "full"))
    return tuple(steps)
