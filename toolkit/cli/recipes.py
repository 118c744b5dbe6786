"""`toolkit recipes`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import complete, options
from toolkit.cli.terminal import percent, print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.training.recipe_files import RecipeSet


@click.command("recipes")
@click.argument("name", required=False, metavar="[SET|DIR]", shell_complete=complete.recipe_sets)
@click.argument("backbone", required=False, shell_complete=complete.backbones)
@click.option("--copy", type=options.FOLDER, help="Copy the set into this new folder, to edit.")
@options.as_json
def command(name: str | None, backbone: str | None, copy: Path | None, as_json: bool) -> None:
    """List the recipe sets, or show the recipes of one with everything resolved."""
    from toolkit.training.recipe_files import copy_set, load_set, load_shipped_sets

    if copy:
        if not name:
            raise click.UsageError("--copy needs the name of a set: toolkit recipes SET --copy DIR")
        found_by = copy_set(name, copy)
        if as_json:
            print_json({"folder": str(copy), "recipes": found_by})
            return
        known = shlex.quote(found_by)
        print_line(f"{copy}: edit it, then 'toolkit train-all --recipes {known}'")
        return
    if name is None:
        _print_sets(load_shipped_sets(), as_json)
        return
    recipes = load_set(name)
    shown = [recipes.recipe(backbone)] if backbone else list(recipes.recipes.values())
    if as_json:
        print_json([recipe.model_dump(mode="json", exclude_none=True) for recipe in shown])
        return
    for recipe in shown:
        print_line(f"# {recipes.name}/{recipe.backbone}.yaml, resolved\n{recipe.to_yaml()}")


def _print_sets(sets: list[RecipeSet], as_json: bool) -> None:
    if as_json:
        print_json({each.name: _figures(each) for each in sets})
        return
    print_table(
        "Recipe sets",
        ["<set", "<backbone", "px", "batch", "epochs", "pixels", "published", "<description"],
        [
            (
                recipes.name if index == 0 else "",
                recipe.backbone,
                recipe.image_size,
                recipe.batch_size,
                recipe.epochs,
                recipe.pixels,
                percent(recipe.published_accuracy),
                recipes.description if index == 0 else "",
            )
            for recipes in sets
            for index, recipe in enumerate(recipes.recipes.values())
        ],
        note="Published: validation accuracy, taken on augmented validation photos with the "
        "weights of the last epoch.",
    )


def _figures(recipes: RecipeSet) -> dict[str, Any]:
    shown = ("image_size", "resize", "batch_size", "epochs", "pixels", "published_accuracy")
    return {
        "description": recipes.description,
        "recipes": {
            backbone: {key: getattr(recipe, key) for key in shown}
            for backbone, recipe in recipes.recipes.items()
        },
    }
