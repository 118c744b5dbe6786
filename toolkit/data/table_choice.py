"""Which of several tables of labels is taken, where they say different things."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.data.label_columns import AmbiguousColumnError
from toolkit.data.labels import LabelTable
from toolkit.data.tables import letters
from toolkit.errors import DataError, listing


def chosen_table(found: Sequence[LabelTable], root: Path, wanted: Sequence[str] = ()) -> LabelTable:
    """Return the table to take; of several that say the same, the largest.

    The columns of the sample submission decide which they may be, then their names.

    Raises:
        ToolkitError: They say different things.
    """
    if not agree(found):
        fitting = [table for table in found if _is_wanted(table, wanted)]
        found = fitting or found
        best = max(map(telling, found))
        found = [table for table in found if telling(table) == best]
    if not agree(found):
        readings = [
            f"{table.path}: {table.columns}, {len(table.ids):,} photos, "
            f"{len(set(table.labels)):,} classes"
            for table in found
        ]
        raise DataError(
            f"{root}: {len(found)} tables have labels of photos here, and they differ. "
            "Name the right one with `labels=FILE`, its columns with `id_column=A` and "
            f"`label_column=B`, and the photos with `photos=DIR`:\n{listing(readings)}",
            path=root,
        )
    return _largest_first(found)[0]


def telling(table: LabelTable | AmbiguousColumnError) -> int:
    """Return how clearly a table's name says that it holds labels: 1, 0, or -1 for other facts."""
    name = letters(table.path) if table.path else ""
    if any(word in name for word in ("label", "truth", "annot", "target", "solution")):
        return 1
    return -1 if any(word in name for word in ("feature", "meta", "info")) else 0


def agree(tables: Sequence[LabelTable]) -> bool:
    """Return whether all tables say what the largest says."""
    ranked = _largest_first(tables)
    largest = dict(zip(ranked[0].ids, ranked[0].labels, strict=True))
    return all(
        largest.get(id) == label
        for other in ranked[1:]
        for id, label in zip(other.ids, other.labels, strict=True)
    )


def _largest_first(tables: Sequence[LabelTable]) -> list[LabelTable]:
    return sorted(tables, key=lambda table: (-len(table.ids), len(table.path.name)))


def _is_wanted(table: LabelTable, wanted: Sequence[str]) -> bool:
    """Return whether a table says what the sample submission asks for."""
    if len(wanted) == 1:
        return table.label_columns == tuple(wanted)
    return bool(wanted) and set(table.labels) <= set(wanted)
