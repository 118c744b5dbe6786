"""What the shell offers when a user presses the tab key; see the README for how to switch it on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def backbones(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the backbones that can be trained, without those that were typed already."""
    from toolkit.training.registry import BACKBONES

    typed = ctx.params.get(param.name or "") or ()
    return _starting(incomplete, (name for name in BACKBONES if name not in typed))


def recipe_sets(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the recipe sets that come with the toolkit, and the folders that are there."""
    from importlib import resources

    # Loading recipes takes a second, their names do not.
    shipped = Path(str(resources.files("toolkit.recipes")))
    names = sorted(path.parent.name for path in shipped.glob("*/set.yaml"))
    return [*_starting(incomplete, names), CompletionItem(incomplete, type="dir")]


def pretrained(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the words beside a folder."""
    return [
        *_starting(incomplete, ("imagenet", "none")),
        CompletionItem(incomplete, type="dir"),
    ]


def precisions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer a further precision after the last comma."""
    before, comma, begun = incomplete.rpartition(",")
    # As toolkit.exporting.precision has them, which takes seconds to import.
    names = ("fp32", "fp16", "bf16", "int8")
    free = (name for name in names if name not in before.split(","))
    return _starting(begun, free, prefix=before + comma)


def votings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the ways to vote, and the members of the bundle: `NAME=`, then the next."""
    before, comma, begun = incomplete.rpartition(",")
    named = {part.partition("=")[0] for part in before.split(",")}
    weights = [f"{name}=" for name in _members(ctx) if name not in named]
    words = [] if before else ["auto", "uniform", "accuracy", "fitted", "selected"]
    return _starting(begun, [*words, *weights], prefix=before + comma)


def _members(ctx: click.Context) -> list[str]:
    """Return the members of the bundle that the command line names."""
    from toolkit.errors import ToolkitError
    from toolkit.inference.bundle import load_bundle

    try:
        bundle = load_bundle(Path(ctx.params.get("bundle") or "bundle"))
        names = [*(voter.name for voter in bundle.voters), *(each.name for each in bundle.members)]
        return list(dict.fromkeys(names))
    except ToolkitError:
        return []


def _starting(begun: str, words: Iterable[str], prefix: str = "") -> list[CompletionItem]:
    return [CompletionItem(prefix + word) for word in words if word.startswith(begun)]
