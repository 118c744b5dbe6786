"""`toolkit train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import complete, options
from toolkit.cli.terminal import doubts, figure, interval, percent, print_json, print_table

if TYPE_CHECKING:
    from toolkit.training.run import Run


@click.command("train")
@click.argument(
    "backbones",
    nargs=-1,
    required=True,
    metavar="BACKBONE...",
    shell_complete=complete.backbones,
)
@options.training
def command(backbones: tuple[str, ...], **arguments: Any) -> None:
    """Train some backbones of a recipe set. Finished runs are not trained again."""
    train_and_print(backbones, **arguments)


def train_and_print(backbones: tuple[str, ...] | None, as_json: bool, **arguments: Any) -> None:
    """Train and print the table; `train-all` does the same."""
    from toolkit import train

    runs = train(backbones=backbones, **arguments)
    if as_json:
        print_json([{"run": str(run.folder), **figures(run)} for run in runs])
        return
    print_runs(f"Runs of the set '{runs[0].recipe.set}'", runs)


def print_runs(title: str, runs: Sequence[Run]) -> None:
    """Print a table of finished runs, with their sets where these are several."""
    one_set = len({run.recipe.set for run in runs}) == 1
    print_table(
        title,
        [
            "<run",
            "px",
            "epochs",
            "best",
            "accuracy",
            "95 % interval",
            "log-loss",
            "seconds",
            "peak GiB",
        ],
        [
            (
                run.folder.name if one_set else run.label,
                run.recipe.image_size,
                run.epochs,
                run.best_epoch,
                percent(run.score.accuracy if run.score else None),
                interval(run.score.interval if run.score else None),
                figure(run.score.log_loss if run.score else None),
                f"{run.seconds:.0f}",
                f"{run.peak_memory_bytes / 2**30:.1f}" if run.peak_memory_bytes else "",
            )
            for run in runs
        ],
        note=_note(runs),
    )


def figures(run: Run) -> dict[str, Any]:
    """Return what a run is and how good, for JSON."""
    keys = ("epochs", "best_epoch", "seconds", "finished", "peak_memory_bytes")
    return {
        "set": run.recipe.set,
        "backbone": run.recipe.backbone,
        "image_size": run.recipe.image_size,
        **{key: getattr(run, key) for key in keys},
        "score": asdict(run.score) if run.score else None,
        "model_sha256": run.model_sha256,
        "data": asdict(run.data),
    }


def _note(runs: Sequence[Run]) -> str:
    from toolkit.progress import counted

    held_out = {run.data.validation_photos for run in runs}
    if held_out == {0}:
        return "Trained on all photos: nothing was held out to measure on."
    photos = " or ".join(str(count) for count in sorted(held_out - {0})[:-1])
    most = counted(max(held_out), "held-out photo")
    lines = [f"Accuracy on {f'{photos} or ' if photos else ''}{most}, not augmented."]
    return "\n".join([*lines, *doubts({run.label: run.score.doubt for run in runs if run.score})])
