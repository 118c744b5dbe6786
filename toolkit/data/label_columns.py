"""Which columns of a table hold the labels: by their names, and by what is in them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from toolkit.data.columns import LABEL_NAMES, WEAK_LABEL_NAMES, normalised
from toolkit.data.tables import Table
from toolkit.data.targets import is_one_hot, one_hot_columns, whole_numbers
from toolkit.errors import DataError, listing


class AmbiguousColumnError(DataError):
    """More than one column may be the one of labels."""


class NoLabelsError(DataError):
    """A table without a column of ids or one of labels."""


def find_label_columns(
    table: Table, id_column: str, rest: Sequence[str], wanted: Sequence[str]
) -> list[str]:
    """Return the column of labels, or those of the classes where each class has one.

    Args:
        table: Of ids and labels.
        id_column: The column of ids.
        rest: The columns that may be of labels.
        wanted: The columns that the sample submission asks for beside the id.

    Raises:
        NoLabelsError: There is none.
        AmbiguousColumnError: Several columns may be the one of labels.
    """
    frame = table.frame
    if not rest:
        raise NoLabelsError(
            f"{table.path}: has no column beside the ids '{id_column}', and so no labels.",
            path=table.path,
        )
    asked = [name for name in wanted if name in rest]
    if len(wanted) == 1 and asked:
        return asked
    # A sample with one column a class says what the labels are.
    fitting = [name for name in rest if len(wanted) > 1 and set(frame[name]) <= set(wanted)]
    if fitting:
        return _one_of(table, id_column, fitting)
    by_name = _by_name(table, id_column, rest, LABEL_NAMES)
    if by_name:
        return by_name
    binary = one_hot_columns(frame, asked if len(asked) > 1 else rest)
    if binary and (len(binary) == len(rest) or is_one_hot(frame, binary)):
        return binary
    by_name = _by_name(table, id_column, rest, WEAK_LABEL_NAMES)
    if by_name or len(rest) == 1:
        return by_name or list(rest)
    likely = [name for name in rest if _may_be_classes(frame[name])]
    if not likely:
        raise NoLabelsError(
            f"{table.path}: none of its columns ({', '.join(rest[:8])}) looks like labels. Name "
            "the right one with `label_column=B`.",
            path=table.path,
        )
    return _one_of(table, id_column, likely)


def names_beside(frame: pd.DataFrame, label: str, others: Sequence[str]) -> dict[str, str]:
    """Return a readable name of each label, where a second column of labels says the same.

    Args:
        frame: The rows.
        label: The column of labels.
        others: The columns that are nothing else.

    Returns:
        Name by label; empty where there is no such column, or it holds numbers.
    """
    for name in others:
        if normalised(name) in LABEL_NAMES and _say_the_same(frame, label, name):
            pairs = frame[[label, name]].drop_duplicates()
            if not pd.to_numeric(pairs[name], errors="coerce").notna().all():
                return dict(zip(whole_numbers(list(pairs[label])), pairs[name], strict=True))
    return {}


def _by_name(
    table: Table, id_column: str, columns: Sequence[str], names: Sequence[str]
) -> list[str]:
    usual = [name for name in columns if normalised(name) in names]
    usual.sort(key=lambda name: names.index(normalised(name)))
    return _one_of(table, id_column, usual) if usual else []


def _one_of(table: Table, id_column: str, columns: Sequence[str]) -> list[str]:
    """Return the first of columns that say the same.

    Raises:
        AmbiguousColumnError: They do not.
    """
    if not all(_say_the_same(table.frame, columns[0], name) for name in columns[1:]):
        _refuse_ambiguous(table, id_column, columns)
    return [columns[0]]


def _refuse_ambiguous(table: Table, id_column: str, columns: Sequence[str]) -> None:
    readings = []
    for name in columns:
        values = list(dict.fromkeys(table.frame[name]))
        shown = ", ".join(values[:4]) + (", ..." if len(values) > 4 else "")
        readings.append(f"id '{id_column}', label '{name}' ({len(values)} values: {shown})")
    raise AmbiguousColumnError(
        f"{table.path}: {len(readings)} readings are possible. Name the right one with "
        f"`label_column=B`, and `id_column=A` where the ids are not in '{id_column}':\n"
        f"{listing(readings)}",
        path=table.path,
    )


def _may_be_classes(values: pd.Series) -> bool:
    """Return whether values recur as classes do: they differ, and most stand in several rows."""
    different = values.nunique()
    numbers = pd.to_numeric(values, errors="coerce")
    is_fraction = bool(numbers.notna().all() and (numbers % 1 != 0).any())
    return 1 < different <= max(2, len(values) / 2) and not is_fraction


def _say_the_same(frame: pd.DataFrame, first: str, second: str) -> bool:
    """Return whether each value of one column goes with one of the other."""
    pairs = frame[[first, second]].drop_duplicates()
    return len(pairs) == frame[first].nunique() == frame[second].nunique()
