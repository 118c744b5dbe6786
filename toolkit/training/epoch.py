"""How many batches an epoch has; known without Keras, before training begins."""

from __future__ import annotations

from toolkit.errors import ToolkitError
from toolkit.progress import counted
from toolkit.training.recipe import Recipe


def batches_an_epoch(photos: int, batch_size: int) -> int:
    """Return how many training batches so many photos make."""
    full, left = divmod(photos, batch_size)
    return full + (1 if left > 1 or full == 0 else 0)


def check_accumulation(recipe: Recipe, photos: int) -> None:
    """Refuse to accumulate gradients over more batches than an epoch has.

    Args:
        recipe: The recipe.
        photos: Number of training photos.

    Raises:
        ToolkitError: An epoch could end without any change of the weights.
    """
    accumulated = recipe.gradient_accumulation_steps or 1
    batches = batches_an_epoch(photos, recipe.batch_size)
    if accumulated > batches:
        raise ToolkitError(
            f"{recipe.set}/{recipe.backbone}: gradient_accumulation_steps: Expected at most "
            f"{batches}, for an epoch has {counted(photos, 'photo')} in batches of "
            f"{recipe.batch_size}; received {accumulated}."
        )
