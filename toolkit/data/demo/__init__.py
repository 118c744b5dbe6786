"""A small labelled photo set, drawn on the spot, to try everything without a download.

Eight kinds of vehicle are drawn as little illustrations and then taken as by a cheap camera: pose,
paint, scene, light, blur, sensor noise and JPEG. Some colours are typical of a kind, none tells it.
"""

from __future__ import annotations

import csv
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from toolkit.data.demo.camera import draw_photo
from toolkit.data.demo.kinds import CLASSES, KINDS
from toolkit.errors import ToolkitError
from toolkit.progress import SILENT, Advance, Reporter

__all__ = ["CLASSES", "MOST_PER_CLASS", "make_demo"]

MOST_PER_CLASS = 900_000 // (2 * CLASSES)
"""Six-digit ids run out beyond this: 900,000 numbers over all classes and two splits."""


def make_demo(
    folder: Path,
    *,
    seed: int = 42,
    train_per_class: int = 240,
    test_per_class: int = 125,
    reporter: Reporter = SILENT,
) -> None:
    """Draw a labelled set of photos in the layout of a Kaggle competition.

    A photo and its id depend on the seed, the split, the class and the index alone: the same seed
    gives the same bytes, and more photos per class leave the earlier ones as they were.

    Args:
        folder: Where the set shall appear, whole or not at all. May exist if it is empty.
        seed: Not negative.
        train_per_class: Number of training photos of each of the eight classes.
        test_per_class: Number of test photos of each class.

    Raises:
        ToolkitError: The folder is taken or cannot be written, or a number is out of range.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ToolkitError(f"{folder}: is not an empty folder. Remove it or name another one.")
    if seed < 0:
        raise ToolkitError(f"seed: Expected 0 or more, received {seed}.")
    for name, count in (("train_per_class", train_per_class), ("test_per_class", test_per_class)):
        if not 1 <= count <= MOST_PER_CLASS:
            raise ToolkitError(f"{name}: Expected 1 to {MOST_PER_CLASS}, received {count}.")
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        photos = CLASSES * (train_per_class + test_per_class)
        with reporter.track("drawing", photos) as advance:
            _write_set(temporary, seed, train_per_class, test_per_class, advance)
        if folder.exists():
            folder.rmdir()  # Not every system renames onto an empty folder.
        temporary.rename(folder)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # Of the terminal.
        raise ToolkitError(f"{folder}: cannot be written ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_set(
    folder: Path, seed: int, train_per_class: int, test_per_class: int, advance: Advance
) -> None:
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
                (place / photo_id).write_bytes(draw_photo(rng, KINDS[category]))
                labels[name].append((photo_id, category))
                advance(1)
    # Sorted by id, or else the order of the rows would tell the class.
    train, test = sorted(labels["train"]), sorted(labels["test_upload"])
    _write_csv(folder / "train.csv", ("Id", "Category"), train)
    _write_csv(folder / "test-labels.csv", ("Id", "Category"), test)
    _write_csv(folder / "sample-submission.csv", ("Id", "Category"), ((i, 0) for i, _ in test))
    _write_csv(folder / "classes.csv", ("Category", "Name"), enumerate(k.name for k in KINDS))


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
