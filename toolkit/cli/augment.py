"""`toolkit augment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import complete, options
from toolkit.cli.terminal import print_json, print_line

if TYPE_CHECKING:
    from toolkit.data.reading import Reading


@click.command("augment")
@options.recipes
@options.data
@options.reading("labels", "id_column", "label_column")
@click.option(
    "--backbone",
    shell_complete=complete.backbones,
    help="Whose image size to take.  [default: the set's first]",
)
@click.option(
    "--preview",
    type=options.FILE,
    is_flag=False,
    flag_value="augmentation.png",
    default="augmentation.png",
    show_default=True,
    help="The sheet to draw.",
)
@click.option("--photos", type=click.IntRange(1, 40), default=6, show_default=True, help="Rows.")
@click.option(
    "--versions", type=click.IntRange(1, 20), default=6, show_default=True, help="Columns."
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Which photos, which changes.")
@options.as_json
def command(
    recipes: str,
    data: Path,
    reading: Reading,
    backbone: str | None,
    preview: Path,
    photos: int,
    versions: int,
    seed: int,
    as_json: bool,
) -> None:
    """Draw originals beside augmented versions, as training would see them."""
    from toolkit.progress import counted
    from toolkit.reporting.sheets import draw_augmentor
    from toolkit.training.recipe_files import load_set

    chosen = load_set(recipes)
    recipe = chosen.recipe(backbone or next(iter(chosen.recipes)))
    drawn = draw_augmentor(
        recipe, data, preview, reading=reading, photos=photos, versions=versions, seed=seed
    )
    if as_json:
        print_json({"file": str(preview), "photos": drawn, "versions": versions, "seed": seed})
        return
    print_line(f"{preview}: {counted(drawn, 'photo')}, {counted(versions, 'version')} each")
