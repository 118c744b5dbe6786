"""Answers written down as they come, so that an interrupted job goes on where it stopped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.files import read_json, write_json

JOB, ROWS, LOCK = "job.json", "rows.f64", ".lock"


class Journal:
    """Probabilities of the first photos of a job, in order, one row of float64 a photo."""

    def __init__(self, folder: Path, job: Mapping[str, Any], classes: int) -> None:
        """Open the journal; rows written for another job are thrown away.

        Args:
            folder: Where it is kept until the job is finished.
            job: All that the answers depend on.
            classes: Length of a row.
        """
        self._folder, self._classes = folder, classes
        self._path = folder / ROWS
        if not _is_of(folder / JOB, job):
            self._path.unlink(missing_ok=True)
            write_json(folder / JOB, job)
        self._path.touch()
        # A row that was being written when the process was killed is cut off.
        whole = self._path.stat().st_size // self._row_bytes * self._row_bytes
        os.truncate(self._path, whole)

    @classmethod
    @contextmanager
    def held(cls, folder: Path, job: Mapping[str, Any], classes: int) -> Iterator[Journal]:
        """Open the journal for one process at a time.

        Raises:
            ToolkitError: Another process is at the same job, or the folder cannot be written.
        """
        lock = filelock.FileLock(folder / LOCK)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ToolkitError(
                f"{folder}: another process writes the same result. Wait for it, or pass --out."
            ) from None
        except OSError as error:
            raise ToolkitError(f"{folder}: cannot be written ({error.strerror}).") from None
        try:
            yield cls(folder, job, classes)
        finally:
            lock.release()

    def rows(self) -> NDArray[np.float64]:
        """Return the rows so far, shape (photos done, classes)."""
        return np.fromfile(self._path, dtype="<f8").reshape(-1, self._classes)

    def append(self, rows: NDArray[np.float64]) -> None:
        """Add the rows of one batch."""
        with self._path.open("ab") as file:
            file.write(rows.astype("<f8").tobytes())

    def remove(self) -> None:
        """Throw the journal away when the job is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _row_bytes(self) -> int:
        return 8 * self._classes


def _is_of(path: Path, job: Mapping[str, Any]) -> bool:
    try:
        return read_json(path) == dict(job)
    except ToolkitError:
        return False  # Missing or spoilt: its rows may be of anything.
