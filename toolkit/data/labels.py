"""CSVs of ids and categories, as text and with the line of every mistake."""

from __future__ import annotations

import io
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd

from toolkit.data.archives import is_inside
from toolkit.errors import ToolkitError

ID_COLUMN, CATEGORY_COLUMN = "Id", "Category"


def read_labels(csv: Path) -> dict[str, str]:
    """Read a CSV of ids and categories.

    Returns:
        Category by id, in the order of the rows.

    Raises:
        ToolkitError: The CSV is not as expected: a column is missing, a category is empty, an id
            stands twice or leads outside its folder.
    """
    table = labels_table(csv)
    return dict(zip(table[ID_COLUMN], table[CATEGORY_COLUMN], strict=True))


def labels_table(path: Path) -> pd.DataFrame:
    """Return ids and categories, none empty, under their line numbers; see `read_labels`."""
    table, _ = rows_by_id(path)
    empty = table.index[table[CATEGORY_COLUMN] == ""]
    if len(empty):
        raise ToolkitError(f"{path}: line {empty[0]}: the category is empty.")
    return table


def rows_by_id(path: Path) -> tuple[pd.DataFrame, tuple[str, str]]:
    """Return the table under our own column names, and the two names it really has."""
    table = read_frame(path)
    lowered = [column.strip().lower() for column in table.columns]
    if lowered[:2] != [ID_COLUMN.lower(), CATEGORY_COLUMN.lower()]:
        raise ToolkitError(
            f"{path}: Expected the columns {ID_COLUMN},{CATEGORY_COLUMN}, "
            f"received {','.join(table.columns)}."
        )
    names = (table.columns[0], table.columns[1])
    table = table.iloc[:, :2].set_axis([ID_COLUMN, CATEGORY_COLUMN], axis=1)
    for line, id in table[ID_COLUMN].items():
        if not is_inside(id):
            raise ToolkitError(f"{path}: line {line}: '{id}' is no photo's name.")
    repeated = table[ID_COLUMN][table[ID_COLUMN].duplicated()]
    if len(repeated):
        raise ToolkitError(
            f"{path}: line {repeated.index[0]}: the id '{repeated.iloc[0]}' stands twice."
        )
    if table.empty:
        raise ToolkitError(f"{path}: the file has no rows.")
    return table, names


def read_frame(path: Path) -> pd.DataFrame:
    """Return the rows under their line numbers; blank lines are passed over."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        blank = len(list(takewhile(lambda line: not line.strip(), text.splitlines())))
        # Everything stays text: '007.jpg' and the category '01' must come out as they went in.
        table = pd.read_csv(
            io.StringIO(text),
            dtype=str,
            keep_default_na=False,
            skiprows=blank,
            skip_blank_lines=False,
        )
    except FileNotFoundError:
        raise ToolkitError(f"{path}: no such file.") from None
    except UnicodeDecodeError:
        raise ToolkitError(f"{path}: cannot be read as CSV. Save it in UTF-8.") from None
    except pd.errors.EmptyDataError:
        raise ToolkitError(f"{path}: cannot be read as CSV (the file is empty).") from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ToolkitError(f"{path}: cannot be read as CSV ({reason}).") from None
    if len(table) and not isinstance(table.index, pd.RangeIndex):
        # pandas takes the first column for row names where all rows have a value too many.
        raise ToolkitError(
            f"{path}: Expected {len(table.columns)} values in a row, received more: "
            f"{','.join(map(str, table.index[:1]))},{','.join(map(str, table.iloc[0]))}."
        )
    table.index += blank + 2
    is_blank = [not any(map(str.strip, row)) for row in table.to_numpy()]
    return table.drop(index=table.index[np.array(is_blank, dtype=np.bool_)])
