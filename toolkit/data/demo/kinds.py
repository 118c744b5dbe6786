"""What the eight kinds of vehicle look like: every stroke of each, as data."""

from __future__ import annotations

from dataclasses import dataclass


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
    """A kind of vehicle.

    Attributes:
        name: As `classes.csv` has it.
        height: Where its length is 100.
        width: Seen from the front; 0 draws it flat.
        colour: Hue, saturation and value of its usual paint, each 0 to 1.
        parts: From the rear on.
    """

    name: str
    height: float
    width: float
    colour: tuple[float, float, float]
    parts: tuple[Part, ...]


KINDS = (
    Kind("Car", 32, 18, (0.58, 0.12, 0.75), (
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
    Kind("Van", 48, 24, (0.0, 0.02, 0.92), (
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
    Kind("Bus", 33, 16, (0.13, 0.85, 0.95), (
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
    Kind("Lorry", 46, 20, (0.6, 0.75, 0.7), (
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
    Kind("Tractor", 74, 26, (0.33, 0.75, 0.6), (
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
    Kind("Motorcycle", 60, 0, (0.0, 0.02, 0.16), (
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
    Kind("Bicycle", 60, 0, (0.5, 0.7, 0.8), (
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
    Kind("Fire engine", 44, 18, (0.0, 0.88, 0.85), (
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
