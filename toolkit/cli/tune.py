"""`toolkit tune`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import options
from toolkit.cli.terminal import figure, print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.progress import Reporter


@click.command("tune")
@options.bundle
@options.data
@options.tta
@options.voting
@options.device
@options.batch
@click.option("--fresh", is_flag=True, help="Measure anew what was measured before.")
@options.as_json
@options.reporter
def command(
    bundle: Path,
    data: Path,
    tta: int,
    voting: str,
    device: str,
    batch: int,
    fresh: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Measure how a bundle's members best share this machine's cores.

    The fastest way is kept for this machine and bundle, and taken by every command with the same
    --tta, --voting and --batch that is given no --threads. It changes no answer.
    """
    from toolkit.data.request import load_request
    from toolkit.inference.bundle import load_bundle
    from toolkit.inference.devices import Device, on_device
    from toolkit.inference.threads import describe
    from toolkit.inference.tuning import ThreadPlan, measure_threads, saved_threads, threads_file
    from toolkit.inference.voting import choose_voting
    from toolkit.progress import counted

    manifest = load_bundle(bundle)
    manifest.check_pixels()
    chosen, photos = choose_voting(manifest, tta, voting), load_request(data).paths

    def tuned(where: Device) -> tuple[Device, ThreadPlan, bool]:
        if where.note:
            reporter.say(where.note)
        plan = None
        if not fresh:
            plan = saved_threads(manifest, chosen, views=tta, device=where, batch=batch)
        if plan:
            return where, plan, True
        plan = measure_threads(
            manifest, chosen, photos, views=tta, device=where, batch=batch, reporter=reporter
        )
        return where, plan, False

    where, plan, found = on_device(device, tuned)
    kept = threads_file(manifest, chosen, views=tta, device=where, batch=batch)
    if as_json:
        print_json(
            {
                "device": where.name,
                "views": tta,
                "batch": batch,
                **asdict(plan),
                "measured_before": found,
                "file": str(kept) if plan.tried else None,
            }
        )
        return
    if not plan.tried:
        print_line(plan.note)
        return
    print_table(
        f"Threads on {where.name}, {counted(plan.photos, 'photo')} x {counted(tta, 'view')}",
        ["<way", "ms a photo", "fastest", "slowest", "n"],
        [
            (
                describe(each.threads) + (" *" if each.threads == plan.threads else ""),
                *(figure(ms, 2) for ms in (each.ms, min(each.samples), max(each.samples))),
                len(each.samples),
            )
            for each in plan.tried
        ],
        note="* taken from now on: the smallest median. Decoding is not in it.",
    )
    again = " It was measured before; --fresh measures anew." if found else ""
    print_line(f"kept in {kept}.{again}")
