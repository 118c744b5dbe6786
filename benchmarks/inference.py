"""The full ensemble, label-exact and cascades against loops over Keras, onnxruntime and OpenVINO.

    python benchmarks/inference.py --slice 96 --own-size --labels test-labels.csv --out speed.json

Sides, in turns within one run, on the same photos, views and weights:
  keras          for each member and view: `keras_model.predict` on a generator; then the mean
  onnxruntime    the same loop over default sessions
  openvino fp32  the same loop over networks compiled for throughput; bf16 likewise
  full           `toolkit ensemble --full`
  label-exact    `toolkit ensemble`
  cascade 0.01   `toolkit ensemble --tolerance 0.01`; others likewise

All but the cascades predict a slice of the rows: their rates are taken for the rate on all rows.
End to end is from the first JPEG to the written CSV with networks loaded; plans were
found before, the certificate of a cascade is made on the clock.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
from inference_report import (
    LABEL_EXACT_SIDE,
    QUOTED,
    Labels,
    cascade_name,
    compare,
    described,
    peak_report,
    print_rest,
    print_table,
    ratios,
    side_report,
)
from peak import matrix_multiply, multiply_adds, peak_samples

from toolkit.data.labels import read_labels
from toolkit.data.request import load_request
from toolkit.files import write_json
from toolkit.inference.bundle import Bundle, load_bundle
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.finding import FULL, Skipping, cached_file, find_plan
from toolkit.inference.plan import save_plan
from toolkit.inference.voting import Voting, choose_voting
from toolkit.machine import package_versions, processor_name, usable_cores
from toolkit.processes import import_quietly
from toolkit.reporting.submission import latency_path, manifest_path

if TYPE_CHECKING:
    from sides import Sample, Side, Work

BATCH = 16
NOTES = (
    "Ratios are of medians of photos a second; over 1, the first named is faster.",
    "A side with a slice predicted only that many rows, and its rate is taken for all rows.",
    "Where rows are more than the distinct photos, photos repeat: their files come from the "
    "system's cache, and the cascades meet each photo again.",
    "End to end is from the first photo's file to the written CSV. The loops' networks are loaded "
    "and warm; ours load theirs before, so the slow first batch counts, and so does the "
    "loading of lower precisions.",
    "agreement_cascade_full is over the data's own size where that was run, else over the slice.",
)
VERSIONED = ("toolkit", "tensorflow", "keras", "onnxruntime-gpu", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Task:
    """What all sides are told.

    Attributes:
        bundle: Its manifest.
        voting: The weights.
        settings: As `submit` takes them.
    """

    bundle: Bundle
    voting: Voting
    settings: Mapping[str, Any]

    @property
    def views(self) -> int:
        """Views a photo."""
        return int(self.settings["tta"])

    @property
    def weights(self) -> dict[str, float]:
        """Of the members that have a vote."""
        named = zip(self.bundle.members, self.voting.weights, strict=True)
        return {member.name: weight for member, weight in named if weight > 0}

    @property
    def files(self) -> dict[str, Path]:
        """The ONNX files of the members that have a vote."""
        return {
            member.name: self.bundle.folder / member.file
            for member in self.bundle.members
            if member.name in self.weights
        }

    def ensemble(self) -> Ensemble:
        """Load the full ensemble for a plan."""
        return Ensemble.load(self.bundle, **self.settings)


def say(line: str) -> None:
    """Tell how far it is."""
    click.echo(line, err=True)


# Before the clock.


def plan_ahead(
    ensemble: Ensemble, tolerance: float, photos: int, *, fresh: bool
) -> dict[str, float | int | bool]:
    """Find a plan, and keep it where `submit` looks for it."""
    guarantee = Skipping(tolerance=tolerance).guarantee
    started = perf_counter()
    plan = find_plan(ensemble, guarantee, photos, fresh=fresh)
    seconds = perf_counter() - started
    save_plan(plan, cached_file(ensemble, guarantee, photos))
    return {
        "seconds": seconds,
        "costs_measured": fresh,
        "photos": photos,
        "steps": len(plan.steps),
        "threshold_sets": len(plan.threshold_sets),
    }


def plans_ahead(
    ensemble: Ensemble, tolerances: Sequence[float], rows: int, own: int
) -> dict[str, Any]:
    """Find the plans of all sides, and of the data's own size where that is not 0."""
    planning = {}
    for number, tolerance in enumerate(tolerances):
        say(f"planning: {cascade_name(tolerance)}")
        planning[cascade_name(tolerance)] = plan_ahead(ensemble, tolerance, rows, fresh=number == 0)
    if own:
        planned = plan_ahead(ensemble, QUOTED, own, fresh=False)
        planning[f"{cascade_name(QUOTED)}, own size"] = planned
    return planning


def own_size(
    sides: Mapping[str, Any], data: Path, folder: Path, truth: Labels, kept: Path | None
) -> dict[str, Any]:
    """Predict the data itself in full and by a cascade, once each; keep the files if asked."""
    samples: dict[str, Sample] = {}
    for short, name in (("full", "full"), ("cascade", cascade_name(QUOTED))):
        say(f"own size: {name}")
        out = folder / f"own-{short}" / f"submission_{short}.csv"
        samples[short] = sides[name].run_folder(data, out)
        if kept:
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(out, kept)
            shutil.copy(manifest_path(out), kept)
            shutil.copy(latency_path(out), kept / f"latency_{short}.json")
    return {
        **compare(samples["full"].labels, samples["cascade"].labels, truth),
        "sides": {name: described(sample) for name, sample in samples.items()},
    }


def in_turns(
    sides: Mapping[str, Side],
    works: Mapping[str, Work],
    rounds: Mapping[str, int],
    folder: Path,
) -> Iterator[tuple[dict[str, list[Sample]], list[float]]]:
    """Run all sides in rounds, each of which starts with another one.

    Yields:
        After each round, all samples by side, and those of the machine's peak.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in sides}
    peak: list[float] = []
    matmul = matrix_multiply()
    names = list(sides)
    for turn in range(max(rounds.values())):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if turn >= rounds[name]:
                continue
            peak += peak_samples(matmul)
            fresh = folder / f"{turn}-{name.replace(' ', '-')}"
            fresh.mkdir()
            sample = sides[name].run(works[name], fresh / "submission.csv")
            samples[name].append(sample)
            say(
                f"round {turn + 1}: {name}: {sample.photos} photos in {sample.seconds:.1f} s "
                f"({sample.inference_seconds:.1f} s inference alone)"
            )
        yield samples, peak


def about(task: Task) -> dict[str, Any]:
    """Tell what is measured, and where."""
    voters = [member for member in task.bundle.members if member.name in task.weights]
    return {
        "command": shlex.join(["python", "benchmarks/inference.py", *sys.argv[1:]]),
        "machine": f"{processor_name()}, {usable_cores()} cores",
        "versions": {"python": platform.python_version(), **package_versions(VERSIONED)},
        "bundle_sha256": task.bundle.sha256,
        "members": {member.name: member.image_size for member in voters},
        "voting": {"name": task.voting.name, "weights": task.weights},
        "views": task.views,
        "batch": BATCH,
        "notes": NOTES,
    }


def with_quoted(*arguments: Any) -> tuple[float, ...]:
    """Check --tolerance."""
    tolerances: tuple[float, ...] = arguments[2]
    if QUOTED not in tolerances:
        raise click.BadParameter(f"Expected {QUOTED} among them.")
    return tolerances


@click.command()
@click.option("--runs", type=click.Path(path_type=Path, exists=True), default="runs")
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), default="bundle")
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="data")
@click.option("--tta", default=4, show_default=True)
@click.option("--voting", default="auto", show_default=True)
@click.option("--rows", default=10000, show_default=True, help="The photos are repeated to these.")
@click.option(
    "--slice",
    "part",
    default=96,
    show_default=True,
    help="Photos of other sides; best a multiple of 16.",
)
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--cascade-rounds", default=1, show_default=True, help="Rounds with cascades, on all rows."
)
@click.option(
    "--tolerance",
    "tolerances",
    type=float,
    multiple=True,
    default=(0.005, QUOTED, 0.02),
    show_default=True,
    callback=with_quoted,
    help=f"Of the cascades, {QUOTED} among them; may be repeated.",
)
@click.option("--own-size", "with_own", is_flag=True, help="Also the data's own photos, once.")
@click.option("--labels", type=click.Path(path_type=Path, exists=True), help="Id,Category.")
@click.option("--submissions", type=click.Path(path_type=Path), help="Keep --own-size's files.")
@click.option("--out", type=click.Path(path_type=Path))
def main(
    runs: Path,
    bundle: Path,
    data: Path,
    tta: int,
    voting: str,
    rows: int,
    part: int,
    rounds: int,
    cascade_rounds: int,
    tolerances: tuple[float, ...],
    with_own: bool,
    labels: Path | None,
    submissions: Path | None,
    out: Path | None,
) -> None:
    """Measure photos a second of all sides, and how far their labels agree."""
    if submissions and not with_own:
        raise click.UsageError("--submissions keeps what --own-size writes. Pass --own-size.")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Keras would take a GPU, the others are on the CPU.
    import_quietly("keras")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # It warns where it traces twice.
    from sides import SubmitSide, Work, loop_sides

    manifest, request = load_bundle(bundle), load_request(data)
    settings = {"tta": tta, "tta_views": "fixed", "voting": voting, "device": "cpu"}
    settings |= {"batch": BATCH, "threads": None, "seed": 0}
    task = Task(manifest, choose_voting(manifest, tta, voting), settings)
    load_before = os.getloadavg()
    ensemble = task.ensemble()
    planning = plans_ahead(ensemble, tolerances, rows, len(request.ids) if with_own else 0)
    del ensemble
    loops, skipped = loop_sides(runs, manifest, task.voting, tta, BATCH)
    ours = {
        "full": SubmitSide(bundle, settings, FULL),
        LABEL_EXACT_SIDE: SubmitSide(bundle, settings),
    } | {
        cascade_name(each): SubmitSide(bundle, settings, Skipping(tolerance=each))
        for each in tolerances
    }
    known = read_labels(labels) if labels else {}
    counted = {name: multiply_adds(path) for name, path in task.files.items()}
    report = about(task) | {
        "rows": rows,
        "distinct_photos": min(rows, len(request.ids)),
        "skipped": skipped,
        "load_seconds": {name: side.load_seconds for name, side in loops.items()},
        "planning": planning,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        all_rows = Work.repeated(request, rows, folder / "rows")
        some = all_rows.part(part, folder / "slice")
        truth = {row: known[id] for row, id in all_rows.photos.items() if id in known}
        for loop in loops.values():
            loop.warm_up(some)
        cascades = [cascade_name(each) for each in tolerances]
        sides: dict[str, Side] = {**loops, **ours}
        works = {name: all_rows if name in cascades else some for name in sides}
        times = {name: cascade_rounds if name in cascades else rounds for name in sides}
        for samples, peak in in_turns(sides, works, times, folder):
            exact = samples["full"][-1].labels
            figures = {
                name: side_report(each, rows, exact, truth) for name, each in samples.items()
            }
            for name, loop in loops.items():
                figures[name]["provider"] = loop.provider
            report |= {
                "load_average": [load_before, os.getloadavg()],
                "sides": figures,
                "peak": peak_report(counted, tta, figures, peak),
                "ratios": ratios(figures, None),
                "own_size": None,
            }
            if out:
                write_json(out, report)
        if with_own:
            own = own_size(ours, data, folder, known, submissions)
            report |= {"ratios": ratios(figures, own), "own_size": own}
    print_table(figures)
    print_rest(report)
    if out:
        write_json(out, report)


if __name__ == "__main__":
    main()
