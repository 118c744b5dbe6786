"""How values of more than 8 bits become bytes: one range a kind of photo, for a whole data set.

A file of 16 or 32 bits does not say how many of them are used: 12-bit grey in 16 bits would come
out black. So the photos that are trained on decide, and what they decided is kept with the run and
the bundle, so that every later photo is scaled alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import artifact

GREY_16, GREY_32 = "16-bit grey", "32-bit grey"
GREY_FLOAT, COLOUR_16 = "floating-point grey", "16-bit colour"
"""The kinds of photos whose values need a range; all others have 8 bits."""

FULL_16 = 2**16 - 1
LEVELS = 256

NEARLY_BLACK = 16
"""A photo none of whose levels reaches this looks black."""


@artifact
class Range:
    """Values that become 0 to 255; others are clipped.

    Attributes:
        low: What becomes 0.
        high: What becomes 255.
    """

    low: float
    high: float

    def levels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale values to bytes.

        Whole numbers v become floor(256 (v - low) / (high - low + 1)), which for 0 to 65535 is the
        high byte; others become 255 (v - low) / (high - low), rounded half up. What is not a
        number counts as `low`.

        Args:
            values: Any shape, any integer or float dtype.

        Returns:
            The same shape, uint8.
        """
        if np.issubdtype(values.dtype, np.integer):
            low, high = int(self.low), int(self.high)
            whole = np.clip(values.astype(np.int64), low, high) - low
            return (whole * LEVELS // (high - low + 1)).astype(np.uint8)
        known = np.nan_to_num(values.astype(np.float64), nan=self.low)
        share = (np.clip(known, self.low, self.high) - self.low) / (self.high - self.low)
        return np.floor((LEVELS - 1) * share + 0.5).astype(np.uint8)

    def holds(self, other: Range) -> bool:
        """Return whether no value of another range is clipped."""
        return self.low <= other.low and other.high <= self.high


Ranges = Mapping[str, Range]
"""By kind."""


def found_in(values: NDArray[Any]) -> Range:
    """Return the smallest and the largest number among values of any shape.

    Raises:
        ValueError: None of them is a finite number.
    """
    finite = values[np.isfinite(values)] if np.issubdtype(values.dtype, np.floating) else values
    if not finite.size:
        raise ValueError("none of its values is a number")
    return Range(float(finite.min()), float(finite.max()))


def natural(kind: str, found: Range) -> Range:
    """Return the range that values of a kind belong to.

    Args:
        kind: One of the kinds.
        found: The smallest and the largest of them.

    Returns:
        Where none is negative, 0 to 2^n - 1 for the fewest bits n that hold the largest; of
        floating-point numbers 0 to 1 where none is larger, and from 8 bits on. Where some are
        negative, the values themselves.
    """
    if found.low < 0:
        return Range(found.low, max(found.high, found.low + 1))
    if kind == GREY_FLOAT:
        if found.high <= 1:
            return Range(0.0, 1.0)
        least = 8
    else:
        least = 1
    bits = max(least, int(np.ceil(found.high)).bit_length())
    return Range(0.0, float(2**bits - 1))


def ranges_of(photos: Iterable[tuple[str, Range]]) -> dict[str, Range]:
    """Return the range of each kind among photos.

    Args:
        photos: Kind of each that has one, and the values found in it.
    """
    found: dict[str, Range] = {}
    for kind, each in photos:
        known = found.get(kind, each)
        found[kind] = Range(min(known.low, each.low), max(known.high, each.high))
    return {kind: natural(kind, found[kind]) for kind in sorted(found)}


def clipping(found: Range, scale: Range) -> str:
    """Say that values are clipped where they are scaled by a range; empty where none is."""
    if scale.holds(found):
        return ""
    return (
        f"its values from {found.low:g} to {found.high:g} are clipped to {scale.low:g} and "
        f"{scale.high:g}, the range of the photos trained on"
    )


def looks_black(found: Range, scale: Range) -> bool:
    """Return whether a photo of these values looks black where they are scaled by a range."""
    share = (found.high - scale.low) / (scale.high - scale.low)
    return share * LEVELS < NEARLY_BLACK
