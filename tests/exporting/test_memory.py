"""What an export needs is estimated before it begins, and refused where it surely does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.capacity import Capacity
from toolkit.data.pixels import PixelDefinition
from toolkit.errors import ToolkitError
from toolkit.exporting.memory import export_disk, export_memory, refuse_too_little
from toolkit.progress import Reporter
from toolkit.training.recipe_files import load_set

GIB = 2**30
RECIPES = list(load_set("improved").recipes.values())
HASHES = ["0" * 64] * 100
PIXELS = PixelDefinition()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.backbone)
def test_each_of_the_four_fits_into_a_computer_of_eight_gigabytes(recipe) -> None:
    assert GIB // 2 < export_memory(recipe) <= 3 * GIB


def test_too_little_memory_names_the_network_and_both_figures(tmp_path: Path) -> None:
    available = Capacity(GIB // 2, lambda folder: 500 * GIB)
    with pytest.raises(ToolkitError, match=r"exporting xception .* needs about .* 0\.5 GiB"):
        refuse_too_little(RECIPES, tmp_path / "bundle", HASHES, PIXELS, available, Reporter())


def test_too_small_a_disk_names_the_folder(tmp_path: Path) -> None:
    available = Capacity(64 * GIB, lambda folder: export_disk(RECIPES) // 2)
    with pytest.raises(ToolkitError, match=f"of disk for {tmp_path} and .* are available"):
        refuse_too_little(RECIPES, tmp_path / "bundle", HASHES, PIXELS, available, Reporter())
