"""`toolkit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import options
from toolkit.cli.terminal import print_json, print_line

if TYPE_CHECKING:
    from toolkit.progress import Reporter


@click.command("demo")
@click.argument("folder", type=options.FOLDER, default="data")
@click.option(
    "--seed", type=click.IntRange(0), default=42, show_default=True, help="Of the photos."
)
@click.option("--train", type=click.IntRange(2), default=240, show_default=True, help="A class.")
@click.option("--test", type=click.IntRange(1), default=125, show_default=True, help="A class.")
@options.as_json
@options.reporter
def command(
    folder: Path, seed: int, train: int, test: int, as_json: bool, reporter: Reporter
) -> None:
    """Draw eight kinds of vehicles into FOLDER, in the layout of a competition.

    The true labels of its test photos stand in test-labels.csv.
    """
    from toolkit.data.demo import CLASSES, make_demo

    make_demo(folder, seed=seed, train_per_class=train, test_per_class=test, reporter=reporter)
    if as_json:
        print_json({"folder": str(folder), "photos": CLASSES * train, "to_predict": CLASSES * test})
        return
    print_line(f"{folder}: {CLASSES * train} labelled photos, {CLASSES * test} to predict")
