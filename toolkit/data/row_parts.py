"""Which part of the data each row of a table is for, by the columns that say so."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.data.columns import SPLIT_NAMES, normalised
from toolkit.data.layout import Role, role_of
from toolkit.data.tables import Table
from toolkit.errors import DataError, listing

_TRUE, _FALSE = {"1", "true", "yes", "1.0", "t", "y"}, {"0", "false", "no", "0.0", "f", "n"}
_FLAGS: dict[str, tuple[Role, Role]] = {
    **dict.fromkeys(("is_valid", "is_val", "is_validation"), ("validation", "train")),
    **dict.fromkeys(("is_test", "is_testing", "is_test_image"), ("test", "train")),
    **dict.fromkeys(("is_train", "is_training", "is_training_image"), ("train", "test")),
}
"""Columns of yes and no: the part that each of the two means."""

_TEST = ("public", "private", "publictest", "privatetest", "holdout", "hold_out", "hold-out")
"""Values for photos that are kept from training; see 'Usage' of Kaggle's solution files."""


_OF_PARTS = (
    *("split", "split_name", "data_split", "partition", "usage"),
    *("train_test", "train_val", "train_val_test"),
)
"""Names of columns that say nothing but a part of the data; see `SPLIT_NAMES`."""

MOST_PARTS = 3
"""Values of such a column up to which they are parts; more are numbers of folds."""


def split_columns(table: Table, taken: Sequence[str | None]) -> list[str]:
    """Return the columns that say which part of the data a row is for.

    Args:
        table: Of labels.
        taken: The columns that are something else.

    Raises:
        ToolkitError: A column names parts in some rows, and says something unknown in others.
    """
    names = [name for name in table.columns if name not in taken]
    names = [name for name in names if normalised(name) in (*SPLIT_NAMES, *_FLAGS)]
    return [name for name in names if _says_parts(table, name)]


def unclear_splits(table: Table, taken: Sequence[str | None]) -> list[str]:
    """Say which columns are named for parts of the data, in words that say none, a line each.

    Args:
        table: Of labels.
        taken: The columns that are something else.
    """
    lines = []
    for name in table.columns:
        values = sorted(set(table.frame[name]))
        if name in taken or normalised(name) not in _OF_PARTS or not 1 < len(values) <= MOST_PARTS:
            continue
        if not any(_part(name, value) for value in values):
            lines.append(
                f"'{name}' is named as if it says what to train on, but its values "
                f"({', '.join(values)}) do not say it, and all rows are trained on. Write train, "
                "validation and test"
            )
    return lines


def row_parts(table: Table, columns: Sequence[str]) -> list[Role]:
    """Return the part of each row; a row that any column keeps from training is not trained on.

    Args:
        table: Of labels.
        columns: As `split_columns` returned them; at least one.
    """
    each = [[_part(name, value) for value in table.frame[name]] for name in columns]
    return [_strictest(parts) for parts in zip(*each, strict=True)]


def _says_parts(table: Table, column: str) -> bool:
    values = table.frame[column]
    unknown = sorted({value for value in values if not _part(column, value)})
    known = {value.lower() for value in values} - {value.lower() for value in unknown}
    if not known or (known <= set(_TEST[:2]) and normalised(column) != "usage"):
        return False  # It says something else, such as the number of a fold, or a source.
    if unknown:
        lines = [f"'{value}' ({int((values == value).sum()):,} rows)" for value in unknown]
        raise DataError(
            f"{table.path}: the column '{column}' says which part of the data a row is for, but "
            "some values are none of train, validation and test, and whether to train on these "
            "rows is unknown. Change the values, or rename the column if it means something "
            f"else:\n{listing(lines)}",
            path=table.path,
        )
    return True


def _part(column: str, value: str) -> Role:
    """Return the part of the data that a value of a column means; empty for none."""
    flag = _FLAGS.get(normalised(column))
    if flag:
        return flag[0] if value.lower() in _TRUE else flag[1] if value.lower() in _FALSE else ""
    role = "test" if value.lower() in _TEST else role_of(value)
    return "test" if role == "predict" else role


def _strictest(parts: Sequence[Role]) -> Role:
    order: tuple[Role, ...] = ("test", "validation")
    return next((part for part in order if part in parts), "train")
