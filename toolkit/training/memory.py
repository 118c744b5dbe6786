"""What a training needs of memory and disk, estimated before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.capacity import Capacity, Need, disk_needs, refuse_what_does_not_fit
from toolkit.data.cache import bytes_to_decode, decoded_folder
from toolkit.data.pixels import PixelDefinition
from toolkit.progress import Reporter
from toolkit.training.recipe import Recipe
from toolkit.training.registry import find_backbone

RUNTIME_BYTES = 1050 * 2**20
"""Python, TensorFlow with its kernels, the traced steps, batches that wait."""

_FLOAT = 4

_WEIGHT_COPIES, _SLOTS = 3, 2
"""Weights, gradients and the best weights so far; what an optimizer keeps for each weight."""

_OUTPUT_COPIES = 1.25
"""Of the outputs of all layers: those themselves, and what the backward pass makes of them."""

_CHECKPOINTS_ON_DISK = 2
"""The last and, while it is being written, the next."""


def training_memory(recipe: Recipe) -> int:
    """Estimate the peak memory of training a recipe on a CPU.

    The model is a sum: the runtime; some copies of each weight; and the outputs of all layers for
    one batch, which the backward pass needs. It was fitted to the four trainings of
    `benchmarks/results/memory`, with TensorFlow, the most of which is off by 11 %. A stage with
    frozen layers takes less.

    Returns:
        Bytes.
    """
    backbone = find_backbone(recipe.backbone)
    copies = _WEIGHT_COPIES + _SLOTS + (recipe.ema is not None)
    copies += recipe.gradient_accumulation_steps is not None
    weights = backbone.parameters * _FLOAT * copies
    outputs = backbone.outputs_per_pixel * recipe.image_size**2 * recipe.batch_size * _FLOAT
    return round(RUNTIME_BYTES + weights + _OUTPUT_COPIES * outputs)


def training_disk(recipes: Sequence[Recipe], at_once: int = 1) -> int:
    """Estimate the most bytes that runs take in their folder while they are trained.

    Args:
        recipes: Of the runs.
        at_once: How many are trained at the same time.

    Returns:
        Bytes: the finished models, and the checkpoints with optimizer of the largest runs.
    """
    models = sorted((weights_bytes(recipe) for recipe in recipes), reverse=True)
    checkpoints = _CHECKPOINTS_ON_DISK * (2 + _SLOTS)  # the last weights, the best, the optimizer
    return sum(models) + checkpoints * sum(models[:at_once])


def weights_bytes(recipe: Recipe) -> int:
    """Return the size of a recipe's network in a file, without its head."""
    return find_backbone(recipe.backbone).parameters * _FLOAT


def memory_need(recipe: Recipe, capacity: Capacity) -> Need:
    """Return what training a recipe needs of memory."""
    batch = f"{recipe.image_size} px in batches of {recipe.batch_size}"
    work = f"training {recipe.backbone} at {batch}"
    return Need(work, "memory", training_memory(recipe), capacity.memory)


def refuse_too_little(
    recipes: Sequence[Recipe],
    runs: Path,
    hashes: Sequence[str],
    pixels: PixelDefinition,
    capacity: Capacity,
    reporter: Reporter,
    *,
    on_gpu: bool,
) -> None:
    """Refuse trainings before the first begins that surely do not fit into memory or disk.

    Args:
        recipes: What is going to be trained.
        runs: Where run folders are made.
        hashes: SHA-256 of each photo.
        pixels: How photos are decoded.
        capacity: Of this machine.
        reporter: Where warnings are printed.
        on_gpu: Whether outputs may lie in a GPU's memory, of which nothing is known here.

    Raises:
        ToolkitError: One does not fit; says what is needed and what is available.
    """
    if not recipes:
        return
    if not on_gpu:
        way_out = "Close other programs, or lower batch_size or image_size in the recipe."
        for recipe in {each.backbone: each for each in recipes}.values():
            refuse_what_does_not_fit(memory_need(recipe, capacity), way_out, reporter)
    squares = {each for recipe in recipes for each in (recipe.square, recipe.stored_square)}
    decoded = bytes_to_decode(hashes, squares, pixels)
    wanted = {runs: training_disk(recipes), decoded_folder(): decoded}
    way_out = "Free some, or name other folders, for decoded photos by TOOLKIT_CACHE."
    for need in disk_needs("training", wanted, capacity):
        refuse_what_does_not_fit(need, way_out, reporter)
