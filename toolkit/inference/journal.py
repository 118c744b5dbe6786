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
    """Answers to the first photos of a job, in order.

    A row is float64: a number for the state of the photo's file, then the columns of the answer.

    Attributes:
        discarded_for: Settings in which an interrupted job differed whose answers were discarded;
            empty where none were.
    """

    def __init__(
        self, folder: Path, job: Mapping[str, Any], columns: int, files: NDArray[np.float64]
    ) -> None:
        """Open the journal; what no longer holds is discarded.

        Args:
            folder: Where it is kept until the job is finished.
            job: All that every answer depends on; under another job no row is kept.
            columns: Of an answer.
            files: One number a photo, in order, that changes when its file does. Rows are kept up
                to the first photo that changed.
        """
        self._folder, self._files, self._length = folder, files, 1 + columns
        self._path = folder / ROWS
        self.discarded_for: tuple[str, ...] = ()
        differing = _differing(folder / JOB, job)
        if differing:
            if self._path.is_file() and self._path.stat().st_size:
                self.discarded_for = differing
            self._path.unlink(missing_ok=True)
            write_json(folder / JOB, job)
        self._path.touch()
        # A row that was being written when the process was killed is cut off.
        whole = self._path.stat().st_size // (8 * self._length)
        os.truncate(self._path, 8 * self._length * whole)
        kept = self._rows()[: len(files)]
        changed = np.flatnonzero(kept[:, 0] != files[: len(kept)])
        os.truncate(self._path, 8 * self._length * (changed[0] if len(changed) else len(kept)))

    @classmethod
    @contextmanager
    def held(
        cls, result: Path, job: Mapping[str, Any], columns: int, files: NDArray[np.float64]
    ) -> Iterator[Journal]:
        """Open the journal of a result, hidden beside it, for one process at a time.

        Args:
            result: The file that the job will write.
            job: See `Journal`.
            columns: See `Journal`.
            files: See `Journal`.

        Raises:
            ToolkitError: Another process is at the same job, or the folder cannot be written.
        """
        folder = journal_folder(result)
        lock = filelock.FileLock(folder / LOCK)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ToolkitError(
                f"{result}: another process is writing it. Wait for it, or pass another `out`."
            ) from None
        except OSError as error:
            raise ToolkitError(f"{folder.parent}: cannot be written ({error.strerror}).") from None
        try:
            yield cls(folder, job, columns, files)
        finally:
            lock.release()

    def rows(self) -> NDArray[np.float64]:
        """Return the rows so far, shape (photos done, columns)."""
        return self._rows()[:, 1:]

    def append(self, answers: NDArray[np.float64]) -> None:
        """Add the rows of one batch, shape (photos, columns)."""
        done = self._path.stat().st_size // (8 * self._length)
        files = self._files[done : done + len(answers), None]
        try:
            with self._path.open("ab") as file:
                file.write(np.hstack([files, answers]).astype("<f8").tobytes())
        except OSError as error:
            # A full disk has no name in the system's error.
            raise ToolkitError(f"{self._path}: cannot be written ({error.strerror}).") from None

    def remove(self) -> None:
        """Delete the journal when the job is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _rows(self) -> NDArray[np.float64]:
        return np.fromfile(self._path, dtype="<f8").reshape(-1, self._length)


def journal_folder(result: Path) -> Path:
    """Return where the journal of a result is, which is there until the job is finished."""
    return result.with_name(f".{result.name}.partial")


def _differing(path: Path, job: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of what is another in a journal's job than in this one."""
    try:
        kept = read_json(path)
    except ToolkitError:
        return tuple(job)  # Missing or spoilt: its rows may be of anything.
    names = dict.fromkeys([*job, *kept])
    return tuple(name for name in names if kept.get(name) != job.get(name))
