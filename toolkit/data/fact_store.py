"""What is known of files, kept in an SQLite file until the files change.

It is a cache: a spoilt one is made anew. Several processes may use it at once; SQLite lets them
wait for each other.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

from toolkit.errors import DataError

Result = TypeVar("Result")

_LONGEST_WAIT_S = 60
_TABLE = (
    "CREATE TABLE IF NOT EXISTS files "
    "(path BLOB PRIMARY KEY, size INTEGER, modified_ns INTEGER, facts TEXT) WITHOUT ROWID"
)
_SPOILT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""What SQLite says of a file that is damaged, no database, or of another table."""


class FileState(NamedTuple):
    """A file as it is now; another size or time makes what is known of it void.

    Attributes:
        path: Absolute, in the file system's bytes.
        size: In bytes; -1 where the file is missing.
        modified_ns: Time of the last change, in nanoseconds.
    """

    path: bytes
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Look at a file without opening it."""
        name = os.fsencode(path.absolute())
        try:
            status = path.stat()
        except OSError:
            return cls(name, -1, 0)
        return cls(name, status.st_size, status.st_mtime_ns)


class FactStore:
    """A table of facts, one row a file."""

    def __init__(self, file: Path) -> None:
        """Name the SQLite file; it is made when something is kept."""
        self.file = file

    def find(self, states: Collection[FileState]) -> dict[FileState, str]:
        """Return what is known of files that have not changed since.

        Raises:
            ToolkitError: The system refuses the store.
        """
        if not self.file.is_file():
            return {}
        query = "SELECT facts FROM files WHERE path = ? AND size = ? AND modified_ns = ?"

        def select(connection: sqlite3.Connection) -> dict[FileState, str]:
            rows = ((state, connection.execute(query, state).fetchone()) for state in states)
            return {state: row[0] for state, row in rows if row}

        return self._with(select)

    def keep(self, facts: Mapping[FileState, str]) -> None:
        """Add facts, in the place of what was known of the same paths.

        Raises:
            ToolkitError: The system refuses the store, or its disk is full.
        """
        rows = [(*state, text) for state, text in facts.items()]
        self._with(
            lambda connection: connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows
            )
        )

    def _with(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            try:
                return self._transaction(work)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _SPOILT:
                    raise
                # The journal first: SQLite would apply one to the new file.
                self.file.with_name(f"{self.file.name}-journal").unlink(missing_ok=True)
                self.file.unlink(missing_ok=True)
                return self._transaction(work)
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"{self.file}: cannot be used ({error}). Name another folder in TOOLKIT_CACHE.",
                path=self.file,
            ) from None

    def _transaction(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.file, timeout=_LONGEST_WAIT_S)) as connection, connection:
            connection.execute(_TABLE)
            return work(connection)
