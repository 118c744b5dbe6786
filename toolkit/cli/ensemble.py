"""`toolkit ensemble`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from toolkit.cli import options
from toolkit.cli.terminal import figure, print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.data.reading import Reading
    from toolkit.inference.certificate import Certify
    from toolkit.progress import Reporter
    from toolkit.reporting.job import Submitted
    from toolkit.reporting.latency import CascadeReport, LatencyReport


@click.command("ensemble")
@options.bundle
@options.data
@options.reading("labels", "id_column", "photos", "sample")
@options.tta
@click.option(
    "--tta-views",
    type=options.Choice(["fixed", "augmentor"]),
    default="fixed",
    show_default=True,
    help="The fixed list of views, or random ones by the augmentor of training.",
)
@options.voting
@options.device
@options.batch
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads of a CPU session.  [default: all cores]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    help="Seed for random TTA views and for the sample that a guarantee is certified on. Trying "
    "several until one passes voids the guarantee.",
)
@click.option(
    "--full",
    is_flag=True,
    help="Let every member look at every view, also where that can change no label.",
)
@click.option(
    "--plan",
    type=options.FILE,
    help="Follow this plan, which 'toolkit plan' wrote; implies its tolerance.",
)
@options.guarantee
@click.option(
    "--certify",
    type=options.Choice(["test", "off"]),
    default="test",
    show_default=True,
    help="Certify the guarantee on a sample of the photos predicted, or give none.",
)
@options.answer_broken
@click.option(
    "--out", type=options.FILE, default="submission.csv", show_default=True, help="The submission."
)
@click.option(
    "--format",
    "answer_format",
    type=options.Choice(["labels", "probabilities"]),
    help="What the submission holds.  [default: what the sample submission asks for, else labels]",
)
@click.option(
    "--positive",
    metavar="CLASS",
    help="Of two classes the one whose probability a submission of one column holds.  [default: as "
    "the column says, else 1, true, yes or positive, else the second]",
)
@click.option(
    "--top", type=click.IntRange(1), metavar="K", help="Answer the K most probable labels (MAP@K)."
)
@click.option(
    "--clip",
    type=click.FloatRange(0, 0.5, min_open=True),
    metavar="P",
    help="Keep the submission's probabilities between P and 1 - P, for log-loss.",
)
@click.option("--probabilities", type=options.FILE, help="Write them too, as .csv or .parquet.")
@options.as_json
@options.reporter
def command(
    bundle: Path,
    data: Path,
    reading: Reading,
    out: Path,
    probabilities: Path | None,
    full: bool,
    plan: Path | None,
    tolerance: float | None,
    confidence: float | None,
    budget_ms: float | None,
    certify: Certify,
    answer_format: Literal["labels", "probabilities"] | None,
    positive: str | None,
    top: int | None,
    clip: float | None,
    skip_broken: bool,
    as_json: bool,
    reporter: Reporter,
    **settings: Any,
) -> None:
    """Predict the test photos and write submission.csv, submission.json and latency.json.

    Labels are those of the full ensemble: model calls that cannot change them are skipped. With
    --tolerance a few labels may differ, at far less cost. Where probabilities are wanted, every
    member looks at every view.

    With --out mine.csv the others are mine.json and mine-latency.json.
    Interrupted, the same command goes on where it stopped and writes the same bytes.
    """
    from toolkit.inference.finding import Skipping
    from toolkit.progress import counted
    from toolkit.reporting.formats import FormatOptions
    from toolkit.reporting.job import submit

    written = submit(
        bundle,
        data,
        out,
        settings,
        reading=reading,
        skipping=Skipping(full, tolerance, confidence, budget_ms, certify, plan),
        probabilities=probabilities,
        answer=FormatOptions(answer_format, positive, top, clip),
        skip_broken=skip_broken,
        reporter=reporter,
    )
    for id, reason in written.broken.items():
        reporter.say(f"answered with the class prior: {id}: {reason}")
    if as_json:
        print_json(_figures(written))
    else:
        print_latency(written.latency)
        print_method(written.latency)
        print_line(f"{out}: {counted(written.rows, 'row')}, cost in {written.files['latency']}")


def _figures(written: Submitted) -> dict[str, Any]:
    """Return what was written, in short, and the latency report without its raw samples."""
    from toolkit.artifacts import dump_artifact

    latency = dump_artifact(written.latency)
    return {
        "files": {name: str(path) for name, path in written.files.items()},
        "rows": written.rows,
        "method": written.method,
        "guarantee": written.guarantee,
        "answer": asdict(written.answer),
        "answered_with_class_prior": dict(written.broken),
        **{key: value for key, value in latency.items() if key != "samples_ms"},
    }


def print_method(report: LatencyReport) -> None:
    """Print how many model calls were made, and what is guaranteed of the labels."""
    from toolkit.progress import counted

    cascade, inference = report.cascade, report.inference
    if cascade and cascade.steps:
        _print_exits(cascade)
    resumed = " without resumed ones" if report.resumed_photos else ""
    measured = (
        f" (the full ensemble: {figure(cascade.full_ms_a_photo, 2)} ms, as measured alone for "
        "the plan)"
        if cascade
        else ""
    )
    if report.method != "full":
        print_line(
            f"{figure(inference.calls_a_photo, 2)} of {inference.full_calls_a_photo} model "
            f"calls and {figure(inference.ms_a_photo, 2)} ms of inference a photo over "
            f"{counted(report.photos, 'photo')}{resumed}{measured}"
        )
        print_line(f"guarantee: {report.guarantee}")


def _print_exits(cascade: CascadeReport) -> None:
    rows = [
        (str(number), "; ".join(step.calls), step.photos, figure(100 * step.share, 1))
        for number, step in enumerate(cascade.steps, start=1)
    ]
    if cascade.sampled:
        share = 100 * cascade.sampled / cascade.certificate.photos
        sampled = figure(share, 1)
        rows.append(("sample", "the full ensemble, and the steps", cascade.sampled, sampled))
    full = cascade.full
    rest = figure(100 * full.share, 1)
    rows.append(("rest", "until no call can change the label", full.photos, rest))
    print_table("Where photos exit", ["<step", "<calls", "photos", "%"], rows)


def print_latency(report: LatencyReport) -> None:
    """Print a latency report as tables."""
    from toolkit.inference.timing import SAMPLES_FOR_P90, SAMPLES_FOR_P99
    from toolkit.progress import counted

    print_table(
        f"Cost on {report.provider} ({report.device}), "
        f"{counted(report.threads, 'thread')}, batch {report.batch}, "
        f"{', '.join(report.precision)}",
        ["<stage", "<unit", "p50", "p90", "p99", "n"],
        [
            (
                work,
                stage.unit,
                *(figure(each, 2) for each in (stage.p50, stage.p90, stage.p99)),
                stage.n,
            )
            for work, stage in report.stages.items()
        ],
        note=f"A dash: too few samples for that percentile (p90 wants {SAMPLES_FOR_P90}, p99 "
        f"{SAMPLES_FOR_P99}). Load and first run are apart:",
    )
    print_table(
        "",
        ["<member", "load ms", "first run ms"],
        [
            (name, figure(load, 0), figure(report.first_run_ms.get(name), 0))
            for name, load in report.load_ms.items()
        ],
    )
    rate = report.end_to_end.photos_per_second
    memory = report.peak_memory_bytes
    resumed = report.resumed_photos
    earlier = f" (without {counted(resumed, 'resumed photo')})" if resumed else ""
    used = f", peak memory {memory / 2**20:.0f} MiB" if memory else ""
    print_line(
        f"end to end: {figure(rate, 2)} photos a second over "
        f"{counted(report.photos, 'photo')}{earlier}{used}"
    )
