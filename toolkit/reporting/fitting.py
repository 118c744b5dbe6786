"""Whether a recipe set will fit into this machine's memory and disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.capacity import Capacity, Need, disk_needs
from toolkit.data.cache import decoded_bytes, decoded_folder
from toolkit.data.labelled import load_labelled
from toolkit.data.unpacking import would_extract
from toolkit.errors import ToolkitError
from toolkit.exporting import memory as exporting
from toolkit.training import memory as training
from toolkit.training.recipe_files import RecipeSet

PHOTOS_WITHOUT_DATA = 1000
"""Photos that the figures are for where there is no data folder yet."""


@dataclass(frozen=True)
class MemberFit:
    """What one network of a set needs.

    Attributes:
        backbone: The network.
        image_size: Side in pixels.
        batch_size: Photos a batch.
        training: Of memory, to be trained on a CPU.
        export: Of memory, to be exported.
    """

    backbone: str
    image_size: int
    batch_size: int
    training: Need
    export: Need


@dataclass(frozen=True)
class SetFit:
    """What a set needs.

    Attributes:
        recipes: Its name.
        photos: Labelled photos that the disk is estimated for.
        data: Their folder; empty where there is none, and `photos` is an example.
        members: The networks.
        disks: For runs, decoded photos and the bundle, one for each disk.
    """

    recipes: str
    photos: int
    data: str
    members: tuple[MemberFit, ...]
    disks: tuple[Need, ...]


def fit_of_set(
    recipes: RecipeSet, data: Path, runs: Path, bundle: Path, capacity: Capacity
) -> SetFit:
    """Estimate what a set needs, and compare it with what there is.

    Args:
        recipes: The set.
        data: The data folder, for the number of photos.
        runs: Where run folders are made.
        bundle: Where the bundle is made.
        capacity: Of this machine.
    """
    chosen = list(recipes.recipes.values())
    photos = _count(data)
    count = photos or PHOTOS_WITHOUT_DATA
    members = tuple(
        MemberFit(
            recipe.backbone,
            recipe.image_size,
            recipe.batch_size,
            training.memory_need(recipe, capacity),
            exporting.memory_need(recipe, capacity),
        )
        for recipe in chosen
    )
    wanted = {
        runs: training.training_disk(chosen),
        decoded_folder(): decoded_bytes(count, {recipe.image_size for recipe in chosen}),
        bundle: exporting.export_disk(chosen),
    }
    disks = disk_needs(f"the set '{recipes.name}'", wanted, capacity)
    return SetFit(recipes.name, count, str(data) if photos else "", members, tuple(disks))


def _count(data: Path) -> int:
    """Return the number of labelled photos; 0 where none can be listed without writing."""
    try:
        known = data.is_dir() and not would_extract(data)
        return len(load_labelled(data).photos) if known else 0
    except ToolkitError:
        return 0
