"""`toolkit compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.terminal import (
    figure,
    interval,
    measured,
    measured_interval,
    percent,
    print_json,
    print_line,
    print_table,
)
from toolkit.cli.wording import in_options

if TYPE_CHECKING:
    from toolkit.intervals import Difference
    from toolkit.metrics import Metric
    from toolkit.progress import Reporter
    from toolkit.reporting.comparison import Row, SideBySide


@click.command("compare")
@click.argument(
    "subjects", type=options.EITHER, nargs=-1, metavar="[RUN_OR_BUNDLE]...", required=False
)
@click.option(
    "--against",
    default="best",
    show_default=True,
    metavar="best|first|NAME",
    help="What the others are compared with: the best by --metric, the first named, or one of "
    "them.",
)
@click.option(
    "--sort",
    type=options.Choice(["given", "metric", "accuracy", "log-loss", "calibration", "cost"]),
    default="given",
    show_default=True,
    help="Best or cheapest first; cost is milliseconds a photo, then seconds of training.",
)
@click.option(
    "--group",
    is_flag=True,
    help="Summarise runs of one recipe that differ only in name and training seed.",
)
@click.option("--members", is_flag=True, help="Show each member of a bundle by itself, too.")
@options.tta
@options.voting
@options.device
@options.batch
@click.option(
    "--measure", is_flag=True, help="Measure what the members of the bundles cost on this machine."
)
@click.option("--csv", "table", type=options.FILE, help="Write one row a line to this CSV, too.")
@options.metric(
    "accuracy", "What they are judged by: the best, and a difference with its interval."
)
@options.as_json
@options.reporter
def command(
    subjects: tuple[Path, ...],
    against: str,
    sort: str,
    group: bool,
    members: bool,
    tta: int,
    voting: str,
    device: str,
    batch: int,
    measure: bool,
    table: Path | None,
    metric: str,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Compare runs and bundles on the photos held out from their training, and by cost.

    RUN_OR_BUNDLE is a run folder (runs/improved/xception), a folder of runs (runs/improved, runs)
    or a bundle. Without any, runs/ and bundle/ are taken. A run is scored on one view a photo, a
    bundle on --tta views, with voting weights that were found without the photo they are judged on.
    """
    from toolkit import compare
    from toolkit.reporting.comparison_table import as_records, write_csv

    found = compare(
        subjects,
        against=against,
        sort=sort,
        group=group,
        members=members,
        tta=tta,
        voting=voting,
        device=device,
        batch=batch,
        measure=measure,
        metric=metric,
        reporter=reporter,
    )
    if table:
        write_csv(found, table)
    if as_json:
        rows, notes = as_records(found), [in_options(note) for note in found.notes]
        print_json({"against": found.against, "metric": metric, "rows": rows, "notes": notes})
        return
    _print_scores(found)
    _print_against(found)
    _print_cost(found)
    if table:
        print_line(f"{table}: {len(found.rows)} rows")


def _extra(found: SideBySide) -> Metric | None:
    """Return the chosen metric where it is none of those that are always printed."""
    from toolkit.metrics import METRICS

    return None if found.metric in ("accuracy", "log-loss") else METRICS[found.metric]


def _print_scores(found: SideBySide) -> None:
    extra = _extra(found)
    single = [row for row in found.rows if row.runs == 1]
    several = [row for row in found.rows if row.runs > 1]
    if several:
        print_table(
            "Recipes of several training seeds, on the photos held out from training",
            [
                "<recipe",
                "seeds",
                "photos",
                "accuracy",
                "lowest .. highest",
                "log-loss",
                "calibration error",
                *([extra.title] if extra else []),
            ],
            [
                (
                    row.name,
                    row.runs,
                    row.photos,
                    f"{_with_deviation(row, 'accuracy', 100)} %",
                    interval((row.spread["accuracy"].lowest, row.spread["accuracy"].highest)),
                    _with_deviation(row, "log_loss"),
                    _with_deviation(row, "calibration_error"),
                    *([measured(extra, row.metric.value)] if extra and row.metric else []),
                )
                if row.spread
                else (row.name, row.runs, *"-----", *("-" if extra else ""))
                for row in several
            ],
            note="The mean ± the standard deviation between training seeds.",
        )
    if single:
        print_table(
            "On the photos held out from training",
            [
                "<",
                "views",
                "photos",
                "accuracy",
                "95 % interval",
                "log-loss",
                "95 % interval",
                "calibration error",
                *([extra.title, "95 % interval"] if extra else []),
            ],
            [
                (
                    row.name,
                    row.views,
                    "-" if row.photos is None else row.photos,
                    percent(row.accuracy),
                    interval(row.accuracy_interval),
                    figure(row.log_loss),
                    _bounds(row.log_loss_interval),
                    figure(row.calibration_error),
                    *(_estimated(extra, row) if extra else []),
                )
                for row in single
            ],
            note="The same photos chose which epoch of a run was kept: all figures are a little "
            "flattered.",
        )
    for note in found.notes:
        print_line(in_options(note))
    print_line("")


def _estimated(metric: Metric, row: Row) -> tuple[str, str]:
    if row.metric is None:
        return "-", "-"
    value, bounds = row.metric.value, row.metric.interval
    return measured(metric, value), measured_interval(metric, bounds)


def _print_against(found: SideBySide) -> None:
    extra = _extra(found)
    rows = [(row, row.against) for row in found.rows if row.against]
    if not rows:
        return
    print_table(
        f"Against {found.against}, photo by photo",
        [
            "<",
            "accuracy",
            "95 % interval",
            "better on",
            "worse on",
            "p",
            "log-loss",
            "95 % interval",
            "p",
            *([extra.title, "95 % interval"] if extra else []),
        ],
        [
            (
                row.name,
                f"{100 * against.accuracy.mean:+.2f}",
                _bounds(against.accuracy.interval, 100, 2),
                *(
                    (
                        against.paired.only_first,
                        against.paired.only_second,
                        _p(against.paired.p_value),
                    )
                    if against.paired
                    else "---"
                ),
                f"{against.log_loss.mean:+.4f}",
                _bounds(against.log_loss.interval),
                _p(against.log_loss.p_value),
                *(_changed(against.metric) if extra else []),
            )
            for row, against in rows
        ],
        note="accuracy: points more (+) or less (-); better on: photos that only this one has "
        "right. p: how likely so large a difference is between equals, by McNemar's exact test "
        "and by the paired t test; of twenty such p, one is under 0.05 by chance. log-loss: below "
        "0 is better than the other.",
    )
    print_line("")


def _changed(change: Difference | None) -> tuple[str, str]:
    return ("-", "-") if change is None else (f"{change.mean:+.4f}", _bounds(change.interval))


def _print_cost(found: SideBySide) -> None:
    known = [row.cost.inference_ms is not None for row in found.rows]
    lines = []
    if any(known):
        lines.append(
            "ms a photo: inference on this machine, decoding not in it, each member measured by "
            "itself."
        )
    if not all(known):
        lines.append(
            "A dash under ms: not measured. --measure measures the members of bundles, and so the "
            "runs that they were exported from."
        )
    print_table(
        "Cost",
        ["<", "px", "epochs", "training", "M weights", "MB", "ms a photo"],
        [
            (
                row.name,
                _sizes(row.cost.image_sizes),
                figure(row.cost.epochs, 0),
                _duration(row.cost.training_seconds),
                figure(None if row.cost.parameters is None else row.cost.parameters / 1e6, 1),
                figure(row.cost.megabytes, 1),
                figure(row.cost.inference_ms, 2),
            )
            for row in found.rows
        ],
        note="\n".join(lines),
    )


def _with_deviation(row: Row, key: str, factor: float = 1) -> str:
    digits = 2 if factor > 1 else 4
    mean, deviation = getattr(row, key), row.spread[key].deviation
    return f"{factor * mean:.{digits}f} ± {factor * deviation:.{digits}f}"


def _bounds(bounds: tuple[float, float] | None, factor: float = 1, digits: int = 3) -> str:
    if not bounds:
        return "-"
    return f"{factor * bounds[0]:.{digits}f} .. {factor * bounds[1]:.{digits}f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _sizes(sizes: Any) -> str:
    if not sizes:
        return "-"
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
