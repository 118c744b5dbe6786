"""Options that several commands share, each said once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from toolkit.cli import complete
from toolkit.errors import ToolkitError, nearest
from toolkit.files import irregularity, refuse_undecodable


class Choice(click.Choice[str]):
    """A choice whose refusal says what was probably meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Add the nearest choice to click's message."""
        message = super().get_invalid_choice_message(value, ctx)
        return f"{message} {nearest(str(value), self.choices)}".rstrip()


def listed(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Return several words that stand in one, with commas between."""
    return tuple(word.strip() for word in value.split(","))


def numbers(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Return several whole numbers that stand in one word, with commas between."""
    if value is None:
        return None
    try:
        return tuple(int(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"Expected numbers with commas between, such as 0,1, received '{value}'."
        ) from None


class _Path(click.Path):
    """A path; one that is not UTF-8 is refused, because no result could name it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            refuse_undecodable(path)
        except ToolkitError as error:
            self.fail(str(error), param, ctx)
        return path


FOLDER = _Path(path_type=Path, file_okay=False)


class _File(_Path):
    """The path of a file to read or write; what else stands there is refused before any work."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = super().convert(value, param, ctx)
        try:
            other = irregularity(path.stat())
        except (OSError, ValueError):
            return path
        if other:
            self.fail(f"'{path}' is {other}, not a file.", param, ctx)
        return path


FILE = _File(path_type=Path)
EITHER = _Path(path_type=Path)

data = click.option("--data", type=FOLDER, default="data", show_default=True, help="Data folder.")
runs = click.option("--runs", type=FOLDER, default="runs", show_default=True, help="Run folders.")
bundle = click.option(
    "--bundle", type=FOLDER, default="bundle", show_default=True, help="Bundle folder."
)
recipes = click.option(
    "--recipes",
    default="improved",
    show_default=True,
    metavar="NAME|DIR",
    shell_complete=complete.recipe_sets,
    help="Recipe set: one that 'toolkit recipes' lists, or a folder of your own.",
)
skip_broken = click.option(
    "--skip-broken", is_flag=True, help="Leave photos out that cannot be read, and say which."
)
answer_broken = click.option(
    "--skip-broken",
    is_flag=True,
    help="Answer photos that cannot be read with the class prior, and say which.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
device = click.option(
    "--device",
    type=Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Device to compute on; auto takes a GPU where one works. Any other that is unavailable "
    "is an error.",
)
voting = click.option(
    "--voting",
    default="auto",
    show_default=True,
    metavar="auto|uniform|accuracy|fitted|selected|NAME=W,...",
    shell_complete=complete.votings,
    help="Voting weights; auto takes what the export chose, for random views uniform.",
)
tta = click.option(
    "--tta",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="Number of test-time-augmentation views a photo.",
)
METRICS = ("accuracy", "log-loss", "macro-f1", "balanced-accuracy", "auc", "kappa")


def metric(default: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --metric."""
    return click.option(
        "--metric", type=Choice(METRICS), default=default, show_default=True, help=help
    )


batch = click.option(
    "--batch", type=click.IntRange(1), default=16, show_default=True, help="Photos a batch."
)


def reporter(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add -q and -v; the command gets a `reporter` that says as much as they ask for."""

    @click.option("-q", "--quiet", is_flag=True, help="Suppress progress output.")
    @click.option("-v", "--verbose", is_flag=True, help="Report versions, details and durations.")
    @functools.wraps(command)
    def telling(*arguments: Any, quiet: bool, verbose: bool, **named: Any) -> Any:
        from toolkit.cli.wording import OptionReporter

        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose: Expected one of them.")
        chosen = OptionReporter(quiet, verbose)
        if verbose:
            from toolkit.machine import described

            chosen.detail(described())
        return command(*arguments, reporter=chosen, **named)

    return telling


def reading(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add options that say how the data folder is to be read; the command gets a `reading`.

    Args:
        names: Fields of `toolkit.data.reading.Reading`.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def reading_it(*arguments: Any, **named: Any) -> Any:
            from toolkit.data.reading import Reading

            said = {name: named.pop(name) for name in names}
            return command(*arguments, reading=Reading(**said), **named)

        wrapped: Callable[..., Any] = reading_it
        for name in reversed(names):
            wrapped = _READING[name](wrapped)
        return wrapped

    return add


_READING: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "labels": click.option(
        "--labels",
        type=FILE,
        help="Table of ids and labels, where it cannot be found by itself.",
    ),
    "id_column": click.option("--id-column", metavar="NAME", help="Its column of ids."),
    "label_column": click.option("--label-column", metavar="NAME", help="Its column of labels."),
    "photos": click.option(
        "--photos", type=FOLDER, help="Folder of the photos, where it cannot be found by itself."
    ),
    "sample": click.option("--sample", type=FILE, help="The sample submission."),
    "group_column": click.option(
        "--group-column",
        metavar="NAME",
        help="Column of the labels' table; photos with one value, such as those of one patient, "
        "stay on one side of every split.",
    ),
}


def training(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `train-all` and `train`."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        recipes,
        data,
        *(
            _READING[name]
            for name in ("labels", "id_column", "label_column", "photos", "group_column")
        ),
        runs,
        click.option(
            "--pretrained",
            metavar="imagenet|none|DIR",
            shell_complete=complete.pretrained,
            help="Start from downloaded ImageNet weights, from nothing, or from a folder of "
            "<backbone>_imagenet_notop.weights.h5 files.  [default: as the recipe says]",
        ),
        click.option(
            "--pretrained-missing",
            type=Choice(["error", "none"]),
            default="error",
            show_default=True,
            help="What to do for a backbone that has no file in --pretrained DIR.",
        ),
        click.option("--name", help="Train beside other runs, in <backbone>-NAME."),
        click.option("--seed", type=click.IntRange(0), help="Training seed.  [default: recipe's]"),
        click.option(
            "--split-seed",
            type=click.IntRange(0),
            default=42,
            show_default=True,
            help="Seed of the validation split.",
        ),
        click.option(
            "--folds",
            type=click.IntRange(2),
            help="Train each backbone once for each of so many folds, in <backbone>-fold0 and so "
            "on; near-duplicates and groups stay in one fold.",
        ),
        click.option(
            "--holdout",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            metavar="SHARE",
            help="With --folds: keep this share of the photos outside all folds.",
        ),
        click.option(
            "--only-folds",
            callback=numbers,
            metavar="0,1,...",
            help="With --folds: train only these; another machine may train the others.",
        ),
        click.option("--fresh", is_flag=True, help="Discard what the run folders hold."),
        skip_broken,
        click.option(
            "--refit-all",
            is_flag=True,
            help="Train on all photos for the recipe's epochs, without validation.",
        ),
        click.option("--mixed-precision", is_flag=True, help="Compute in 16 bits; needs a GPU."),
        click.option("--tensorboard", is_flag=True, help="Write TensorBoard logs into the runs."),
        click.option(
            "--workers",
            type=click.IntRange(1),
            help="Threads that prepare batches.  [default: one a core, at most 4]",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(1),
            help="Backbones to train at the same time; changes no result.  [default: as many as "
            "cores and memory allow, one on a GPU]",
        ),
        click.option(
            "--threads",
            type=click.IntRange(1),
            help="Threads that one training computes with. Part of a run: another number gives "
            "other last digits.  [default: one a core, at most 8; an interrupted run keeps its "
            "own]",
        ),
        click.option(
            "--checkpoint-every",
            "checkpoint_every_s",
            type=click.FloatRange(0),
            default=120,
            show_default=True,
            metavar="SECONDS",
            help="Least time between two checkpoints, which are written after an epoch.",
        ),
        as_json,
        reporter,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def guarantee(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --tolerance, --confidence and --budget-ms."""
    for option in (
        click.option(
            "--budget-ms",
            type=click.FloatRange(0, min_open=True),
            help="Largest mean inference cost a photo, in milliseconds.",
        ),
        click.option(
            "--confidence",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="That no more labels differ.  [default: the plan's, else 0.95]",
        ),
        click.option(
            "--tolerance",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            metavar="SHARE",
            help="Let at most this share of the labels differ from the full ensemble's, such as "
            "0.01, for far fewer model calls.",
        ),
    ):
        command = option(command)
    return command
