"""What an export needs of memory and disk, estimated before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.capacity import Capacity, Need, disk_needs, refuse_what_does_not_fit
from toolkit.data.cache import bytes_to_decode, decoded_folder
from toolkit.data.pixels import PixelDefinition
from toolkit.progress import Reporter
from toolkit.training.memory import weights_bytes
from toolkit.training.recipe import Recipe

RUNTIME_BYTES = 1800 * 2**20
"""Python, TensorFlow, tf2onnx, onnxruntime, the traced network, outputs of layers in float64."""

_WEIGHT_COPIES = 5
"""The Keras model, the ONNX graph as it is built, checked and written, onnxruntime's own."""

_FILES = 2
"""The ONNX file, and a second one while a lower precision is tried."""


def export_memory(recipe: Recipe) -> int:
    """Estimate the peak memory of converting a network and comparing it with Keras.

    Fitted to the eight exports of `benchmarks/results/memory`, the most of which is off by 12 %.

    Returns:
        Bytes.
    """
    return RUNTIME_BYTES + _WEIGHT_COPIES * weights_bytes(recipe)


def export_disk(recipes: Sequence[Recipe]) -> int:
    """Estimate the most bytes that a bundle takes while it is made."""
    return _FILES * sum(weights_bytes(recipe) for recipe in recipes)


def memory_need(recipe: Recipe, capacity: Capacity) -> Need:
    """Return what exporting a network needs of memory."""
    work = f"exporting {recipe.backbone} at {recipe.image_size} px"
    return Need(work, "memory", export_memory(recipe), capacity.memory)


def refuse_too_little(
    recipes: Sequence[Recipe],
    bundle: Path,
    hashes: Sequence[str],
    pixels: PixelDefinition,
    capacity: Capacity,
    reporter: Reporter,
) -> None:
    """Refuse an export before it begins that surely does not fit into memory or disk.

    Args:
        recipes: Of the networks.
        bundle: The folder that is going to be made.
        hashes: SHA-256 of each photo that the networks are compared on.
        pixels: How photos are decoded.
        capacity: Of this machine.
        reporter: Where warnings are printed.

    Raises:
        ToolkitError: It does not fit; says what is needed and what is available.
    """
    for recipe in recipes:
        need = memory_need(recipe, capacity)
        refuse_what_does_not_fit(need, "Close other programs.", reporter)
    decoded = bytes_to_decode(hashes, {recipe.square for recipe in recipes}, pixels)
    wanted = {bundle.parent: export_disk(recipes), decoded_folder(): decoded}
    way_out = "Free some, or name other folders, for decoded photos by TOOLKIT_CACHE."
    for need in disk_needs("the export", wanted, capacity):
        refuse_what_does_not_fit(need, way_out, reporter)
