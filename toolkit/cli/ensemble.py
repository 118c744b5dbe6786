"""`toolkit ensemble`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from toolkit.cli import complete, options
from toolkit.cli.terminal import figure, print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.data.reading import Reading
    from toolkit.inference.certificate import Certify
    from toolkit.progress import Reporter
    from toolkit.reporting.job import Submitted


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
    help="Of random views, and of the sample that a promise rests on; trying several until one "
    "passes voids it.",
)
@click.option(
    "--plan",
    default="exact",
    show_default=True,
    metavar="exact|certain|fast|FILE",
    shell_complete=complete.plans,
    help="All members and views; their labels alone, for certain at less cost; or their labels but "
    "for a few, for far less, by a plan found now or in a file.",
)
@options.promise
@click.option(
    "--certify",
    type=options.Choice(["test", "off"]),
    help="The promise rests on a sample of the photos predicted, or there is none.  "
    "[default: test]",
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
    plan: str,
    tolerance: float | None,
    confidence: float | None,
    budget_ms: float | None,
    certify: Certify | None,
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

    With --out mine.csv the others are mine.json and mine-latency.json.
    Interrupted, the same command goes on where it stopped and writes the same bytes.
    """
    from toolkit.inference.plans import FastOptions
    from toolkit.progress import counted
    from toolkit.reporting.formats import FormatOptions
    from toolkit.reporting.job import submit

    options.refuse_without_plan(plan, tolerance, confidence, budget_ms, certify)
    fast = None
    if plan != "exact":
        fast = FastOptions(plan, tolerance, confidence, budget_ms, certify or "test")
    written = submit(
        bundle,
        data,
        out,
        settings,
        reading=reading,
        fast=fast,
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
        if written.latency["fast"]:
            print_fast(written.latency)
        print_line(f"{out}: {counted(written.rows, 'row')}, cost in {written.files['latency']}")


def _figures(written: Submitted) -> dict[str, Any]:
    """Return what was written, in short, and the latency report without its raw samples."""
    return {
        "files": {name: str(path) for name, path in written.files.items()},
        "rows": written.rows,
        "promise": written.promise,
        "answer": asdict(written.answer),
        "answered_with_class_prior": dict(written.broken),
        **{key: value for key, value in written.latency.items() if key != "samples_ms"},
    }


def print_fast(report: Mapping[str, Any]) -> None:
    """Print what the fast ensemble did and what it promises."""
    from toolkit.progress import counted

    fast = report["fast"]
    rows = [
        (str(number), "; ".join(step["runs"]), step["photos"], figure(100 * step["share"], 1))
        for number, step in enumerate(fast["steps"], start=1)
    ]
    if fast["sampled"]:
        share = 100 * fast["sampled"] / fast["certificate"]["photos"]
        rows.append(("sample", "the exact label, and the steps", fast["sampled"], figure(share, 1)))
    exact = fast["exact"]
    rows.append(
        (
            "rest",
            "until the exact label is certain",
            exact["photos"],
            figure(100 * exact["share"], 1),
        )
    )
    print_table("Where photos left", ["<step", "<runs", "photos", "%"], rows)
    inference = report["inference"]
    sitting = " of this sitting" if report["photos_of_an_earlier_sitting"] else ""
    print_line(
        f"{figure(inference['runs_a_photo'], 2)} network runs and "
        f"{figure(inference['ms_a_photo'], 2)} ms of inference a photo over "
        f"{counted(report['photos'], 'photo')}{sitting} (the exact ensemble: "
        f"{figure(fast['exact_ms_a_photo'], 2)} ms, as measured alone for the plan)"
    )
    print_line(f"promise: {fast['promise']}")


def print_latency(report: Mapping[str, Any]) -> None:
    """Print a latency report as tables."""
    from toolkit.inference.timing import SAMPLES_FOR_P90, SAMPLES_FOR_P99
    from toolkit.progress import counted

    print_table(
        f"Cost on {report['provider']} ({report['device']}), "
        f"{counted(report['threads'], 'thread')}, batch {report['batch']}, "
        f"{', '.join(report['precision'])}",
        ["<stage", "<unit", "p50", "p90", "p99", "n"],
        [
            (
                work,
                stage["unit"],
                *(figure(stage[key], 2) for key in ("p50", "p90", "p99")),
                stage["n"],
            )
            for work, stage in report["stages"].items()
        ],
        note=f"A dash: too few samples for that percentile (p90 wants {SAMPLES_FOR_P90}, p99 "
        f"{SAMPLES_FOR_P99}). Load and first run are apart:",
    )
    print_table(
        "",
        ["<member", "load ms", "first run ms"],
        [
            (name, figure(load, 0), figure(report["first_run_ms"].get(name), 0))
            for name, load in report["load_ms"].items()
        ],
    )
    rate = report["end_to_end"]["photos_per_second"]
    memory = report["peak_memory_bytes"]
    resumed = report["photos_of_an_earlier_sitting"]
    earlier = f" ({resumed} more were answered before it was interrupted)" if resumed else ""
    used = f", peak memory {memory / 2**20:.0f} MiB" if memory else ""
    print_line(
        f"end to end: {figure(rate, 2)} photos a second over "
        f"{counted(report['photos'], 'photo')}{earlier}{used}"
    )
