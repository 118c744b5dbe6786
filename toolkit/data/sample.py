"""The sample submission: which photos are to be answered, and what the answer looks like."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from toolkit.data.columns import find_id_column
from toolkit.data.tables import Table, letters, read_table
from toolkit.errors import DataError

_SAMPLE = re.compile(
    r"(sample|example|template|format).*(sub|solution)|(sub|solution).*(sample|example|template"
    r"|format)"
)
_PERHAPS = re.compile(r"sample|submission|template")


@dataclass(frozen=True)
class Sample:
    """A sample submission as it was read.

    Attributes:
        path: Its file; the archive where it is packed.
        columns: The names of its columns, in order, without an index column that has no name.
        id_column: Which of them names the photos.
        ids: One a row, in the order of the rows; an id may stand in several.
        values: The other columns in their order, as text without spaces around it, one row an id.
            Placeholders: what they are tells the format that is wanted, no more.
        separator: Between the values of a row.
    """

    path: Path
    columns: tuple[str, ...]
    id_column: str
    ids: tuple[str, ...]
    values: pd.DataFrame = field(compare=False, repr=False)
    separator: str = ","

    @property
    def photos(self) -> tuple[str, ...]:
        """The ids, each once, in the order of their first rows."""
        return tuple(dict.fromkeys(self.ids))


def read_sample(
    path: Path,
    *,
    id_column: str | None = None,
    is_photo: Callable[[Sequence[str]], float] = lambda ids: 0.0,
) -> Sample:
    """Read a sample submission of any shape.

    Args:
        path: A table, packed or not.
        id_column: The column of ids; None finds it by its name and by what is in it.
        is_photo: Returns which share of values are ids of photos that are there.

    Returns:
        The sample.

    Raises:
        ToolkitError: It cannot be read, has no header, no rows, or an empty id.
    """
    return sample_of(read_table(path), id_column=id_column, is_photo=is_photo)


def sample_of(
    table: Table,
    *,
    id_column: str | None = None,
    is_photo: Callable[[Sequence[str]], float] = lambda ids: 0.0,
) -> Sample:
    """Take a table for a sample submission; see `read_sample`."""
    if table.frame.empty:
        raise DataError(f"{table.path}: the file has no rows.", path=table.path)
    column = find_id_column(table, id_column, is_photo) or table.columns[0]
    ids = table.frame[column]
    if (ids == "").any():
        raise DataError(
            f"{table.path}: line {ids.index[ids == ''][0]}: the id is empty.", path=table.path
        )
    values = table.frame.drop(columns=column).reset_index(drop=True)
    return Sample(table.path, table.columns, column, tuple(ids), values, table.separator)


def looks_like_sample(path: Path) -> bool:
    """Return whether a table's name is one of a sample submission, however it is written."""
    return bool(_SAMPLE.search(letters(path)))


def may_be_sample(path: Path) -> bool:
    """Return whether a table's name makes one think of a sample submission."""
    return bool(_PERHAPS.search(letters(path)))
