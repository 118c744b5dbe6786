"""`toolkit evaluate`."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from toolkit.cli import options
from toolkit.cli.terminal import figure, interval, percent, print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.metrics import Paired
    from toolkit.progress import Reporter
    from toolkit.reporting.answers import Comparison
    from toolkit.reporting.evaluation import Evaluation


@click.command("evaluate")
@click.argument("subject", type=options.EITHER, default="bundle")
@click.option("--data", type=options.FOLDER, help="Labelled data folder or class folders.")
@click.option("--labels", type=options.FILE, help="CSV of ids and categories instead.")
@click.option("--photos", type=options.FOLDER, help="Where its ids are.  [default: beside it]")
@click.option(
    "--against",
    type=options.FILE,
    help="Compare SUBJECT, a submission, with this other; without --labels, only their agreement.",
)
@options.tta
@options.voting
@options.device
@options.batch
@click.option("--confusion", type=options.FILE, help="Draw the confusion matrix to this PNG.")
@options.as_json
@options.reporter
def command(
    subject: Path,
    data: Path | None,
    labels: Path | None,
    photos: Path | None,
    against: Path | None,
    confusion: Path | None,
    as_json: bool,
    reporter: Reporter,
    **settings: Any,
) -> None:
    """Score SUBJECT, a run folder, a bundle or a submission's CSV, on labelled photos.

    Without --data or --labels, runs and bundles are scored on the photos held out from training.
    """
    from toolkit.errors import UsageError
    from toolkit.metrics import class_table
    from toolkit.metrics import confusion as confusion_counts
    from toolkit.reporting.answers import compare
    from toolkit.reporting.evaluation import LabelledPhotos, evaluate
    from toolkit.reporting.pictures import draw_confusion
    from toolkit.reporting.style import check_picture

    source = click.get_current_context().get_parameter_source
    asked = [key for key in settings if source(key) is not ParameterSource.DEFAULT]
    if against:
        if data or photos:
            raise UsageError(
                "--data and --photos: Expected without --against, which compares by id. Name "
                "--labels FILE, or nothing."
            )
        if asked:
            raise UsageError(
                "--tta, --voting, --device and --batch: Expected without --against, which compares "
                "answers that are given."
            )
        if confusion:
            raise click.UsageError("--confusion draws one submission: Expected without --against.")
        _print_comparison(compare(subject, against, labels), as_json)
        return
    if confusion:
        check_picture(confusion)
    found = evaluate(subject, LabelledPhotos(data, labels, photos), settings, reporter, asked=asked)
    counts = confusion_counts(found.predicted, found.labels, len(found.classes))
    if confusion:
        draw_confusion(counts, found.classes, found.subject, confusion)
    rows = class_table(counts)
    if as_json:
        print_json(
            {
                "subject": found.subject,
                "photos": found.photos,
                "scores": {name: _without_nan(asdict(s)) for name, s in found.scores.items()},
                "classes": dict(zip(found.classes, rows, strict=True)),
                "confusion": counts.tolist(),
            }
        )
        return
    _print_scores(found)
    print_table(
        f"Classes, by {list(found.scores)[-1]}",
        ["<class", "photos", "precision", "recall", "F1"],
        [
            (name, row["photos"], *(percent(row[key], 1) for key in ("precision", "recall", "f1")))
            for name, row in zip(found.classes, rows, strict=True)
        ],
    )


def _print_scores(found: Evaluation) -> None:
    print_table(
        found.subject,
        ["<by", "accuracy", "95 % interval", "log-loss", "calibration error"],
        [
            (
                name,
                percent(score.accuracy),
                interval(score.interval),
                *(
                    figure(None if math.isnan(value) else value)
                    for value in (score.log_loss, score.calibration_error)
                ),
            )
            for name, score in found.scores.items()
        ],
        note=f"On {found.photos}.",
    )


def _print_comparison(found: Comparison, as_json: bool) -> None:
    agreed = found.agreement
    if as_json:
        content = asdict(found)
        content["agreement"]["equal"] = agreed.equal
        print_json(content)
        return
    print_line(
        f"{found.subject} against {found.against}, {found.photos}: {percent(agreed.equal)} of the "
        f"labels are equal, {agreed.differing} differ"
    )
    if found.paired:
        _print_paired(found, found.paired)


def _print_paired(found: Comparison, paired: Paired) -> None:
    print_table(
        "",
        ["<submission", "accuracy", "95 % interval", "right where the other is wrong"],
        [
            (name, percent(accuracy), interval(bounds), alone)
            for name, accuracy, bounds, alone in zip(
                (found.subject, found.against),
                paired.accuracies,
                paired.intervals,
                (paired.only_first, paired.only_second),
                strict=True,
            )
        ],
        note=f"Both are wrong, with different labels, on {paired.both_wrong}.\n"
        f"Difference {100 * paired.difference:+.2f} points, p = {paired.p_value:.2g} "
        "(exact McNemar test, two-sided).",
    )


def _without_nan(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if value == value}  # noqa: PLR0124
