"""The index of a data folder: its photos, their classes, and what is to be predicted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.data.archives import extract, is_inside
from toolkit.data.tables import (
    CATEGORY_COLUMN,
    ID_COLUMN,
    labels_table,
    read_labels,
    read_table,
    rows_by_id,
)
from toolkit.errors import ToolkitError
from toolkit.files import sha256_json

PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".jxl", ".png", ".bmp", ".dib", ".gif"),
    *(".webp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
)
"""What is taken for a photo; one that cannot be read is told as broken, not passed over."""

TRAIN_CSV, SAMPLE_CSV, CLASSES_CSV = "train.csv", "sample-submission.csv", "classes.csv"
TRAIN_FOLDER = "train"
TEST_FOLDERS = ("test_upload", "test")


class NothingToPredictError(ToolkitError):
    """A data folder without any photos to predict."""


@dataclass(frozen=True)
class Photo:
    """One labelled photo.

    Attributes:
        id: As the CSV names it, or its path below the class folders' parent.
        path: Its file, which may be missing.
        label: Index of its class.
    """

    id: str
    path: Path
    label: int


@dataclass(frozen=True)
class Dataset:
    """Labelled photos and the order of their classes.

    Attributes:
        root: The data folder.
        classes: Category values as written in the data, in class order.
        photos: The photos, in a fixed order.
        names: A readable name for some categories.
    """

    root: Path
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    names: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of class order, ids and labels; not of the photos' bytes."""
        return sha256_json([self.classes, [[photo.id, photo.label] for photo in self.photos]])

    def without(self, ids: Iterable[str]) -> Dataset:
        """Return the same data without some photos."""
        gone = set(ids)
        kept = tuple(photo for photo in self.photos if photo.id not in gone)
        return Dataset(self.root, self.classes, kept, self.names)


@dataclass(frozen=True)
class Request:
    """Photos to predict, in the order of the answer.

    Attributes:
        ids: As the answer shall name them.
        paths: Their files, which may be missing.
        columns: Names of the answer's id and category columns.
    """

    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    columns: tuple[str, str] = (ID_COLUMN, CATEGORY_COLUMN)


def load_labelled(root: Path) -> Dataset:
    """Read the labelled photos of a data folder.

    Either `train.csv` names them, or each class has a folder, below `train/` or the root itself.
    A `train.zip` is extracted first.

    Args:
        root: The data folder.

    Returns:
        The index. No photo is opened.

    Raises:
        ToolkitError: The folder or a CSV is not as expected.
    """
    _check_folder(root)
    _extract_once(root, (TRAIN_FOLDER,))
    if (root / TRAIN_CSV).is_file():
        return _from_csv(root)
    return _from_class_folders(root)


def is_extracted(root: Path) -> bool:
    """Return whether `load_labelled` would extract no archive."""
    return (root / TRAIN_FOLDER).is_dir() or not (root / f"{TRAIN_FOLDER}.zip").is_file()


def load_labels(csv: Path, photos: Path, classes: tuple[str, ...]) -> Dataset:
    """Read labelled photos from a CSV of ids and categories and a folder.

    Args:
        csv: With an id and a category column.
        photos: The folder its ids are found in, flat or below a folder a class.
        classes: The class order to use.

    Returns:
        The index.

    Raises:
        ToolkitError: The CSV is not as expected, or names a class that is not among `classes`.
    """
    labels = read_labels(csv)
    _check_folder(photos, "the photos of --labels", "--photos")
    known = {category: index for index, category in enumerate(classes)}
    unknown = sorted(set(labels.values()) - set(known))
    if unknown:
        raise ToolkitError(
            f"{csv}: unknown category '{unknown[0]}'. Expected one of: {', '.join(classes)}."
        )
    entries = tuple(
        Photo(id, _in_class_folder(photos, category, id), known[category])
        for id, category in labels.items()
    )
    return Dataset(photos, classes, entries, {})


def load_request(root: Path) -> Request:
    """Read which photos are to be predicted.

    `sample-submission.csv` gives ids and order where there is one; else all photos of a flat test
    folder, or of `root` itself, in natural order of their names. A `test.zip` is extracted first.

    Args:
        root: The data folder.

    Returns:
        Ids and paths. No photo is opened.

    Raises:
        NothingToPredictError: There is no photo to predict.
        ToolkitError: The CSV is not as expected, or the photos it names have no folder.
    """
    _check_folder(root)
    _extract_once(root, TEST_FOLDERS)
    folder = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if (root / SAMPLE_CSV).is_file():
        if folder is None:
            raise ToolkitError(
                f"{root}: {SAMPLE_CSV} names photos, but there is no folder "
                f"{' or '.join(TEST_FOLDERS)} and no test.zip."
            )
        table, columns = rows_by_id(root / SAMPLE_CSV)
        ids = tuple(table[ID_COLUMN])
        return Request(ids, tuple(folder / id for id in ids), columns)
    folder = folder or root
    paths = tuple(sorted(_photos_in(folder), key=lambda path: (_natural(path.name), path.name)))
    if not paths:
        raise NothingToPredictError(
            f"{root}: no photos to predict. Expected {SAMPLE_CSV} with a folder "
            f"{' or '.join(TEST_FOLDERS)}, or a flat folder of photos."
        )
    return Request(tuple(path.name for path in paths), paths)


def passed_over(root: Path) -> list[Path]:
    """Find what no suffix tells to be a photo, or lies deeper, in folders read without a CSV.

    Args:
        root: A data folder that `load_labelled` reads.

    Returns:
        The files, sorted; hidden ones are nobody's photos.
    """
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir()][:1]
    folders = [] if (root / TRAIN_CSV).is_file() else _class_folders(root)
    folders += [] if (root / SAMPLE_CSV).is_file() else tests
    found: list[Path] = []
    for folder in folders:
        taken = set(_photos_in(folder))
        for path in folder.rglob("*"):
            is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.is_file() and path not in taken and not is_hidden:
                found.append(path)
    return sorted(found)


def class_order(categories: Iterable[str]) -> tuple[str, ...]:
    """Sort category values, as numbers where all are numbers ("2" before "10")."""
    values = sorted(set(categories))
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", value) for value in values):
        values.sort(key=float)
    return tuple(values)


def _from_csv(root: Path) -> Dataset:
    table = labels_table(root / TRAIN_CSV)
    folder = root / TRAIN_FOLDER
    _check_folder(folder, f"{root / TRAIN_CSV} names photos")
    for line, category in table[CATEGORY_COLUMN].items():
        if not is_inside(category):
            raise ToolkitError(
                f"{root / TRAIN_CSV}: line {line}: '{category}' is no folder's name."
            )
    classes = class_order(table[CATEGORY_COLUMN])
    index = {category: number for number, category in enumerate(classes)}
    missing = {category for category in classes if not (folder / category).is_dir()}
    if len(missing) < len(classes):
        for line, id, category in zip(
            table.index, table[ID_COLUMN], table[CATEGORY_COLUMN], strict=True
        ):
            if category in missing and not (folder / id).is_file():
                raise ToolkitError(
                    f"{root / TRAIN_CSV}: line {line}: '{id}' has the category '{category}', but "
                    f"there is no folder {folder / category}."
                )
    photos = tuple(
        Photo(id, _in_class_folder(folder, category, id), index[category])
        for id, category in zip(table[ID_COLUMN], table[CATEGORY_COLUMN], strict=True)
    )
    return Dataset(root, classes, photos, _class_names(root))


def _from_class_folders(root: Path) -> Dataset:
    found = {folder.name: sorted(_photos_in(folder)) for folder in _class_folders(root)}
    classes = class_order(name for name, paths in found.items() if paths)
    if not classes:
        raise ToolkitError(
            f"{root}: no labelled photos. Expected {TRAIN_CSV} with a folder {TRAIN_FOLDER}, or "
            "one folder a class."
        )
    photos = tuple(
        Photo(f"{category}/{path.name}", path, label)
        for label, category in enumerate(classes)
        for path in found[category]
    )
    return Dataset(root, classes, photos, _class_names(root))


def _class_folders(root: Path) -> list[Path]:
    parent = root / TRAIN_FOLDER if (root / TRAIN_FOLDER).is_dir() else root
    # Below train/, a folder 'test' is a class like any other.
    others = TEST_FOLDERS if parent == root else ()
    return [
        path
        for path in parent.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in others
    ]


def _in_class_folder(folder: Path, category: str, id: str) -> Path:
    nested, flat = folder / category / id, folder / id
    if nested.is_file():
        return nested
    # Of a missing one, the place where a user would look for it.
    return flat if flat.is_file() or not nested.parent.is_dir() else nested


def _class_names(root: Path) -> dict[str, str]:
    path = root / CLASSES_CSV
    if not path.is_file():
        return {}
    table = read_table(path)
    if list(table.columns[:2]) != [CATEGORY_COLUMN, "Name"]:
        raise ToolkitError(
            f"{path}: Expected the columns {CATEGORY_COLUMN},Name, "
            f"received {','.join(table.columns)}."
        )
    return dict(zip(table[CATEGORY_COLUMN], table["Name"], strict=True))


def _photos_in(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")
    ]


def _natural(name: str) -> list[tuple[int, int | str]]:
    pieces = re.split(r"(\d+)", name)
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces]


def _extract_once(root: Path, folders: tuple[str, ...]) -> None:
    if any((root / name).is_dir() for name in folders):
        return
    for name in folders:
        archive = root / f"{name}.zip"
        if archive.is_file():
            extract(archive, root / folders[0])
            return


def _check_folder(
    folder: Path, why: str = "the data is read from it", option: str = "--data"
) -> None:
    if not folder.is_dir():
        raise ToolkitError(f"{folder}: no such folder ({why}). Name another with {option}.")
