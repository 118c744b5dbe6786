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
def command(only: tuple[str, ...], **arguments: Any) -> None:
    """Train all backbones of a recipe set, several at the same time.

    Interrupted, the same command goes on from the last checkpoints. Where one training fails, the
    others go on to their end.
    """
    from toolkit.cli.train import train_and_print

    train_and_print(only or None, **arguments)
