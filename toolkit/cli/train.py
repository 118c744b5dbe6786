"""`toolkit train`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.terminal import figure, interval, percent, print_json, print_table

if TYPE_CHECKING:
    from toolkit.training.run import Run


@click.command("train")
@click.argument("backbones", nargs=-1, required=True, metavar="BACKBONE...")
@options.training
def command(backbones: tuple[str, ...], recipes: str, **settings: Any) -> None:
    """Train some backbones of a recipe set. Finished runs are not trained again."""
    train_and_print(recipes, backbones, **settings)


def train_and_print(
    recipes: str, backbones: tuple[str, ...] | None, as_json: bool, quiet: bool, **settings: Any
) -> None:
    """Train, draw the curves of each run, and print the table; `train-all` does the same."""
    from toolkit.progress import Reporter
    from toolkit.reporting.pictures import draw_curves
    from toolkit.training.recipe_files import load_set
    from toolkit.training.run import CURVES
    from toolkit.training.train import TrainingOptions, train

    def draw(run: Run) -> None:
        if not (run.folder / CURVES).is_file():
            draw_curves(run.history, run.label, run.folder / CURVES)

    chosen = load_set(recipes)
    runs = train(
        chosen,
        list(backbones or chosen.recipes),
        TrainingOptions(**settings),
        Reporter(quiet),
        when_finished=draw,
    )
    if as_json:
        print_json([{"run": str(run.folder), **_figures(run)} for run in runs])
        return
    print_table(
        f"Runs of the set '{chosen.name}'",
        ["<run", "px", "epochs", "best", "accuracy", "95 % interval", "log-loss", "seconds"],
        [
            (
                run.folder.name,
                run.recipe.image_size,
                run.epochs,
                run.best_epoch,
                percent(run.score.get("accuracy")),
                interval(run.score.get("interval")),
                figure(run.score.get("log_loss")),
                f"{run.seconds:.0f}",
            )
            for run in runs
        ],
        note=_note(runs[0]),
    )


def _figures(run: Run) -> dict[str, Any]:
    keys = ("score", "epochs", "best_epoch", "seconds", "finished")
    return {**{key: getattr(run, key) for key in keys}, "data": asdict(run.data)}


def _note(run: Run) -> str:
    if run.data.validation_photos:
        return f"Accuracy on {run.data.validation_photos} held-out photos, not augmented."
    return "Trained on all photos: nothing was held out to measure on."
