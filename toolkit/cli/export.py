"""`toolkit export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.terminal import figure, percent, print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.inference.bundle import Bundle


@click.command("export")
@options.runs
@options.bundle
@click.option("--set", "set_name", metavar="NAME", help="Recipe set.  [default: trained last]")
@click.option("--name", help="Take the runs that were trained with this --name.")
@click.option(
    "--member",
    "members",
    type=options.FOLDER,
    multiple=True,
    help="A run folder to take instead; may be repeated.",
)
@click.option("--data", type=options.FOLDER, help="Data folder.  [default: the runs']")
@click.option(
    "--voting",
    default="auto",
    show_default=True,
    metavar="auto|uniform|accuracy|fitted|NAME=W,...",
    help="Voting weights; auto lets the held-out photos decide.",
)
@click.option("--fresh", is_flag=True, help="Replace a bundle that was made from something else.")
@options.as_json
@options.quiet
def command(
    runs: Path,
    bundle: Path,
    set_name: str | None,
    name: str | None,
    members: tuple[Path, ...],
    data: Path | None,
    voting: str,
    fresh: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export finished runs to ONNX files that were compared with Keras, and find voting weights."""
    from toolkit.exporting.export import ExportOptions, export
    from toolkit.exporting.select import choose_runs
    from toolkit.progress import Reporter

    chosen = choose_runs(runs, set_name=set_name, name=name, members=members)
    made = export(chosen, ExportOptions(bundle, data, voting, fresh), Reporter(quiet))
    if as_json:
        print_json({"bundle": str(made.folder), "sha256": made.sha256, **_figures(made)})
        return
    print_table(
        f"Members of {made.folder}",
        ["<member", "px", "accuracy", "log-loss", "logit error", "probability error", "photos"],
        [
            (
                member.name,
                member.image_size,
                percent(member.score.get("accuracy")),
                figure(member.score.get("log_loss")),
                f"{member.parity['logit_error']:.1e}",
                f"{member.parity['probability_error']:.1e}",
                member.parity["photos"],
            )
            for member in made.members
        ],
        note="Errors: the largest difference from Keras on those photos.",
    )
    print_voting(made, (1, 2, 4, 8))


def print_voting(bundle: Bundle, views: tuple[int, ...]) -> None:
    """Print how the ways to vote compare, for some numbers of views."""
    rows: list[tuple[object, ...]] = []
    for count in views:
        table = bundle.voting[count]
        if table.best_single:
            best = table.best_single
            rows.append(_row(count, f"best alone: {best['name']}", dict(best), ""))
        for name, alternative in table.alternatives.items():
            weights = ", ".join(
                f"{member.name} {weight:.2f}"
                for member, weight in zip(bundle.members, alternative.weights, strict=True)
                if weight
            )
            chosen = f"{name} *" if name == table.choice else name
            rows.append(_row(count, chosen, asdict(alternative), weights))
    print_table(
        "Voting on the held-out photos, cross-fitted",
        ["views", "<voting", "accuracy", "log-loss", "<weights"],
        rows,
        note=f"* chosen for {views[-1]} views: {bundle.voting[views[-1]].reason}.",
    )
    print_line("")


def _row(views: int, name: str, figures: dict[str, Any], weights: str) -> tuple[object, ...]:
    return views, name, percent(figures["accuracy"]), figure(figures["log_loss"]), weights


def _figures(bundle: Bundle) -> dict[str, Any]:
    content = asdict(bundle)
    return {key: content[key] for key in ("members", "voting")}
