"""All around the vehicle: sky, backdrops, ground, its shadow, and clutter in front."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from toolkit.data.demo.paint import Array, Colour, block, noise, random_colour, stroke, toned

SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((225, 170, 110), (245, 232, 214)), ((200, 198, 195), (228, 228, 226)),
    ((150, 110, 90), (150, 190, 240)), ((190, 205, 215), (170, 185, 200)),
    ((110, 80, 60), (160, 130, 120)), ((235, 205, 165), (235, 240, 240)),
)  # fmt: skip
"""Blue, grey, dusk, plastered wall, nightfall, haze: above and at the horizon, in BGR."""

GROUNDS: tuple[Colour, ...] = (
    (105, 105, 105), (78, 76, 74), (150, 155, 158), (85, 140, 110), (130, 170, 195),
    (235, 230, 228),
)  # fmt: skip
"""Asphalt, wet asphalt, paving, grass, sand, snow."""


def draw_scene(rng: Generator, width: int, height: int, horizon: float) -> Array:
    """Paint sky, what stands at the horizon, and the ground."""
    above, at_horizon = (np.array(c) for c in SKIES[rng.integers(len(SKIES))])
    ramp = np.clip(np.arange(height) / horizon, 0, 1)[:, None]
    rows = above * (1 - ramp) + at_horizon * ramp + rng.normal(0, 10, 3)
    photo = np.repeat(np.clip(rows, 0, 255)[:, None], width, axis=1).astype(np.uint8)
    for backdrop in rng.permutation(len(BACKDROPS))[: rng.integers(0, 2)]:
        BACKDROPS[backdrop](rng, photo, horizon)
    ground = np.array(GROUNDS[rng.integers(len(GROUNDS))]) * rng.uniform(0.8, 1.15)
    top = round(horizon)
    fade = np.linspace(1.12, 0.88, height - top)[:, None, None]
    photo[top:] = np.clip(ground * fade, 0, 255).astype(np.uint8)
    _ground_lines(rng, photo, horizon)
    grain = noise(rng, photo.shape, 9) * 6 + noise(rng, photo.shape, 2) * 6
    grain[:top] *= 0.4
    textured: Array = np.clip(photo + grain[..., None], 0, 255).astype(np.uint8)
    return textured


def _hills(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    for distance in (0.35, 0.2):
        x = np.linspace(0, width, 24)
        wave = np.sin(x / width * rng.uniform(3, 9) + rng.uniform(0, 6))
        ridge = horizon - height * distance * (0.6 + 0.4 * wave)
        outline = np.stack([np.append(x, [width, 0]), np.append(ridge, [horizon + 2] * 2)]).T
        colour = toned((120, 125, 95), rng.uniform(0.6, 1.3) * (1 + distance))
        cv2.fillPoly(photo, [outline.astype(np.int32)], colour, cv2.LINE_AA)


def _trees(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    for _ in range(rng.integers(2, 8)):
        x, crown = rng.uniform(0, width), height * rng.uniform(0.08, 0.2)
        top = horizon - height * rng.uniform(0.15, 0.4)
        stroke(photo, (x, horizon), (x, top), (45, 62, 80), max(1, crown / 5))
        leaf = toned((60, 115, 75), rng.uniform(0.5, 1.25))
        for _ in range(6):
            at = (round(x + rng.normal(0, crown / 2)), round(top + rng.normal(0, crown / 2)))
            tone = toned(leaf, rng.uniform(0.8, 1.2))
            cv2.circle(photo, at, round(crown * rng.uniform(0.35, 0.7)), tone, -1, cv2.LINE_AA)


def _houses(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    x = -rng.uniform(0, 0.2) * width
    while x < width:
        wide, tall = width * rng.uniform(0.15, 0.4), height * rng.uniform(0.25, 0.75)
        wall = toned(random_colour(rng), 0.4, 90)
        block(photo, (x, horizon - tall), (x + wide, horizon), wall)
        step, pane = height * rng.uniform(0.1, 0.16), toned(wall, rng.uniform(0.4, 0.8))
        for row in np.arange(horizon - tall + step * 0.4, horizon - step, step):
            for column in np.arange(x + step * 0.4, x + wide - step * 0.6, step):
                block(photo, (column, row), (column + step * 0.45, row + step * 0.6), pane)
        x += wide * rng.uniform(1, 1.5)


def _wall(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    colour, tall = toned(random_colour(rng), 0.5, 70), height * rng.uniform(0.2, 0.7)
    block(photo, (0, horizon - tall), (width, horizon), colour)
    course, joint = height * rng.uniform(0.04, 0.1), toned(colour, rng.uniform(0.78, 0.95))
    for number, y in enumerate(np.arange(horizon - tall, horizon, course)):
        stroke(photo, (0, y), (width, y), joint, 1)
        for x in np.arange((number % 2) * course * 1.2, width, course * 2.4):
            stroke(photo, (x, y), (x, y + course), joint, 1)


def _poles(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    tone, tall = toned((95, 95, 95), rng.uniform(0.4, 1.8)), height * rng.uniform(0.15, 0.6)
    for x in np.arange(rng.uniform(0, 0.2) * width, width, width * rng.uniform(0.12, 0.5)):
        stroke(photo, (x, horizon), (x, horizon - tall), tone, max(1, width / 90))
    for share in rng.uniform(0.1, 1, rng.integers(1, 4)):
        y = horizon - tall * share
        stroke(photo, (0, y), (width, y), tone, max(1, width / 130))


BACKDROPS: tuple[Callable[[Generator, Array, float], None], ...] = (
    _hills, _trees, _houses, _wall, _poles,
)  # fmt: skip


def _ground_lines(rng: Generator, photo: Array, horizon: float) -> None:
    """Draw a kerb and lane marks, or the joints of paving that run to a vanishing point."""
    height, width = photo.shape[:2]
    if rng.random() < 0.5:
        y = horizon + (height - horizon) * rng.uniform(0.05, 0.95)
        dash, gap, x = width * rng.uniform(0.1, 0.3), width * rng.uniform(0, 0.2), -width * 0.1
        while x < width:
            stroke(photo, (x, y), (x + dash, y), (215, 222, 225), max(1, height * 0.018))
            x += dash + gap
    if rng.random() < 0.35:
        vanish, tone = rng.uniform(0, width), toned(tuple(photo[-1, 0].tolist()), 0.85)
        for x in np.linspace(-2 * width, 3 * width, 26):
            stroke(photo, (vanish + (x - vanish) * 0.3, horizon), (x, height), tone, 1)


def cast_shadow(rng: Generator, photo: Array, centre: float, floor: float, unit: float) -> None:
    """Darken the ground under the vehicle, softly, and at times beside it."""
    small = np.zeros((photo.shape[0] // 2, photo.shape[1] // 2), np.float32)
    reach = unit * rng.uniform(2.5, 7)
    at = (round((centre + rng.normal(0, 4) * unit) / 2), round((floor - reach * 0.2) / 2))
    axes = (round(50 * unit / 2), max(1, round(reach / 2)))
    cv2.ellipse(small, at, axes, 0, 0, 360, rng.uniform(0.45, 0.75), -1)
    small = cv2.GaussianBlur(small, (0, 0), max(0.8, unit * 1.6))
    mask = cv2.resize(small, (photo.shape[1], photo.shape[0]))
    photo[:] = (photo * (1 - mask[..., None])).astype(np.uint8)


def clutter_in_front(rng: Generator, photo: Array, floor: float) -> None:
    """Let a post, a shrub or a railing hide a little of the vehicle."""
    height, width = photo.shape[:2]
    x, choice = rng.uniform(0, width), rng.integers(3)
    if choice == 0:
        tone = toned((120, 120, 120), rng.uniform(0.3, 1.6))
        stroke(
            photo, (x, height), (x + rng.normal(0, 3), 0), tone, width * rng.uniform(0.015, 0.05)
        )
    elif choice == 1:
        for _ in range(14):
            at = (
                round(x + rng.normal(0, width * 0.07)),
                round(height - rng.uniform(0, 0.14) * height),
            )
            tone = toned((60, 120, 80), rng.uniform(0.4, 1.3))
            cv2.circle(photo, at, round(height * rng.uniform(0.03, 0.09)), tone, -1, cv2.LINE_AA)
    else:
        tone, y = toned((130, 130, 130), rng.uniform(0.3, 1.7)), floor - height * 0.12
        stroke(photo, (0, y), (width, y), tone, max(1, height * 0.02))
        for post in np.arange(x % (width / 4), width, width / 4):
            stroke(photo, (post, y), (post, height), tone, max(1, height * 0.018))
