"""Draws one vehicle, in one pose and one set of paints, on a transparent canvas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.random import Generator

from toolkit.data.demo.kinds import Kind, Part
from toolkit.data.demo.paint import SUBPIXEL, Array, Colour, random_colour, toned, usual_colour

USUAL_PAINT = 0.65
"""Share of the vehicles in their kind's usual colour."""

FINE = 3
"""The vehicle is drawn this many times larger than the photo and averaged down: no jagged edges."""

CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 28, endpoint=False)),
                   np.sin(np.linspace(0, 2 * np.pi, 28, endpoint=False))]).T  # fmt: skip


@dataclass
class Brush:
    """Draws parts on a transparent canvas, in one pose and one set of paints."""

    rng: Generator
    canvas: Array
    matrix: Array
    bend: Array
    depth: Array
    paints: dict[str, Colour]
    unit: float
    turned: float
    spokes: int

    @classmethod
    def posed(
        cls, rng: Generator, kind: Kind, shape: tuple[int, ...],
        foot: tuple[float, float], unit: float,
    ) -> Brush:  # fmt: skip
        scale = unit * FINE
        turn = np.radians(rng.normal(0, 1.7))
        squeeze = rng.uniform(0.84, 1.0)  # Seen from an angle, a vehicle is shorter.
        mirror = 1 if rng.random() < 0.5 else -1
        cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
        matrix = np.array([
            [cos * mirror * squeeze, -sin, foot[0] * FINE],
            [sin * mirror * squeeze, -cos * rng.uniform(0.92, 1.06), foot[1] * FINE],
            [0, 0, 1],
        ])  # fmt: skip
        lean = np.eye(3)
        lean[2, 0] = rng.uniform(-0.0016, 0.0016)  # The nearer end is larger.
        centred = np.array([[1, 0, -50], [0, 1, 0], [0, 0, 1]])
        depth = np.array([rng.uniform(-0.75, 0.75), rng.uniform(0.05, 0.3)]) * kind.width
        return cls(
            rng=rng,
            canvas=np.zeros((shape[0] * FINE, shape[1] * FINE, 4), np.uint8),
            matrix=matrix @ lean @ centred,
            bend=np.array([rng.normal(0, 1.0), rng.uniform(0, 6.3), rng.normal(0, 0.04)]),
            depth=depth,
            paints=_paints(rng, kind),
            unit=scale,
            turned=rng.uniform(0, 6.3),
            spokes=int(rng.integers(4, 10)),
        )

    def draw(self, kind: Kind) -> None:
        for part in kind.parts:
            if part.tool in ("wheel", "arched"):
                for centre in _paths(part.paths):  # The wheels of the far side, under all else.
                    self.disc(centre[0] + self.depth, part.size, (22, 22, 22))
        tools: dict[str, Callable[[Part, Array], None]] = {
            "solid": self.solid, "panel": self.panel, "window": self.window, "line": self.line,
            "wheel": self.wheel, "arched": self.wheel, "spoked": self.spoked,
            "disc": lambda part, path: self.disc(path[0], part.size, self.paints[part.paint]),
        }  # fmt: skip
        for part in kind.parts:
            if self.rng.random() < part.chance:
                for path in _paths(part.paths):
                    tools[part.tool](part, path)

    def project(self, points: Array) -> Array:
        # A gentle bend makes no two vehicles of a kind quite the same model.
        bend, phase, swell = self.bend
        x = points[:, 0] + bend * np.sin(points[:, 0] / 16 + phase)
        y = points[:, 1] * (1 + swell * np.sin(points[:, 0] / 30 + phase))
        across, down, scale = (row[0] * x + row[1] * y + row[2] for row in self.matrix)
        return np.array([across / scale, down / scale]).T

    def fill(self, points: Array, colour: Colour) -> None:
        self.fill_projected(self.project(points), colour)

    def fill_projected(self, points: Array, colour: Colour) -> None:
        fixed = np.rint(points * 2**SUBPIXEL).astype(np.int32)
        cv2.fillPoly(self.canvas, [fixed], (*colour, 255.0), cv2.LINE_8, SUBPIXEL)

    def solid(self, part: Part, path: Array) -> None:
        outline, colour = _rounded(path, part.size), self.paints[part.paint]
        steep = self.paints[part.ends or part.paint]
        # All outlines run clockwise, so an edge's outward normal is its direction turned left.
        along = _next(outline) - outline
        normals = np.column_stack([-along[:, 1], along[:, 0]])
        upward = normals[:, 1] > 0.9 * np.hypot(along[:, 0], along[:, 1])
        near, far = self.project(outline), self.project(outline + self.depth)
        for edge in np.flatnonzero(normals @ self.depth > 0):
            after = (edge + 1) % len(outline)
            face = np.stack([near[edge], near[after], far[after], far[edge]])
            self.fill_projected(face, toned(colour, 1.15) if upward[edge] else toned(steep, 0.72))
        self.fill_projected(near, colour)

    def panel(self, part: Part, path: Array) -> None:
        self.fill(_rounded(path, part.size), self.paints[part.paint])

    def window(self, part: Part, path: Array) -> None:
        outline = _rounded(path, part.size)
        self.fill(outline, self.paints["glass"])
        left, right = outline[:, 0].min(), outline[:, 0].max()
        slanted = (outline[:, 0] - 0.4 * outline[:, 1] - left) / (right - left)
        at, wide = self.rng.uniform(-0.2, 0.6), self.rng.uniform(0.1, 0.35)
        streak = _clipped(np.column_stack([outline, slanted - at, at + wide - slanted]))
        if len(streak) > 2:
            self.fill(streak, toned(self.paints["glass"], 1.35, 22))

    def line(self, part: Part, path: Array) -> None:
        fixed = np.rint(self.project(path) * 2**SUBPIXEL).astype(np.int32)
        colour = (*self.paints[part.paint], 255.0)
        thick = max(1, round(part.size * self.unit))
        cv2.polylines(self.canvas, [fixed], False, colour, thick, cv2.LINE_8, SUBPIXEL)

    def disc(self, centre: Array, radius: float, colour: Colour) -> None:
        self.fill(centre + radius * CIRCLE, colour)

    def wheel(self, part: Part, path: Array) -> None:
        hub, size, rim = path[0], part.size, self.paints[part.paint]
        if part.tool == "arched":
            self.disc(hub + np.array([0, 0.12 * size]), 1.14 * size, (24, 22, 22))
        self.disc(hub, size, self.paints["tyre"])
        self.disc(hub, 0.64 * size, rim)
        self.disc(hub, 0.54 * size, toned(rim, 0.45))
        for spoke in range(self.spokes):
            angle = self.turned + 2 * np.pi * spoke / self.spokes
            tip = hub + 0.58 * size * np.array([np.cos(angle), np.sin(angle)])
            self.line(Part("line", part.paint, "", 0.15 * size), np.stack([hub, tip]))
        self.disc(hub, 0.2 * size, toned(rim, 0.8))

    def spoked(self, part: Part, path: Array) -> None:
        hub, size = path[0], part.size
        thin = part.paint == "thin"
        tyre, spokes = (2.4, 14) if thin else (5.5, 9)
        for spoke in range(spokes):
            angle = self.turned + 2 * np.pi * spoke / spokes
            tip = hub + (size - tyre / 2) * np.array([np.cos(angle), np.sin(angle)])
            width = 0.45 if thin else 1.2
            self.line(Part("line", "metal", "", width), np.stack([hub, tip]))
        ring = np.concatenate([CIRCLE, CIRCLE[:1]])
        self.line(Part("line", "metal", "", tyre * 0.6), hub + (size - tyre) * ring)
        self.line(Part("line", "tyre", "", tyre), hub + (size - tyre / 2) * ring)
        self.disc(hub, 0.08 * size if thin else 0.26 * size, self.paints["metal"])


@cache
def _paths(text: str) -> list[Array]:
    return [
        np.array([[float(n) for n in point.split(",")] for point in path.split()])
        for path in text.split("|")
    ]


def _next(points: Array) -> Array:
    return np.concatenate([points[1:], points[:1]])


def _rounded(outline: Array, radius: float) -> Array:
    """Cut the corners of an outline, twice over."""
    for reach in (radius, radius / 3):
        along = _next(outline) - outline
        length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
        cut = along * np.minimum(reach / length, 0.35)
        outline = np.concatenate([outline + cut, outline + along - cut], axis=1).reshape(-1, 2)
    return outline


def _clipped(outline: Array) -> Array:
    """Keep the part of an outline where the columns after x and y are positive."""
    for column in range(2, outline.shape[1]):
        kept: list[Array] = []
        for start, end in zip(outline, _next(outline), strict=True):
            if start[column] >= 0:
                kept.append(start)
            if (start[column] >= 0) != (end[column] >= 0):
                share = start[column] / (start[column] - end[column])
                kept.append(start + share * (end - start))
        outline = np.array(kept).reshape(-1, outline.shape[1])
    return outline[:, :2]


def _paints(rng: Generator, kind: Kind) -> dict[str, Colour]:
    """Mix the paints of one vehicle: most often the kind's usual colour, else any."""
    usual = rng.random() < USUAL_PAINT
    body = usual_colour(rng, kind.colour) if usual else random_colour(rng)
    grey = rng.uniform(25, 95)
    shine = rng.uniform(150, 225)
    metal = (shine, shine, shine * 0.97)
    return {
        "body": body, "seam": toned(body, 0.5), "trim": random_colour(rng),
        "cargo": random_colour(rng), "rim": random_colour(rng), "metal": metal, "thin": metal,
        "glass": (grey * 1.35, grey * 1.15, grey), "dark": (42, 40, 40), "tyre": (30, 29, 29),
        "lamp": (205, 238, 250), "tail": (40, 35, 200),
        "beacon": (230, 120, 40) if rng.random() < 0.5 else (40, 160, 250),
    }  # fmt: skip
