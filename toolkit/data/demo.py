"""A small labelled photo set, drawn on the spot, to try everything without a download.

Ten kinds of vehicle are drawn as little illustrations and then treated as a cheap camera would:
pose, paint, weather, clutter, blur, sensor noise and JPEG. The colour never tells the class.
"""

from __future__ import annotations

import colorsys
import csv
import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from toolkit.errors import ToolkitError

Array = NDArray[Any]
Colour = tuple[float, float, float]

MOST_PER_CLASS = 45_000
"""Six-digit ids run out beyond this: 900,000 numbers over ten classes and two splits."""


def make_demo(
    folder: Path, *, seed: int = 42, train_per_class: int = 40, test_per_class: int = 20
) -> None:
    """Draw a labelled set of photos in the layout of a Kaggle competition.

    A photo and its id depend on the seed, the split, the class and the index alone: the same seed
    gives the same bytes, and more photos per class leave the earlier ones as they were.

    Args:
        folder: Where the set shall appear, whole or not at all. May exist if it is empty.
        seed: Not negative.
        train_per_class: Number of training photos of each of the ten classes.
        test_per_class: Number of test photos of each class.

    Raises:
        ToolkitError: The folder is taken, or a number is out of range.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ToolkitError(f"{folder}: is not an empty folder. Remove it or name another one.")
    if seed < 0:
        raise ToolkitError(f"seed: Expected 0 or more, received {seed}.")
    for name, count in (("train_per_class", train_per_class), ("test_per_class", test_per_class)):
        if not 1 <= count <= MOST_PER_CLASS:
            raise ToolkitError(f"{name}: Expected 1 to {MOST_PER_CLASS}, received {count}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        _write_set(temporary, seed, train_per_class, test_per_class)
        if folder.exists():
            folder.rmdir()  # Not every system renames onto an empty folder.
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class Part:
    """One stroke of a drawing.

    Attributes:
        tool: `solid` has depth, `panel` and `window` lie on the near side, `line` is a tube or a
            joint, `wheel` and `arched` (with a wheel arch) and `spoked` are round.
        paint: Name of the colour; for wheels that of the rim.
        paths: Points "x,y x,y", several paths parted by "|". Vehicles are 100 long, look to the
            right and stand on y = 0.
        size: Corner radius, line width or wheel radius.
        chance: Share of the photos that show the part.
        ends: Paint of the steep faces of a solid, which is how a cabin gets its windscreen.
    """

    tool: str
    paint: str
    paths: str
    size: float = 1.0
    chance: float = 1.0
    ends: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of vehicle: its name, height, width seen from the front, parts from the rear on."""

    name: str
    height: float
    width: float
    parts: tuple[Part, ...]


KINDS = (
    Kind("Sedan", 32, 18, (
        Part("solid", "body", "0,6 0,16 4,19 22,20 78,20 94,17 99,14 100,6", 3),
        Part("solid", "body", "10,19 26,30 33,32 54,32 61,30 80,19", 3, ends="glass"),
        Part("window", "glass", "17.5,20.5 28,28.5 33,29.7 42,29.7 42,20.5", 1),
        Part("window", "glass", "44.5,20.5 44.5,29.7 54,29.7 59,28.5 72,20.5", 1),
        Part("panel", "dark", "0,5 0,8 100,8 100,5"),
        Part("line", "seam", "43,8 43,20 | 71,9 71,18 | 29,14 27,20", 0.5),
        Part("line", "metal", "36,17.5 40,17.5 | 63,17.5 67,17.5", 1.1),
        Part("solid", "lamp", "93,13 92,16.5 97,15.5 99.4,13"),
        Part("solid", "tail", "0,13 0.3,17 6,17 5,14"),
        Part("arched", "metal", "19,8.5 | 80,8.5", 8.5),
    )),
    Kind("Hatchback", 42, 24, (
        Part("solid", "body", "1,8 0,22 3,26 80,25.5 94,21 99,17 100,8", 4),
        Part("solid", "body", "1,24 6,38 13,42 48,42 56,40 79,25", 4, ends="glass"),
        Part("window", "glass", "8,27 12,37.5 16,39 35,39 35,27", 1.5),
        Part("window", "glass", "38,27 38,39 48,39 54,37.5 70,27", 1.5),
        Part("panel", "dark", "1,7 0,12 100,12 100,7", 2),
        Part("line", "seam", "36.5,11 36.5,27 | 70,12 70,26", 0.6),
        Part("line", "metal", "40,22.5 46,22.5", 1.5),
        Part("panel", "body", "66,27 66,31 70,31 71,27", 1),
        Part("solid", "lamp", "90,17 87,22 93,21 98.5,17"),
        Part("solid", "tail", "0.3,20 1.5,31 5,30 5,22"),
        Part("arched", "metal", "17,11 | 80,11", 11),
    )),
    Kind("Van", 48, 24, (
        Part("solid", "body", "0,7 0,46 3,48 62,48 70,46 83,27 97,22 100,17 100,7", 3),
        Part("solid", "glass", "72.5,44 83.5,28.5 81.5,28 71,43.5", 0.3),
        Part("window", "glass", "60,28 60,43 68.5,43 79,28", 1.5),
        Part("window", "glass", "33,30 33,43 56,43 56,30", 2, chance=0.25),
        Part("panel", "trim", "0,21 0,25 56,25 56,21", 0.2, chance=0.35),
        Part("panel", "dark", "0,6 0,11 100,11 100,6"),
        Part("line", "seam", "31,11 31,46 | 58,11 58,46 | 0,28 58,28 | 81,12 81,27", 0.6),
        Part("line", "metal", "51,26 55,26 | 61,25 65,25", 1.2),
        Part("panel", "dark", "78,28 78,34 81,34 81,28", 1),
        Part("solid", "lamp", "91,16 89,22 95,21 99,16"),
        Part("solid", "tail", "0,16 0,28 2.5,28 2.5,16", 0.3),
        Part("arched", "metal", "19,9.5 | 82,9.5", 9.5),
    )),
    Kind("Pickup", 37, 20, (
        Part("solid", "body", "38,9 38,23 46,36 50,37 62,37 67,35 75,24 94,22 99,19 100,9", 2,
             ends="glass"),
        Part("solid", "dark", "1,10 1,22 39,22 39,10"),
        Part("panel", "trim", "4,21 8,28 20,27 26,30 35,27 36,21", 3, chance=0.35),
        Part("panel", "body", "0,9 0,23.5 76,23.5 95,22 99,19 100,9", 1.5),
        Part("line", "metal", "3,24 3,30 39,34", 1.3, chance=0.3),
        Part("window", "glass", "42,24 48.5,34 54,34 54,24", 1),
        Part("window", "glass", "56.5,24 56.5,34 62,34 65,33 71,24", 1),
        Part("panel", "dark", "-1,8 -1,12 101,12 101,8"),
        Part("line", "seam", "39,11 39,23 | 55,11 55,23 | 73,12 73,23 | 0,20 39,20", 0.6),
        Part("line", "metal", "48,21 52,21 | 66,21 70,21", 1.2),
        Part("solid", "lamp", "95,16 95,20.5 98.3,19 99.5,16", 0.5),
        Part("solid", "tail", "0,15 0,22 2.5,22 2.5,15", 0.3),
        Part("arched", "metal", "19,9.5 | 83,9.5", 9.5),
    )),
    Kind("Bus", 33, 16, (
        Part("solid", "body", "0,4 0,31 2,33 97,33 99.5,31 100,4", 2),
        Part("solid", "glass", "98,12 98,29 99.6,29 99.9,12", 0.5),
        Part("window", "glass", "3,17 3,29 84,29 84,17", 1.5),
        Part("line", "body", "16.5,17 16.5,29 | 30,17 30,29 | 43.5,17 43.5,29 | 57,17 57,29"
             " | 70.5,17 70.5,29", 1.2),
        Part("window", "glass", "86.5,5.5 86.5,29 96,29 96,5.5", 0.8),
        Part("line", "dark", "91.2,5.5 91.2,29", 0.8),
        Part("window", "glass", "44.5,5.5 44.5,29 56,29 56,5.5", 0.8, chance=0.5),
        Part("panel", "trim", "0,9.5 0,13 84,13 84,9.5", 0.2, chance=0.5),
        Part("panel", "dark", "0,3 0,6 100,6 100,3", 0.5),
        Part("line", "seam", "0,15 86,15 | 30,5 30,15 | 60,5 60,15", 0.4),
        Part("panel", "metal", "20,33 20,35.5 42,35.5 42,33", 1, chance=0.5),
        Part("solid", "lamp", "97.5,7 97.5,9.5 100,9.5 100,7", 0.3),
        Part("solid", "tail", "0,8 0,14 1.3,14 1.3,8", 0.3),
        Part("arched", "metal", "22,5.8 | 76,5.8", 5.8),
    )),
    Kind("Lorry", 46, 20, (
        Part("solid", "dark", "1,7 1,11 96,11 96,7", 0.3),
        Part("solid", "body", "76,8 76,36 79,39 92,39 98,26 100,22 100,8", 2),
        Part("solid", "glass", "93,36.5 98.4,25 97,24.5 92,36", 0.3),
        Part("window", "glass", "82,24 82,35 91,35 95.5,24", 1),
        Part("solid", "body", "77,38 80,44 84,44 90,39", 1, chance=0.4),
        Part("solid", "cargo", "0,12 0,46 73,46 73,12", 0.5),
        Part("panel", "trim", "8,24 8,35 48,35 52,24", 1, chance=0.45),
        Part("line", "seam", "0,14.5 73,14.5 | 0,43.5 73,43.5 | 24,15 24,43 | 49,15 49,43", 0.5),
        Part("panel", "metal", "43,5 43,10.5 57,10.5 57,5", 1.5),
        Part("line", "seam", "80,11 80,35 | 80,23 97,23", 0.5),
        Part("panel", "dark", "76,7 76,11 101,11 101,7"),
        Part("solid", "lamp", "96.5,11.5 96.5,15 100,15 100,11.5", 0.4),
        Part("solid", "tail", "0,8 0,11 2,11 2,8", 0.2),
        Part("wheel", "metal", "12,7 | 28,7", 7),
        Part("arched", "metal", "87,7", 7),
    )),
    Kind("Tractor", 74, 26, (
        Part("solid", "dark", "20,22 20,30 88,30 88,20", 1),
        Part("solid", "body", "48,27 48,49 60,50 90,46 95,42 95,25", 3),
        Part("line", "metal", "70,48 70,66 68,70", 2.6),
        Part("panel", "dark", "76,29 76,42 91,40 91,29", 1.5),
        Part("line", "seam", "76,32 91,32 | 76,35 91,35 | 76,38 91,38", 0.8),
        Part("solid", "glass", "16,40 20,70 46,70 53,32 40,28", 1),
        Part("window", "glass", "16,40 20,70 46,70 53,32 40,28", 1),
        Part("line", "body", "16,40 20,70 | 46,70 53,32 | 33,40 34,70", 2),
        Part("line", "dark", "52,46 47,49 | 45,53 49,46", 1.4),
        Part("solid", "body", "12,70 13,74 48,74 51,70", 1.5),
        Part("panel", "body", "1,36 6,50 18,57 34,55 43,47 46,36 40,40 10,40", 3),
        Part("solid", "lamp", "91,37 91,42 95,41 95,37", 1),
        Part("line", "dark", "0,30 -4,20", 2.5, chance=0.5),
        Part("wheel", "rim", "26,26", 26),
        Part("wheel", "rim", "84,14", 14),
    )),
    Kind("Motorcycle", 60, 0, (
        Part("spoked", "metal", "18,17 | 82,17", 17),
        Part("line", "dark", "18,17 42,24 | 42,24 66,44", 4),
        Part("panel", "metal", "38,14 36,30 46,38 58,36 62,22 56,13", 3),
        Part("line", "seam", "42,31 58,31 | 41,27 59,27 | 41,23 60,23", 1),
        Part("panel", "dark", "42,10 40,20 54,22 60,16 56,10", 3),
        Part("line", "metal", "58,28 64,17 56,11 24,12 4,16", 4),
        Part("line", "metal", "82,17 70,50", 3.4),
        Part("panel", "body", "62,17 66,30 74,34 68,14", 2, chance=0.3),
        Part("panel", "body", "68,33 76,36.5 86,36 94,31 85,34 76,33.5", 0.5),
        Part("panel", "body", "40,36 44,46 56,51 66,48 70,42 60,37", 4),
        Part("panel", "dark", "8,43 10,47 26,43 40,44 46,41 44,36 26,37", 2),
        Part("panel", "body", "2,36 6,43 26,38 40,37 36,31 20,33", 3),
        Part("panel", "trim", "8,24 8,37 26,37 28,24", 3, chance=0.3),
        Part("window", "glass", "70,48 66,64 69,64 78,49", 1, chance=0.4),
        Part("panel", "body", "68,40 70,51 78,50 82,45 78,40", 3),
        Part("panel", "lamp", "76,41 76,49 80,48.5 83,45 80,41.5", 2),
        Part("line", "dark", "71,50 66,56 60,54", 2.4),
        Part("panel", "tail", "1,37 1,41 5,42 5,38", 1),
    )),
    Kind("Bicycle", 60, 0, (
        Part("spoked", "thin", "19,19 | 81,19", 19),
        Part("line", "metal", "6,40 35,41 | 8,40 19,19 | 22,40 19,19", 1.2, chance=0.35),
        Part("line", "trim", "-1,25 5,35 13,40 22,40 | 63,28 69,36 76,40 86,40", 1.6, chance=0.4),
        Part("line", "body", "19,19 46,18 38,45 19,19", 2.3),
        Part("line", "body", "46,18 68,40 | 40,39 66,45", 3),
        Part("line", "body", "66,50 69,39 76,27 81,19", 2.8),
        Part("line", "seam", "19,21 46,22 | 19,17 46,14", 0.8),
        Part("disc", "dark", "46,18", 4.6),
        Part("disc", "metal", "46,18", 2.4),
        Part("line", "dark", "46,18 52,8 | 49,8 55,8 | 46,18 40,28 | 37,28 43,28", 1.6),
        Part("line", "metal", "38,45 36,51", 2),
        Part("panel", "dark", "27,51 28,54 38,52.5 46,53 46,51 36,49.5", 1.3),
        Part("line", "metal", "66,50 65,55 71,57", 1.8),
        Part("line", "dark", "71,57 77,55 77,50 72,48", 2.4, chance=0.4),
        Part("line", "dark", "71,57 60,59", 2.6),
        Part("panel", "trim", "72,42 70,56 90,56 87,42", 1, chance=0.25),
        Part("panel", "lamp", "72,44 72,48 76,48 76,44", 1, chance=0.6),
    )),
    Kind("Fire engine", 44, 18, (
        Part("solid", "dark", "1,6 1,10 98,10 98,6", 0.3),
        Part("solid", "body", "0,8 0,33 64,33 64,8", 0.8),
        Part("solid", "body", "64,7 64,35 66,37 93,37 97,35 100,20 100,7", 2),
        Part("solid", "glass", "97.2,33 99.6,20 98,20 95.6,33", 0.3),
        Part("window", "glass", "85,20 85,33.5 94,33.5 97,20", 1),
        Part("window", "glass", "68,20 68,33.5 81,33.5 81,20", 1),
        Part("panel", "metal", "3,16 3,30.5 19,30.5 19,16 | 21,16 21,30.5 39,30.5 39,16"
             " | 41,11 41,30.5 61,30.5 61,11", 0.4),
        Part("line", "seam", "3,19 61,19 | 3,22 61,22 | 3,25 61,25 | 3,28 61,28 | 83,9 83,35", 0.5),
        Part("panel", "trim", "0,11.5 0,14.5 100,14.5 100,11.5", 0.2),
        Part("panel", "dark", "64,6 64,9.5 101,9.5 101,6"),
        Part("panel", "beacon", "86,37 87,40.5 92,40.5 93,37", 1),
        Part("line", "metal", "16,33 16,38 | 62,36 62,39", 2),
        Part("line", "metal", "-2,36 104,44 | -2,40 104,48", 1.3),
        Part("line", "metal", "2,36 2,40.6 | 12,37 12,41 | 22,38 22,42 | 32,38.6 32,42.6"
             " | 42,39.3 42,43.3 | 52,40 52,44 | 62,40.8 62,44.8 | 72,41.6 72,45.6"
             " | 82,42.3 82,46.3 | 92,43 92,47 | 101,44 101,47.6", 0.9),
        Part("solid", "lamp", "97,10 97,13 100,13 100,10", 0.4),
        Part("solid", "tail", "0,9 0,14 1.5,14 1.5,9", 0.3),
        Part("arched", "metal", "20,7.2 | 76,7.2", 7.2),
    )),
)  # fmt: skip
CLASSES = len(KINDS)

FINE = 3
"""The vehicle is drawn this many times larger than the photo and averaged down: no jagged edges."""

SUBPIXEL = 4
"""Binary digits behind the point in the coordinates that OpenCV fills."""

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


def _write_set(folder: Path, seed: int, train_per_class: int, test_per_class: int) -> None:
    # One fixed shuffle of all six-digit numbers: ids stay the same when the set is extended.
    numbers = np.random.default_rng(seed).permutation(900_000) + 100_000
    splits = (("train", train_per_class), ("test_upload", test_per_class))
    labels: dict[str, list[tuple[str, int]]] = {}
    for split, (name, per_class) in enumerate(splits):
        labels[name] = []
        for category in range(CLASSES):
            place = folder / name / str(category) if name == "train" else folder / name
            place.mkdir(parents=True, exist_ok=True)
            for index in range(per_class):
                photo_id = f"{numbers[(index * CLASSES + category) * 2 + split]}.jpg"
                rng = np.random.default_rng([seed, split, category, index])
                (place / photo_id).write_bytes(_photo(rng, KINDS[category]))
                labels[name].append((photo_id, category))
    # Sorted by id, or else the order of the rows would tell the class.
    train, test = sorted(labels["train"]), sorted(labels["test_upload"])
    _write_csv(folder / "train.csv", ("Id", "Category"), train)
    _write_csv(folder / "test-labels.csv", ("Id", "Category"), test)
    _write_csv(folder / "sample-submission.csv", ("Id", "Category"), ((i, 0) for i, _ in test))
    _write_csv(folder / "classes.csv", ("Category", "Name"), enumerate(k.name for k in KINDS))


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _photo(rng: Generator, kind: Kind) -> bytes:
    """Draw one photo: scene, vehicle and its shadow, things in front, then the camera."""
    width = int(rng.integers(120, 241))
    height = round(width / rng.uniform(4 / 3, 16 / 9))
    unit = min(
        width * rng.uniform(0.74, 0.94) / 100, height * rng.uniform(0.66, 0.82) / kind.height
    )
    tall = kind.height * unit
    floor = min(rng.uniform(max(tall + 0.06 * height, 0.76 * height), height * 0.95), height * 0.93)
    horizon = floor - height * rng.uniform(0.05, 0.25)
    slack = max(width - 100 * unit, 0) / 3 + 0.02 * width
    centre = width / 2 + rng.uniform(-slack, slack)

    photo = _scene(rng, width, height, horizon)
    _cast_shadow(rng, photo, centre, floor, unit)
    brush = _Brush.posed(rng, kind, photo.shape, (centre, floor), unit)
    brush.draw(kind)
    layer = cv2.resize(brush.canvas, (width, height), interpolation=cv2.INTER_AREA)
    photo = _composed(rng, photo, layer.astype(np.float32), floor - tall, floor)
    if rng.random() < 0.35:
        _clutter_in_front(rng, photo, floor)
    return _taken(rng, photo.astype(np.float32))


@dataclass
class _Brush:
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
    ) -> _Brush:  # fmt: skip
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
            paints=_paints(rng),
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
            self.fill_projected(face, _toned(colour, 1.15) if upward[edge] else _toned(steep, 0.72))
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
            self.fill(streak, _toned(self.paints["glass"], 1.35, 22))

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
        self.disc(hub, 0.54 * size, _toned(rim, 0.45))
        for spoke in range(self.spokes):
            angle = self.turned + 2 * np.pi * spoke / self.spokes
            tip = hub + 0.58 * size * np.array([np.cos(angle), np.sin(angle)])
            self.line(Part("line", part.paint, "", 0.15 * size), np.stack([hub, tip]))
        self.disc(hub, 0.2 * size, _toned(rim, 0.8))

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


CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 28, endpoint=False)),
                   np.sin(np.linspace(0, 2 * np.pi, 28, endpoint=False))]).T  # fmt: skip


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


def _toned(colour: Colour, factor: float, lift: float = 0.0) -> Colour:
    blue, green, red = (min(max(channel * factor + lift, 0.0), 255.0) for channel in colour)
    return blue, green, red


def _random_colour(rng: Generator) -> Colour:
    saturation = rng.choice([0.05, 0.45, 0.85]) * rng.uniform(0.8, 1.1)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.3, 0.95))
    return blue * 255, green * 255, red * 255


def _paints(rng: Generator) -> dict[str, Colour]:
    """Mix the paints of one vehicle. Every kind draws from the same pots."""
    body, grey = _random_colour(rng), rng.uniform(25, 95)
    shine = rng.uniform(150, 225)
    metal = (shine, shine, shine * 0.97)
    return {
        "body": body, "seam": _toned(body, 0.5), "trim": _random_colour(rng),
        "cargo": _random_colour(rng), "rim": _random_colour(rng), "metal": metal, "thin": metal,
        "glass": (grey * 1.35, grey * 1.15, grey), "dark": (42, 40, 40), "tyre": (30, 29, 29),
        "lamp": (205, 238, 250), "tail": (40, 35, 200),
        "beacon": (230, 120, 40) if rng.random() < 0.5 else (40, 160, 250),
    }  # fmt: skip


def _scene(rng: Generator, width: int, height: int, horizon: float) -> Array:
    """Paint sky, what stands at the horizon, and the ground."""
    above, at_horizon = (np.array(c) for c in SKIES[rng.integers(len(SKIES))])
    ramp = np.clip(np.arange(height) / horizon, 0, 1)[:, None]
    rows = above * (1 - ramp) + at_horizon * ramp + rng.normal(0, 10, 3)
    photo = np.repeat(np.clip(rows, 0, 255)[:, None], width, axis=1).astype(np.uint8)
    for backdrop in rng.permutation(len(BACKDROPS))[: rng.integers(1, 3)]:
        BACKDROPS[backdrop](rng, photo, horizon)
    ground = np.array(GROUNDS[rng.integers(len(GROUNDS))]) * rng.uniform(0.8, 1.15)
    top = round(horizon)
    fade = np.linspace(1.12, 0.88, height - top)[:, None, None]
    photo[top:] = np.clip(ground * fade, 0, 255).astype(np.uint8)
    _ground_lines(rng, photo, horizon)
    grain = _noise(rng, photo.shape, 9) * 6 + _noise(rng, photo.shape, 2) * 6
    grain[:top] *= 0.4
    textured: Array = np.clip(photo + grain[..., None], 0, 255).astype(np.uint8)
    return textured


def _noise(rng: Generator, shape: tuple[int, ...], cell: int) -> Array:
    """Return smooth noise with grains of about `cell` pixels, standard deviation near 1."""
    coarse = rng.standard_normal((shape[0] // cell + 2, shape[1] // cell + 2), dtype=np.float32)
    smooth: Array = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return smooth


def _hills(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    for distance in (0.35, 0.2):
        x = np.linspace(0, width, 24)
        wave = np.sin(x / width * rng.uniform(3, 9) + rng.uniform(0, 6))
        ridge = horizon - height * distance * (0.6 + 0.4 * wave)
        outline = np.stack([np.append(x, [width, 0]), np.append(ridge, [horizon + 2] * 2)]).T
        colour = _toned((120, 125, 95), rng.uniform(0.6, 1.3) * (1 + distance))
        cv2.fillPoly(photo, [outline.astype(np.int32)], colour, cv2.LINE_AA)


def _trees(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    for _ in range(rng.integers(2, 8)):
        x, crown = rng.uniform(0, width), height * rng.uniform(0.08, 0.2)
        top = horizon - height * rng.uniform(0.15, 0.4)
        _stroke(photo, (x, horizon), (x, top), (45, 62, 80), max(1, crown / 5))
        leaf = _toned((60, 115, 75), rng.uniform(0.5, 1.25))
        for _ in range(6):
            at = (round(x + rng.normal(0, crown / 2)), round(top + rng.normal(0, crown / 2)))
            tone = _toned(leaf, rng.uniform(0.8, 1.2))
            cv2.circle(photo, at, round(crown * rng.uniform(0.35, 0.7)), tone, -1, cv2.LINE_AA)


def _houses(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    x = -rng.uniform(0, 0.2) * width
    while x < width:
        wide, tall = width * rng.uniform(0.15, 0.4), height * rng.uniform(0.25, 0.75)
        wall = _toned(_random_colour(rng), 0.4, 90)
        _block(photo, (x, horizon - tall), (x + wide, horizon), wall)
        step, pane = height * rng.uniform(0.1, 0.16), _toned(wall, rng.uniform(0.4, 0.8))
        for row in np.arange(horizon - tall + step * 0.4, horizon - step, step):
            for column in np.arange(x + step * 0.4, x + wide - step * 0.6, step):
                _block(photo, (column, row), (column + step * 0.45, row + step * 0.6), pane)
        x += wide * rng.uniform(1, 1.5)


def _wall(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    colour, tall = _toned(_random_colour(rng), 0.5, 70), height * rng.uniform(0.2, 0.7)
    _block(photo, (0, horizon - tall), (width, horizon), colour)
    course, joint = height * rng.uniform(0.04, 0.1), _toned(colour, rng.uniform(0.78, 0.95))
    for number, y in enumerate(np.arange(horizon - tall, horizon, course)):
        _stroke(photo, (0, y), (width, y), joint, 1)
        for x in np.arange((number % 2) * course * 1.2, width, course * 2.4):
            _stroke(photo, (x, y), (x, y + course), joint, 1)


def _poles(rng: Generator, photo: Array, horizon: float) -> None:
    height, width = photo.shape[:2]
    tone, tall = _toned((95, 95, 95), rng.uniform(0.4, 1.8)), height * rng.uniform(0.15, 0.6)
    for x in np.arange(rng.uniform(0, 0.2) * width, width, width * rng.uniform(0.12, 0.5)):
        _stroke(photo, (x, horizon), (x, horizon - tall), tone, max(1, width / 90))
    for share in rng.uniform(0.1, 1, rng.integers(1, 4)):
        y = horizon - tall * share
        _stroke(photo, (0, y), (width, y), tone, max(1, width / 130))


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
            _stroke(photo, (x, y), (x + dash, y), (215, 222, 225), max(1, height * 0.018))
            x += dash + gap
    if rng.random() < 0.35:
        vanish, tone = rng.uniform(0, width), _toned(tuple(photo[-1, 0].tolist()), 0.85)
        for x in np.linspace(-2 * width, 3 * width, 26):
            _stroke(photo, (vanish + (x - vanish) * 0.3, horizon), (x, height), tone, 1)


def _cast_shadow(rng: Generator, photo: Array, centre: float, floor: float, unit: float) -> None:
    """Darken the ground under the vehicle, softly, and at times beside it."""
    small = np.zeros((photo.shape[0] // 2, photo.shape[1] // 2), np.float32)
    reach = unit * rng.uniform(2.5, 7)
    at = (round((centre + rng.normal(0, 4) * unit) / 2), round((floor - reach * 0.2) / 2))
    axes = (round(50 * unit / 2), max(1, round(reach / 2)))
    cv2.ellipse(small, at, axes, 0, 0, 360, rng.uniform(0.45, 0.75), -1)
    small = cv2.GaussianBlur(small, (0, 0), max(0.8, unit * 1.6))
    mask = cv2.resize(small, (photo.shape[1], photo.shape[0]))
    photo[:] = (photo * (1 - mask[..., None])).astype(np.uint8)


def _composed(rng: Generator, photo: Array, layer: Array, top: float, floor: float) -> Array:
    """Lay the vehicle over the scene, lit from above with a brighter shoulder."""
    share = (np.arange(photo.shape[0]) - top) / max(floor - top, 1)
    light = 1.14 - 0.38 * np.clip(share, 0, 1) + 0.2 * np.exp(-(((share - 0.42) / 0.07) ** 2))
    light = 1 + (light - 1) * rng.uniform(0.6, 1.2)
    alpha = layer[..., 3:] / 255
    lit = np.minimum(layer[..., :3] * light[:, None, None].astype(np.float32), 255)
    composed: Array = np.clip(photo * (1 - alpha) + lit, 0, 255).astype(np.uint8)
    return composed


def _clutter_in_front(rng: Generator, photo: Array, floor: float) -> None:
    """Let a post, a shrub or a railing hide a little of the vehicle."""
    height, width = photo.shape[:2]
    x, choice = rng.uniform(0, width), rng.integers(3)
    if choice == 0:
        tone = _toned((120, 120, 120), rng.uniform(0.3, 1.6))
        _stroke(
            photo, (x, height), (x + rng.normal(0, 3), 0), tone, width * rng.uniform(0.015, 0.05)
        )
    elif choice == 1:
        for _ in range(14):
            at = (
                round(x + rng.normal(0, width * 0.07)),
                round(height - rng.uniform(0, 0.14) * height),
            )
            tone = _toned((60, 120, 80), rng.uniform(0.4, 1.3))
            cv2.circle(photo, at, round(height * rng.uniform(0.03, 0.09)), tone, -1, cv2.LINE_AA)
    else:
        tone, y = _toned((130, 130, 130), rng.uniform(0.3, 1.7)), floor - height * 0.12
        _stroke(photo, (0, y), (width, y), tone, max(1, height * 0.02))
        for post in np.arange(x % (width / 4), width, width / 4):
            _stroke(photo, (post, y), (post, height), tone, max(1, height * 0.018))


def _stroke(
    photo: Array, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: float
) -> None:
    ends = [(round(x * 2**SUBPIXEL), round(y * 2**SUBPIXEL)) for x, y in (start, end)]
    cv2.line(photo, ends[0], ends[1], colour, max(1, round(width)), cv2.LINE_AA, SUBPIXEL)


def _block(
    photo: Array, corner: tuple[float, float], other: tuple[float, float], colour: Colour
) -> None:
    ends = [(round(x), round(y)) for x, y in (corner, other)]
    cv2.rectangle(photo, ends[0], ends[1], colour, -1)


def _taken(rng: Generator, photo: Array) -> bytes:
    """Take the picture: light across the frame, patches of shade, blur, noise, JPEG."""
    height, width = photo.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    angle = rng.uniform(0, 6.3)
    light = 1 + rng.uniform(0, 0.28) * (x * np.cos(angle) + y * np.sin(angle))
    light -= rng.uniform(0, 0.22) * (x**2 + y**2) / 2
    if rng.random() < 0.25:
        shade = np.clip(_noise(rng, photo.shape, max(8, width // 6)) * 2, 0, 1)
        light *= 1 - rng.uniform(0.15, 0.4) * shade
    cast = rng.uniform(0.8, 1.25) * rng.normal(1, 0.045, 3)
    photo = photo * (light[..., None] * cast).astype(np.float32)
    photo = (photo - 128) * rng.uniform(0.75, 1.12) + 128
    blur = max(0.0, rng.normal(0.45, 0.45)) * width / 200
    if blur > 0.2:
        photo = cv2.GaussianBlur(photo, (0, 0), blur)
    photo += rng.standard_normal(photo.shape, dtype=np.float32) * rng.uniform(1, 10)
    pixels = np.clip(photo, 0, 255).astype(np.uint8)
    quality = int(rng.integers(40, 96))
    written, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise RuntimeError("OpenCV could not encode a JPEG.")
    return coded.tobytes()
