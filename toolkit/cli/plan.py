"""`toolkit plan`."""

from __future__ import annotations

from dataclasses import asdict
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
@options.promise
@click.option(
    "--photos", type=click.IntRange(1), help="How many will be predicted.  [default: as in --data]"
)
@click.option("--fresh", is_flag=True, help="Measure costs anew.")
@click.option(
    "--out", type=options.FILE, help="The plan.  [default: where 'ensemble --plan fast' looks]"
)
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
    out: Path | None,
    as_json: bool,
    reporter: Reporter,
    **settings: Any,
) -> None:
    """Find the cheapest way to give the exact ensemble's labels on this machine.

    The plan is a JSON file, its picture a PNG beside it. It promises nothing by itself: 'toolkit
    ensemble --plan fast' certifies it on a sample of the photos that are predicted.
    """
    from toolkit.inference.plans import FastOptions
    from toolkit.reporting.planning import make_and_draw

    chosen = FastOptions("fast", tolerance, confidence, budget_ms)
    planned = make_and_draw(
        bundle,
        data,
        settings,
        chosen,
        photos=photos,
        out=out,
        fresh=fresh,
        reporter=reporter,
    )
    if as_json:
        print_json({**asdict(planned), "plan": planned.plan.content, "file": str(planned.file)})
    else:
        _print(planned)


def _print(planned: Planned) -> None:
    from toolkit.progress import counted

    plan = planned.plan
    print_table(
        "Steps: what is run after what",
        ["<step", "<runs"],
        [
            (
                number,
                "; ".join(f"{run.member} {run.precision} view {run.view + 1}" for run in step),
            )
            for number, step in enumerate(plan.steps, start=1)
        ],
    )
    print_table(
        f"On {plan.photos} held-out photos, costs measured on {plan.device['name']}",
        ["<way", "ms a photo", "runs", "agreement", "accuracy"],
        [
            (
                row["way"],
                figure(row["ms"], 2),
                figure(row["runs"], 2),
                percent(row["agreement"]),
                percent(row["accuracy"]),
            )
            for row in plan.table
        ],
        note="The fast plans, careful to bold, were chosen on these very photos: the certificate "
        "is what counts.",
    )
    photos = counted(planned.photos, "photo")
    basis = (
        f"promise: {planned.promise}"
        if planned.promise
        else f"{planned.sample} of them get their exact label to certify on"
    )
    print_line(
        f"for {photos}: {basis}; {figure(planned.expected_ms, 2)} ms of inference a photo "
        f"expected in all ({percent(planned.expected_ms / plan.exact_ms)} of exact)"
    )
    picture = planned.file.with_suffix(".png")
    print_line(f"planned in {planned.seconds:.1f} s: {planned.file}, drawn in {picture}")
