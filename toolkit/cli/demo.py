"""`toolkit demo`."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli import options
from toolkit.cli.terminal import print_line


@click.command("demo")
@click.argument("folder", type=options.FOLDER, default="data")
@click.option(
    "--seed", type=click.IntRange(0), default=42, show_default=True, help="Of the photos."
)
@click.option("--train", type=click.IntRange(2), default=40, show_default=True, help="A class.")
@click.option("--test", type=click.IntRange(1), default=20, show_default=True, help="A class.")
def command(folder: Path, seed: int, train: int, test: int) -> None:
    """Draw ten kinds of vehicles into FOLDER, in the layout of a competition.

    The true labels of its test photos stand in test-labels.csv.
    """
    from toolkit.data.demo import make_demo

    make_demo(folder, seed=seed, train_per_class=train, test_per_class=test)
    print_line(f"{folder}: {10 * train} labelled photos, {10 * test} to predict")
