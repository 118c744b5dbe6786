"""What the vehicle and the scene share: colours, smooth noise, strokes and blocks."""

from __future__ import annotations

import colorsys
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[Any]
Colour = tuple[float, float, float]

SUBPIXEL = 4
"""Binary digits behind the point in the coordinates that OpenCV fills."""


def toned(colour: Colour, factor: float, lift: float = 0.0) -> Colour:
    """Return the colour times `factor` plus `lift`, held within 0 to 255."""
    blue, green, red = (min(max(channel * factor + lift, 0.0), 255.0) for channel in colour)
    return blue, green, red


def random_colour(rng: Generator) -> Colour:
    """Return a dull, muted or vivid colour of any hue."""
    saturation = rng.choice([0.05, 0.45, 0.85]) * rng.uniform(0.8, 1.1)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.3, 0.95))
    return blue * 255, green * 255, red * 255


def usual_colour(rng: Generator, colour: tuple[float, float, float]) -> Colour:
    """Return a paint near the given hue, saturation and value."""
    hue = (colour[0] + rng.normal(0, 0.025)) % 1
    saturation, value = np.clip(np.array(colour[1:]) * rng.normal(1, 0.1, 2), 0, 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return blue * 255, green * 255, red * 255


def noise(rng: Generator, shape: tuple[int, ...], cell: int) -> Array:
    """Return smooth noise with grains of about `cell` pixels, standard deviation near 1."""
    coarse = rng.standard_normal((shape[0] // cell + 2, shape[1] // cell + 2), dtype=np.float32)
    smooth: Array = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return smooth


def stroke(
    photo: Array, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: float
) -> None:
    """Draw a smooth line; the width is rounded to whole pixels, at least one."""
    ends = [(round(x * 2**SUBPIXEL), round(y * 2**SUBPIXEL)) for x, y in (start, end)]
    cv2.line(photo, ends[0], ends[1], colour, max(1, round(width)), cv2.LINE_AA, SUBPIXEL)


def block(
    photo: Array, corner: tuple[float, float], other: tuple[float, float], colour: Colour
) -> None:
    """Fill an upright rectangle between two opposite corners."""
    ends = [(round(x), round(y)) for x, y in (corner, other)]
    cv2.rectangle(photo, ends[0], ends[1], colour, -1)
