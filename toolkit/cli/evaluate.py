"""`toolkit evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from toolkit.cli import options
from toolkit.cli.terminal import (
    doubts,
    figure,
    interval,
    measured,
    measured_interval,
    percent,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from toolkit.intervals import Paired
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
@click.option(
    "--gain",
    type=options.FILE,
    help="Write the bundle's gain over its best member to this JSON, for 'toolkit report'.",
)
@click.option("--confusion", type=options.FILE, help="Draw the confusion matrix to this PNG.")
@click.option(
    "--positive",
    metavar="CLASS",
    help="Of two classes the one whose probability SUBJECT, a submission, holds.  [default: as its "
    "column, or the labels, say]",
)
@options.metric("accuracy", "What answers are judged by: this figure is given an interval.")
@options.as_json
@options.reporter
def command(
    subject: Path,
    data: Path | None,
    labels: Path | None,
    photos: Path | None,
    against: Path | None,
    gain: Path | None,
    confusion: Path | None,
    metric: str,
    positive: str | None,
    as_json: bool,
    reporter: Reporter,
    **settings: Any,
) -> None:
    """Score SUBJECT, a run folder, a bundle or a submission's CSV, on labelled photos.

    Without --data or --labels, runs and bundles are scored on the photos held out from training.
    """
    from toolkit import compare_submissions, evaluate
    from toolkit.errors import ToolkitError, UsageError
    from toolkit.reporting.pictures import draw_confusion
    from toolkit.reporting.style import check_picture

    source = click.get_current_context().get_parameter_source
    given = {
        name: None if source(name) is ParameterSource.DEFAULT else value
        for name, value in settings.items()
    }
    if against:
        if data or photos:
            raise UsageError(
                "--data and --photos: Expected without --against, which compares by id. Name "
                "--labels FILE, or nothing."
            )
        if any(value is not None for value in given.values()):
            raise UsageError(
                "--tta, --voting, --device and --batch: Expected without --against, which compares "
                "answers that are given."
            )
        if confusion:
            raise click.UsageError("--confusion draws one submission: Expected without --against.")
        if gain:
            raise UsageError("--gain: Expected for a bundle of several members, without --against.")
        found_change = compare_submissions(
            subject, against, labels=labels, metric=metric, positive=positive
        )
        _print_comparison(found_change, as_json)
        return
    if gain and subject.is_file():
        raise UsageError(f"--gain: Expected a bundle, received the file {subject}.")
    if confusion:
        check_picture(confusion)
    found = evaluate(
        subject,
        data=data,
        labels=labels,
        photos=photos,
        metric=metric,
        positive=positive,
        reporter=reporter,
        **given,
    )
    if gain:
        if found.gain is None:
            raise ToolkitError(f"--gain: Expected a bundle whose votes are several, not {subject}.")
        found.gain.save(gain)
    if confusion:
        draw_confusion(found.confusion, found.classes, found.subject, confusion)
    rows = found.class_scores
    if as_json:
        print_json(
            {
                "subject": found.subject,
                "photos": found.photos,
                "scores": {name: _known(asdict(each)) for name, each in found.scores.items()},
                "metric": metric,
                "estimates": {name: asdict(each) for name, each in found.estimates.items()},
                "classes": {
                    name: asdict(row) for name, row in zip(found.classes, rows, strict=True)
                },
                "confusion": found.confusion.tolist(),
                **({"ranking": asdict(found.ranking)} if found.ranking else {}),
                "gain": asdict(found.gain) if found.gain else None,
            }
        )
        return
    _print_scores(found)
    print_table(
        f"Classes, by {list(found.scores)[-1]}",
        ["<class", "photos", "precision", "recall", "F1"],
        [
            (name, row.photos, *(percent(each, 1) for each in (row.precision, row.recall, row.f1)))
            for name, row in zip(found.classes, rows, strict=True)
        ],
        note=found.gain.sentence if found.gain else "",
    )


def _print_scores(found: Evaluation) -> None:
    from toolkit.metrics import METRICS

    others = [
        metric
        for metric in METRICS.values()
        if metric != found.metric
        and any(getattr(score, metric.key) is not None for score in found.scores.values())
    ]
    calibrated = any(score.calibration_error is not None for score in found.scores.values())
    last = list(found.estimates.values())[-1]
    lists = []
    if found.ranking:
        each = found.ranking
        lists.append(
            f"MAP@{each.length} {each.mean_precision:.4f} "
            f"({_bounds(each.interval)}); "
            f"the label is in the list for {percent(each.found)} of the photos."
        )
    print_table(
        found.subject,
        [
            *("<by", found.metric.title, "95 % interval"),
            *(metric.title for metric in others),
            *(["calibration error"] if calibrated else []),
        ],
        [
            (
                name,
                measured(found.metric, found.estimates[name].value),
                measured_interval(found.metric, found.estimates[name].interval),
                *(measured(metric, getattr(score, metric.key)) for metric in others),
                *([figure(score.calibration_error)] if calibrated else []),
            )
            for name, score in found.scores.items()
        ],
        note="\n".join(
            [
                f"On {found.photos}.",
                f"Interval: {last.how}.",
                *lists,
                *doubts({name: score.doubt for name, score in found.scores.items()}),
            ]
        ),
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
        f"Difference {100 * paired.difference:+.2f} points (95 % interval "
        f"{100 * paired.difference_interval[0]:+.2f} to {100 * paired.difference_interval[1]:+.2f})"
        f", p = {paired.p_value:.2g} (exact McNemar test, two-sided).",
    )
    if found.change and found.metric != "accuracy":
        from toolkit.metrics import METRICS

        change, metric = found.change, METRICS[found.metric]
        tested = "" if change.p_value is None else f", p = {change.p_value:.2g} (paired t test)"
        print_line(
            f"{metric.title}: difference {change.mean:+.4f}, 95 % interval "
            f"{_bounds(change.interval)}{tested}"
        )


def _bounds(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} .. {interval[1]:.4f}"


def _known(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if value is not None}
