"""Classes of uneven size: the weights of their photos, and an order that shows all alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import RecipeError, suggestion
from toolkit.metrics import have_order
from toolkit.training.recipe import Recipe


def check_classes(recipe: Recipe, classes: Sequence[str]) -> None:
    """Refuse a recipe that says something of classes that the data do not have.

    Args:
        recipe: The recipe.
        classes: Category values in class order.

    Raises:
        ToolkitError: `class_weights` names an unknown class, or kappa is watched where classes
            have no order.
    """
    if isinstance(recipe.class_weights, Mapping):
        for name in recipe.class_weights:
            if name not in classes:
                raise RecipeError(
                    f"{recipe.backbone}: class_weights: unknown class '{name}'. "
                    f"{suggestion(name, classes)}",
                )
    if "val_kappa" in recipe.watched and not have_order(classes):
        raise RecipeError(
            f"{recipe.backbone}: val_kappa: Expected classes named by numbers, whose order counts; "
            f"received {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}.",
        )


def class_weights(
    recipe: Recipe, labels: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.float32] | None:
    """Return what a photo of each class counts in the loss.

    Args:
        recipe: The recipe.
        labels: Class indices of the training photos, shape (photos,).
        classes: Category values in class order.

    Returns:
        Shape (classes,), or None where all count alike. `balanced` gives each class the same sum,
        and a mean of 1 over the photos, as scikit-learn's `compute_class_weight` does.
    """
    if recipe.class_weights is None:
        return None
    weights = np.ones(len(classes), dtype=np.float32)
    if isinstance(recipe.class_weights, Mapping):
        for name, weight in recipe.class_weights.items():
            weights[classes.index(name)] = weight
        return weights
    from sklearn.utils.class_weight import compute_class_weight

    there = np.unique(labels)  # A validation split that was given may hold all photos of a class.
    weights[there] = compute_class_weight("balanced", classes=there, y=labels)
    return weights


def balanced_order(
    chosen: NDArray[np.int64], labels: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw an epoch in which all classes come equally often.

    A photo of a small class comes again only after all others of its class came; of a large class
    only some come. Classes take turns where the photos do not divide evenly among them.

    Args:
        chosen: Indices of the training photos.
        labels: Class index of each of all photos.
        generator: Decides the order.

    Returns:
        As many indices as `chosen`, in random order.
    """
    there = np.unique(labels[chosen])
    share, more = divmod(len(chosen), len(there))
    luckier = set(generator.permutation(there)[:more].tolist())
    parts: list[NDArray[np.int64]] = []
    for label in there:
        members = chosen[labels[chosen] == label]
        wanted = share + (int(label) in luckier)
        rounds = [generator.permutation(members) for _ in range(-(-wanted // len(members)))]
        parts += [np.concatenate(rounds)[:wanted]] if rounds else []
    return generator.permutation(np.concatenate(parts))


def occurrences(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each photo of an order came before, shape (photos,)."""
    places = np.argsort(order, kind="stable")
    ranked = order[places]
    first = np.r_[True, ranked[1:] != ranked[:-1]]
    starts = np.flatnonzero(first)
    counted = np.empty(len(order), dtype=np.int64)
    counted[places] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return counted
