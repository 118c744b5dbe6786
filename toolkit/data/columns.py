"""Which column of a table is which: by the names that people give them, and by what is in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pandas as pd

from toolkit.data.tables import Table
from toolkit.data.tree import PHOTO_SUFFIXES
from toolkit.errors import DataError, suggestion

IsPhoto = Callable[[Sequence[str]], float]
"""Returns which share of values are ids of photos that are there."""

ID_NAMES = (
    *("image_id", "image_name", "image_path", "image_file", "image", "img_id", "img_name", "img"),
    *("id", "id_code", "photo_id", "photo", "picture", "file_name", "file_path", "file_id", "file"),
    *("filename", "filepath", "filepaths", "path", "fname", "name", "isic_id", "uuid", "key"),
    *("imageid", "imagename", "imagepath", "files", "images", "paths", "filenames", "index"),
)
"""Usual names of the column of ids, the most telling first."""

LABEL_NAMES = (
    *("label", "labels", "category", "class", "target", "species", "breed", "category_id"),
    *("class_id", "label_id", "target_id", "class_name", "label_name", "category_name"),
    *("classname", "labelname", "categories", "classes", "diagnosis", "disease", "predicted"),
    *("prediction", "expected", "ground_truth"),
)
"""Usual names of the column of labels, the most telling first."""

WEAK_LABEL_NAMES = ("dx", "type", "variety", "kind", "answer", "level", "tag", "genus", "y")
"""Names that a column of labels has, and other columns have too."""

SPLIT_NAMES = (
    *("split", "data_set", "dataset", "set", "subset", "partition", "part", "fold"),
    *("usage", "split_name", "data_split", "train_test", "train_val", "train_val_test"),
)
"""Usual names of a column that says which photos are for validation."""

SAMPLED = 300
"""Values of a column that are looked for among the files, to tell whether it names photos."""

MOSTLY = 0.5


def normalised(name: str) -> str:
    """Return a column's name as `ID_NAMES` and `LABEL_NAMES` write it."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^0-9a-z]+", "_", split.lower()).strip("_")


def chosen_column(table: Table, name: str, argument: str) -> str:
    """Return the column that a user named, whatever the case of its letters.

    Args:
        table: Where it must be.
        name: As the user wrote it.
        argument: What the user named it by, for the message.

    Raises:
        ToolkitError: There is none, or several differ in case only.
    """
    if name in table.columns:
        return name
    alike = [column for column in table.columns if normalised(column) == normalised(name)]
    if len(alike) == 1:
        return alike[0]
    raise DataError(
        f"{table.path}: no column '{name}' (`{argument}={_upper(argument)}`). "
        f"{suggestion(name, table.columns)}",
        path=table.path,
    )


def find_id_column(table: Table, name: str | None, is_photo: IsPhoto) -> str | None:
    """Find the column that names photos.

    Args:
        table: The table.
        name: The column that a user named.
        is_photo: Tells what is in a column.

    Returns:
        The column whose values are photos here; where no column's are, the one with a usual name;
        None where there is none either.

    Raises:
        ToolkitError: The named one is missing, or the table has no header.
    """
    refuse_missing_header(table, is_photo)
    if name is not None:
        return chosen_column(table, name, "id_column")
    shares = {column: is_photo(_some(table.frame[column])) for column in table.columns}
    by_name = sorted(
        table.columns, key=lambda column: (_rank(column, ID_NAMES), table.columns.index(column))
    )
    found = [column for column in by_name if shares[column] > MOSTLY]
    if not found:
        found = [column for column in by_name if shares[column] > 0 and _is_usual_id(column)]
    if found:
        # Several columns may name the same photo, with its path and without; and a class may be
        # called as a photo is: '2' where there is a 2.png.
        return max(
            found,
            key=lambda column: (
                normalised(column) not in LABEL_NAMES,
                round(shares[column], 1),
                _is_usual_id(column),
                table.frame[column].nunique() if not _is_usual_id(column) else 0,
                -by_name.index(column),
            ),
        )
    usual = [column for column in by_name if _is_usual_id(column)]
    named = [column for column in usual if _names_photos(table.frame[column])]
    return next(iter([*named, *usual]), None)


def refuse_missing_header(table: Table, is_photo: IsPhoto) -> None:
    """Refuse a table whose first line is a row.

    Raises:
        ToolkitError: The first line names a photo, or holds nothing but numbers.
    """
    names = [re.sub(r"\.\d+$", "", name) if is_repeated(name) else name for name in table.columns]
    photos = [name for name in names if name.lower().endswith(PHOTO_SUFFIXES)]
    numbers = [name for name in names if re.fullmatch(r"[+-]?\d+(\.\d+)?", name)]
    usual = any(_is_usual_id(name) or _is_usual_label(name) for name in names)
    is_row = not usual and any(is_photo([name]) for name in names)
    if photos or len(numbers) == len(names) or is_row:
        raise DataError(
            f"{table.path}: has no header, for its first line is '{table.first_line[:100]}'. Put a "
            "line with the names of the columns above it, such as 'id,label'.",
            path=table.path,
        )


def is_repeated(name: str) -> bool:
    """Return whether pandas may have numbered a name that stands in the header twice."""
    return bool(re.search(r"\.\d+$", name))


def _is_usual_id(column: str) -> bool:
    return normalised(column) in ID_NAMES


def _is_usual_label(column: str) -> bool:
    return normalised(column) in (*LABEL_NAMES, *WEAK_LABEL_NAMES)


def _rank(column: str, names: Sequence[str]) -> int:
    name = normalised(column)
    return names.index(name) if name in names else len(names)


def _names_photos(values: pd.Series) -> bool:
    some = _some(values)
    return bool(some) and sum(v.lower().endswith(PHOTO_SUFFIXES) for v in some) > MOSTLY * len(some)


def _some(values: pd.Series) -> list[str]:
    # Evenly spread: a table may begin with rows of another folder.
    step = max(1, len(values) // SAMPLED)
    return [str(value) for value in values.iloc[::step]]


def _upper(argument: str) -> str:
    return {"id_column": "A", "label_column": "B"}.get(argument, "NAME")
