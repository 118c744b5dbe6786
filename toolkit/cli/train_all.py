"""`toolkit train-all`."""

from __future__ import annotations

from typing import Any

import click

from toolkit.cli import complete, options


@click.command("train-all")
@click.option(
    "--only",
    multiple=True,
    metavar="BACKBONE",
    shell_complete=complete.backbones,
    help="Only this one; may be repeated.",
)
@options.training
def command(only: tuple[str, ...], recipes: str, **settings: Any) -> None:
    """Train all backbones of a recipe set, one after another.

    Interrupted, the same command goes on after the last finished epoch.
    """
    from toolkit.cli.train import train_and_print

    train_and_print(recipes, only or None, **settings)
