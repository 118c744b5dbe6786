"""Labels by id, from a table of any shape that people keep them in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from toolkit.data.columns import IsPhoto, chosen_column, find_id_column, normalised
from toolkit.data.label_columns import NoLabelsError, find_label_columns, names_beside
from toolkit.data.layout import Role
from toolkit.data.reading import AUTO, Reading
from toolkit.data.row_parts import row_parts, split_columns, unclear_splits
from toolkit.data.tables import Table, read_table
from toolkit.data.targets import one_hot_labels, refuse_no_classes, whole_numbers
from toolkit.errors import DataError, listing
from toolkit.progress import counted

SEVERAL_LABELS = 0.05
"""Share of ids with different labels from which they are several labels per photo, no mistakes."""


@dataclass(frozen=True)
class LabelTable:
    """Ids and labels of a table, each id once.

    Attributes:
        path: Of the table.
        columns: In words, which are taken for what.
        ids: In the order of the rows.
        labels: One an id.
        id_column: The column of ids.
        label_columns: The column of labels, or those of the classes.
        groups: Likewise; empty where no column of groups was named.
        parts: Likewise, which part of the data each is for; empty where no column says so.
        for_test: The ids of rows that a column keeps from training.
        names: A readable name for some labels, from a column that says the same in other words.
        remarks: What was not used, or is used once where it stands twice.
        warnings: What may be a mistake.
    """

    path: Path
    columns: str
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    id_column: str
    label_columns: tuple[str, ...]
    groups: tuple[str, ...] = ()
    parts: tuple[Role, ...] = ()
    for_test: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_labels(path: Path, reading: Reading = AUTO) -> dict[str, str]:
    """Read a table of ids and labels whose photos are not at hand.

    Args:
        path: The table.
        reading: Its columns, where they cannot be found by their names.

    Returns:
        Label by id, in the order of the rows.

    Raises:
        ToolkitError: The table is not as expected: a column cannot be told, a label is empty, or
            an id has different labels.
    """
    table = label_table(read_table(path), reading, lambda ids: 0.0, are_classes=False)
    return dict(zip(table.ids, table.labels, strict=True))


def label_table(
    table: Table,
    reading: Reading,
    is_photo: IsPhoto,
    wanted: Sequence[str] = (),
    placeholders: Sequence[str] = (),
    *,
    are_classes: bool = True,
) -> LabelTable:
    """Take a table for one of ids and labels.

    Args:
        table: Of any shape: a column of labels, or one column a class that holds 0 and 1.
        reading: The columns that a user named.
        is_photo: Tells which column names photos.
        wanted: The columns that the sample submission asks for beside the id.
        placeholders: What it has in them where there is one.
        are_classes: Whether they are to be learnt: then what is no class is refused, and rows
            for test are left out.

    Raises:
        NoLabelsError: It has no such columns.
        AmbiguousColumnError: Several columns may be the one of labels.
        ToolkitError: A row is not as expected.
    """
    if table.frame.empty:
        raise DataError(f"{table.path}: the file has no rows.", path=table.path)
    id_column = find_id_column(table, reading.id_column, is_photo)
    if id_column is None:
        raise NoLabelsError(
            f"{table.path}: none of its columns ({', '.join(table.columns[:8])}) names photos. "
            "Name the column of ids with `id_column=A`.",
            path=table.path,
        )
    group = reading.group_column
    group_column = chosen_column(table, group, "group_column") if group else None
    named = reading.label_column
    label_column = chosen_column(table, named, "label_column") if named else None
    _refuse_same(table, id_column, label_column, group_column)
    taken = (id_column, group_column, label_column)
    # Where the photos are not at hand, the labels of all of them are wanted.
    splits = split_columns(table, taken) if are_classes else []
    rest = [name for name in table.columns if name not in (id_column, group_column, *splits)]
    frame = table.frame
    if label_column is not None:
        label_columns = [label_column]
    else:
        label_columns = find_label_columns(table, id_column, rest, wanted)
    said = f"id '{id_column}', label '{label_columns[0]}'"
    labels = frame[label_columns[0]]
    if len(label_columns) > 1:
        said = f"id '{id_column}', one column a class ({len(label_columns)})"
        values = one_hot_labels(str(table.path), frame, label_columns)
        labels = pd.Series(values, index=frame.index, dtype=object)
    chosen = pd.DataFrame({"id": frame[id_column], "label": labels}, dtype=object)
    if group_column:
        chosen["group"] = frame[group_column]
    remarks: list[str] = []
    for_test: tuple[str, ...] = ()
    if splits:
        chosen["part"] = row_parts(table, splits)
        chosen, for_test = _for_training(table, chosen, splits)
    _refuse_empty(table.path, chosen)
    as_written = list(chosen["label"])
    chosen["label"] = whole_numbers(as_written)
    if are_classes:
        asked = placeholders if label_columns[0] in wanted else ()
        where = f"{table.path}: the column '{label_columns[0]}'"
        refuse_no_classes(where, list(chosen["label"]), normalised(label_columns[0]), asked)
        remarks += _rewritten(as_written, list(chosen["label"]))
    unique = _unique(table.path, chosen, are_classes=are_classes)
    unused = [name for name in rest if name not in label_columns]
    names: dict[str, str] = {}
    if are_classes and len(label_columns) == 1:
        names = names_beside(frame, label_columns[0], unused)
    remarks += _remarks(for_test, splits, label_columns, chosen, unique, unused)
    return LabelTable(
        path=table.path,
        columns=said,
        ids=tuple(unique["id"]),
        labels=tuple(unique["label"]),
        id_column=id_column,
        label_columns=tuple(label_columns),
        groups=tuple(unique["group"]) if group_column else (),
        parts=tuple(unique["part"]) if splits else (),
        for_test=for_test,
        names=names,
        remarks=tuple(f"{table.path.name}: {remark}" for remark in remarks),
        warnings=tuple(
            f"{table.path.name}: {line}"
            for line in unclear_splits(table, (*taken, *label_columns, *splits))
        ),
    )


def _refuse_same(
    table: Table, id_column: str, label_column: str | None, group_column: str | None
) -> None:
    if label_column is not None and label_column in (id_column, group_column):
        role = "ids" if label_column == id_column else "groups"
        raise DataError(
            f"{table.path}: the column '{label_column}' cannot hold both the labels and the "
            f"{role}. Expected two of: {', '.join(table.columns[:8])}.",
            path=table.path,
        )


def _rewritten(before: Sequence[str], after: Sequence[str]) -> list[str]:
    changed = next((old for old, new in zip(before, after, strict=True) if old != new), None)
    return [] if changed is None else [f"labels such as '{changed}' read as integers"]


def _remarks(
    for_test: Sequence[str],
    splits: Sequence[str],
    label_columns: Sequence[str],
    chosen: pd.DataFrame,
    unique: pd.DataFrame,
    unused: Sequence[str],
) -> Iterator[str]:
    """Say what was not used, or is used once where it stands twice."""
    if for_test:
        yield f"{len(for_test):,} rows that {_named(splits)} for test"
    absent = set(label_columns) - set(chosen["label"]) if len(label_columns) > 1 else set()
    if absent:
        yield f"classes without any photo: {', '.join(sorted(absent)[:8])}"
    if len(unique) < len(chosen):
        yield f"{len(chosen) - len(unique):,} rows that repeat an id with its label"
    if unused:
        yield f"columns not used: {', '.join(unused[:8])}"


def _for_training(
    table: Table, chosen: pd.DataFrame, splits: Sequence[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows that are not for test, and the ids of those that are."""
    is_test = chosen["part"] == "test"
    if is_test.all():
        raise DataError(
            f"{table.path}: all {len(chosen):,} rows are such as {_named(splits)} for test, so "
            "that none is left to train on.",
            path=table.path,
        )
    return chosen[~is_test], tuple(chosen["id"][is_test])


def _named(splits: Sequence[str]) -> str:
    return f"{' and '.join(map(repr, splits))} {'say are' if len(splits) > 1 else 'says are'}"


def _refuse_empty(path: Path, chosen: pd.DataFrame) -> None:
    for column in chosen.columns:
        empty = chosen.index[chosen[column] == ""]
        if len(empty):
            more = f", as in {counted(len(empty) - 1, 'further line')}" if len(empty) > 1 else ""
            raise DataError(
                f"{path}: line {empty[0]}: the {column} is empty{more}. Fill it in, or remove what "
                "has none.",
                path=path,
            )


def _unique(path: Path, chosen: pd.DataFrame, *, are_classes: bool) -> pd.DataFrame:
    """Return each id once.

    Raises:
        ToolkitError: An id has different labels or groups.
    """
    unique = chosen.drop_duplicates()
    repeated = unique["id"].duplicated(keep=False)
    if not repeated.any():
        return unique
    conflicts = unique[repeated].groupby("id", sort=False)
    equal = int(chosen["id"].duplicated().sum()) - int(unique["id"].duplicated().sum())
    lines = [
        f"'{id}': {', '.join(f'{row.label} (line {row.Index})' for row in rows.itertuples())}"
        for id, rows in conflicts
    ]
    if are_classes and len(lines) > max(1, SEVERAL_LABELS * chosen["id"].nunique()):
        raise DataError(
            f"{path}: {len(lines)} of {chosen['id'].nunique()} ids have rows with different "
            "labels: several labels per photo. This toolkit learns one class per photo. Where "
            "these are different photos of one name, write their paths as ids:\n"
            f"{listing(lines)}",
            path=path,
        )
    further = f"; {equal} further rows repeat an id with its label, which does no harm"
    raise DataError(
        f"{path}: {len(lines)} ids stand in several rows with different labels"
        f"{further if equal else ''}. Keep one row of each, or write the paths of different "
        f"photos:\n{listing(lines, len(lines))}",
        path=path,
    )
