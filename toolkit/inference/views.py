"""Test-time-augmentation views: what an ensemble looks at for one photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels


@dataclass(frozen=True)
class View:
    """One way to look at a resized photo.

    Attributes:
        name: For reports.
        fraction: Side of the crop as a share of the photo's side.
        anchor: Where the crop lies.
        mirrored: Whether left and right are exchanged.
    """

    name: str
    fraction: float = 1.0
    anchor: str = "centre"
    mirrored: bool = False

    def __call__(self, pixels: Pixels) -> Pixels:
        """Make the view.

        Args:
            pixels: Shape (size, size, 3), uint8, RGB. It is not changed.

        Returns:
            The same shape and dtype. A crop is brought back to size bilinearly with half-pixel
            centres, in exact integer arithmetic, and rounded half up.
        """
        seen = pixels
        if self.fraction < 1:
            start, side = self.crop(len(pixels))
            seen = enlarge(pixels[start : start + side, start : start + side], len(pixels))
        return np.ascontiguousarray(seen[:, ::-1]) if self.mirrored else seen

    def crop(self, size: int) -> tuple[int, int]:
        """Return where the crop of a photo starts, in rows and in columns, and its side."""
        side = round(self.fraction * size)
        starts = {"centre": (size - side) // 2, "upper left": 0, "lower right": size - side}
        return starts[self.anchor], side


VIEWS: tuple[View, ...] = (
    View("original"),
    View("mirror", mirrored=True),
    View("centre 90 %", 0.9),
    View("centre 90 %, mirror", 0.9, mirrored=True),
    View("centre 80 %", 0.8),
    View("centre 80 %, mirror", 0.8, mirrored=True),
    View("upper left 90 %", 0.9, "upper left"),
    View("lower right 90 %", 0.9, "lower right"),
)
"""The first are taken."""


class FixedViews:
    """Views of the list, the same for every photo."""

    def __call__(self, pixels: Pixels, photo: int, views: Sequence[int]) -> Pixels:
        """Return some views of a resized photo, shape (views, size, size, 3), uint8.

        A crop that a view and its mirror share is enlarged once.
        """
        made = np.empty((len(views), *pixels.shape), dtype=np.uint8)
        upright: dict[tuple[float, str], Pixels] = {}
        for place, view in enumerate(VIEWS[number] for number in views):
            part = (view.fraction, view.anchor)
            if part not in upright:
                upright[part] = replace(view, mirrored=False)(pixels)
            made[place] = upright[part][:, ::-1] if view.mirrored else upright[part]
        return made


class RandomViews:
    """Random views by the augmentor that a member was trained with."""

    def __init__(self, augmentor: Sequence[Mapping[str, Any]], seed: int, size: int) -> None:
        """Prepare the augmentor.

        Args:
            augmentor: Its steps, as the bundle holds them.
            seed: With a photo's number and a view's it decides what is drawn.
            size: Side in pixels of the views.
        """
        # albumentations takes a second to import, and fixed views do without it.
        from toolkit.data.augmentor import Augmentor, photo_seed

        self._seed = seed
        self._augmentor, self._photo_seed = Augmentor(augmentor, size), photo_seed

    def __call__(self, pixels: Pixels, photo: int, views: Sequence[int]) -> Pixels:
        """Return views of a resized photo, shape (views, size, size, 3), uint8."""
        seeds = [self._photo_seed(self._seed, view, photo) for view in views]
        return np.stack([self._augmentor(pixels, seed) for seed in seeds])


def enlarge(crop: Pixels, size: int) -> Pixels:
    """Bring a square crop to a larger size, bilinearly with half-pixel centres.

    The weights are exact fractions of 2 * size. In floating point the many exact halves would be
    rounded up or down by chance, and two implementations would differ.

    Args:
        crop: Shape (side, side, 3), uint8.
        size: Side of the result in pixels, at least the crop's and at most 1024.

    Returns:
        Shape (size, size, 3), uint8, rounded half up.
    """
    low, high, weight = taps(len(crop), size)
    scale = 2 * size
    rows = crop[low] * (scale - weight)[:, None, None] + crop[high] * weight[:, None, None]
    both = rows[:, low] * (scale - weight)[:, None] + rows[:, high] * weight[:, None]
    return ((both + scale * scale // 2) // (scale * scale)).astype(np.uint8)


@lru_cache(maxsize=64)
def taps(side: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return what `enlarge` mixes, in rows and in columns.

    Args:
        side: Side of the crop in pixels.
        size: Side of the result in pixels.

    Returns:
        The two source positions of each output position and the second's weight, whole numbers of
        1 / (2 * size), each of shape (size,) and not to be changed. The first has the rest of it.
    """
    position = (2 * np.arange(size) + 1) * side - size  # in units of 1 / (2 * size)
    position = np.clip(position, 0, (side - 1) * 2 * size)
    low = np.minimum(position // (2 * size), side - 2 if side > 1 else 0)
    weight = position - low * 2 * size
    return (
        low.astype(np.int32),
        np.minimum(low + 1, side - 1).astype(np.int32),
        weight.astype(np.int32),
    )
