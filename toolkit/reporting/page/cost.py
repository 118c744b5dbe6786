"""The section on cost: where the time goes, and what less of it would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.inference.bundle import QuantizationTrial
from toolkit.inference.plan import PlanSearch
from toolkit.reporting.latency import CascadeReport, LatencyReport, Stage
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
        latency: The latency report, or None.
        stages: One row a stage.
        precisions: What the export tried.
        flow: How many photos exited where; empty where there was no cascade.
        cascade: The cascade's own report, or None.
        search: What a plan was found from, or None.
        chart: Ways to predict, by cost and agreement; None without that.
    """

    latency: LatencyReport | None
    stages: tuple[StageRow, ...]
    precisions: tuple[QuantizationTrial, ...]
    flow: tuple[FlowStep, ...]
    cascade: CascadeReport | None
    search: PlanSearch | None
    chart: Chart | None


def cost_section(
    latency: LatencyReport | None,
    precisions: tuple[QuantizationTrial, ...],
    search: PlanSearch | None,
) -> CostSection | None:
    """Describe what predicting costs; None where nothing is known of it."""
    if latency is None and not precisions and search is None:
        return None
    cascade = latency.cascade if latency else None
    stages = latency.stages.items() if latency else ()
    samples = latency.samples_ms if latency else {}
    return CostSection(
        latency=latency,
        stages=tuple(_stage(name, row, samples.get(name, ())) for name, row in stages),
        precisions=precisions,
        flow=_flow(cascade),
        cascade=cascade,
        search=search,
        chart=cost_chart(search.table) if search else None,
    )


def _stage(name: str, row: Stage, samples: Sequence[float]) -> StageRow:
    heights: tuple[float, ...] = ()
    least = most = row.p50 or 0.0
    if samples:
        least, most = min(samples), max(samples)
        width = (most - least) / BARS or 1.0
        counts = [0] * BARS
        for sample in samples:
            counts[min(BARS - 1, int((sample - least) / width))] += 1
        heights = tuple(count / max(counts) for count in counts)
    return StageRow(name, row.unit, row.n, row.p50, row.p90, row.p99, heights, least, most)


def _flow(cascade: CascadeReport | None) -> tuple[FlowStep, ...]:
    if cascade is None or not cascade.steps:
        return ()
    photos, sampled = cascade.certificate.photos, cascade.sampled
    steps = [FlowStep("sample", "drawn at random to certify on", sampled, sampled / photos, "full")]
    for number, step in enumerate(cascade.steps, start=1):
        calls = "; ".join(step.calls)
        steps.append(FlowStep(f"step {number}", calls, step.photos, step.share, "exited"))
    full = cascade.full
    steps.append(FlowStep("full", "never clear enough", full.photos, full.share, "full"))
    return tuple(steps)
