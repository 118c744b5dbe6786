"""`toolkit plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.terminal import figure, percent, print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.progress import Reporter
    from toolkit.reporting.planning import Planned


@click.command("plan")
@options.bundle
@options.data
@options.tta
@options.voting
@options.device
@options.batch
@options.guarantee
@click.option(
    "--photos", type=click.IntRange(1), help="How many will be predicted.  [default: as in --data]"
)
@click.option("--fresh", is_flag=True, help="Measure costs anew.")
@click.option("--out", type=options.FILE, default="plan.json", show_default=True, help="The plan.")
@options.as_json
@options.reporter
def command(
    bundle: Path,
    data: Path,
    tolerance: float | None,
    confidence: float | None,
    budget_ms: float | None,
    photos: int | None,
    fresh: bool,
    out: Path,
    as_json: bool,
    reporter: Reporter,
    **settings: Any,
) -> None:
    """Find the cheapest way to give the full ensemble's labels on this machine.

    The plan is a JSON file, its picture a PNG beside it. It guarantees nothing by itself: 'toolkit
    ensemble --plan FILE' certifies it on a sample of the photos that are predicted. 'ensemble
    --tolerance' finds one by itself.
    """
    from toolkit.inference.finding import DEFAULT_TOLERANCE, Skipping
    from toolkit.reporting.planning import make_and_draw

    skipping = Skipping(
        tolerance=DEFAULT_TOLERANCE if tolerance is None else tolerance,
        confidence=confidence,
        budget_ms=budget_ms,
    )
    planned = make_and_draw(
        bundle,
        data,
        settings,
        skipping,
        photos=photos,
        out=out,
        fresh=fresh,
        reporter=reporter,
    )
    if as_json:
        print_json(
            {
                "plan": planned.plan.content,
                "file": str(planned.file),
                "photos": planned.photos,
                "sample": planned.sample,
                "guarantee": planned.guarantee,
                "expected_ms": planned.expected_ms,
                "seconds": planned.seconds,
            }
        )
    else:
        _print(planned)


def _print(planned: Planned) -> None:
    from toolkit.progress import counted

    plan, search = planned.plan, planned.plan.search
    assert search is not None
    print_table(
        "Steps: what is called after what",
        ["<step", "<calls"],
        [
            (number, "; ".join(f"{call.key} view {call.view + 1}" for call in step))
            for number, step in enumerate(plan.steps, start=1)
        ],
    )
    print_table(
        f"On {search.photos} held-out photos, costs measured on {search.device.name}",
        ["<way", "ms a photo", "calls", "agreement", "accuracy"],
        [
            (
                row.way,
                figure(row.ms, 2),
                figure(row.calls, 2),
                percent(row.agreement),
                percent(row.accuracy),
            )
            for row in search.table
        ],
        note="The cascades, conservative to aggressive, were chosen on these very photos: the "
        "certificate is what counts.",
    )
    photos = counted(planned.photos, "photo")
    basis = (
        f"guarantee: {planned.guarantee}"
        if planned.guarantee
        else f"{planned.sample} of them get the full ensemble to certify on"
    )
    print_line(
        f"for {photos}: {basis}; {figure(planned.expected_ms, 2)} ms of inference a photo "
        f"expected in all ({percent(planned.expected_ms / search.full_ms)} of the full ensemble)"
    )
    picture = planned.file.with_suffix(".png")
    print_line(f"planned in {planned.seconds:.1f} s: {planned.file}, drawn in {picture}")
