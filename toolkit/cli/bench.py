"""`toolkit bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.terminal import figure, print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.progress import Reporter


@click.command("bench")
@options.bundle
@options.data
@click.option(
    "--scenario",
    type=options.Choice(["single-stream", "offline"]),
    default="offline",
    show_default=True,
    help="One photo after another, or all at hand.",
)
@click.option("--count", type=click.IntRange(1), default=512, show_default=True, help="Photos.")
@options.tta
@options.voting
@options.device
@options.batch
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads of a CPU session.  [default: all cores]",
)
@click.option("--out", type=options.FILE, help="Write figures and raw samples to this JSON file.")
@options.as_json
@options.reporter
def command(
    bundle: Path,
    data: Path,
    scenario: str,
    count: int,
    out: Path | None,
    as_json: bool,
    reporter: Reporter,
    **settings: Any,
) -> None:
    """Measure a bundle on the photos of --data, in the manner of MLPerf inference.

    Single-stream reports the 90th percentile of latency at batch 1; offline reports throughput.
    """
    from toolkit.data.reading import AUTO
    from toolkit.data.request import load_request
    from toolkit.files import write_json
    from toolkit.inference.bench import offline, single_stream
    from toolkit.inference.ensemble import Ensemble
    from toolkit.inference.timing import SAMPLES_FOR_P90, SAMPLES_FOR_P99, percentiles
    from toolkit.progress import counted

    if scenario == "single-stream":
        settings["batch"] = 1
    ensemble = Ensemble.load(bundle, **settings)
    reading = AUTO.completed(ensemble.bundle.data.reading, data, reporter)
    request = load_request(data, reading, reporter)
    photos = request.paths
    reporter.say(f"{data}: {request.found.line}")
    for note in ensemble.notes:
        reporter.say(note)
    for line in ensemble.details:
        reporter.detail(line)
    if scenario == "single-stream":
        result = single_stream(ensemble, photos, count, reporter)
    else:
        result = offline(ensemble, photos, count, settings["batch"], reporter)
    report = {
        "scenario": scenario,
        **settings,
        "provider": ensemble.provider,
        "device": ensemble.device.name,
        "notes": list(ensemble.notes),
        "threads": ensemble.threads,
        "photos": result.photos,
        "seconds": round(result.seconds, 3),
        "photos_per_second": round(result.photos_per_second, 3),
        "latency_ms": percentiles(result.latencies_ms),
    }
    if out:
        write_json(out, {**report, "samples_ms": result.latencies_ms})
    if as_json:
        print_json(report)
        return
    latency = report["latency_ms"]
    print_table(
        f"{scenario} on {ensemble.provider} ({ensemble.device.name}), "
        f"{counted(settings['tta'], 'view')}",
        ["photos a second", "p50 ms", "p90 ms", "p99 ms", "n"],
        [
            (
                figure(result.photos_per_second, 2),
                *(figure(latency[key], 2) for key in ("p50", "p90", "p99")),
                latency["n"],
            )
        ],
        note="Latency of a photo." if scenario == "single-stream" else "Latency of a batch.",
    )
    if latency["short_run"]:
        print_line(
            f"short run: too few samples for p99 ({SAMPLES_FOR_P99}) or even p90 "
            f"({SAMPLES_FOR_P90})."
        )
