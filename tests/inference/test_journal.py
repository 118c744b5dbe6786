"""The journal: what was written down is used again, and only for the same job."""

from __future__ import annotations

from pathlib import Path

import filelock
import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.inference.journal import ROWS, Journal

JOB = {"bundle": "abc", "temperature": 1.1, "weights": [0.1, 0.2, 0.7], "photos": "def"}
FILES = np.arange(100, 200, dtype=np.float64)
"""States of a hundred files."""


def rows(count: int, first: int = 0) -> np.ndarray:
    return np.random.default_rng(0).dirichlet((1, 1, 1), 100)[first : first + count]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return tmp_path / "result.csv"


@pytest.fixture
def folder(result: Path) -> Path:
    """Where its journal lies."""
    return result.with_name(".result.csv.partial")


def written(result: Path, *counts: int) -> None:
    """Leave a journal as a process leaves it that was killed."""
    with Journal.held(result, JOB, 3, FILES) as journal:
        for count in counts:
            journal.append(rows(count, first=len(journal.rows())))


def test_a_new_journal_has_no_rows(result: Path) -> None:
    with Journal.held(result, JOB, 3, FILES) as journal:
        assert journal.rows().shape == (0, 3)


def test_rows_are_found_again_to_the_bit(result: Path) -> None:
    written(result, 5, 1, 4)
    with Journal.held(result, JOB, 3, FILES) as journal:
        np.testing.assert_array_equal(journal.rows(), rows(10))


def test_an_unread_photo_stays_unread(result: Path) -> None:
    with Journal.held(result, JOB, 3, FILES) as journal:
        journal.append(np.full((1, 3), np.nan))
    with Journal.held(result, JOB, 3, FILES) as journal:
        assert np.isnan(journal.rows()).all()


@pytest.mark.parametrize("torn", [1, 8, 31])
def test_a_torn_last_row_is_cut_off(result: Path, folder: Path, torn: int) -> None:
    written(result, 4)
    whole = (folder / ROWS).read_bytes()
    (folder / ROWS).write_bytes(whole + b"\x7f" * torn)
    with Journal.held(result, JOB, 3, FILES) as journal:
        np.testing.assert_array_equal(journal.rows(), rows(4))
        journal.append(rows(2, first=4))
        np.testing.assert_array_equal(journal.rows(), rows(6))


@pytest.mark.parametrize(
    "other",
    [{"bundle": "xyz"}, {"temperature": 1.2}, {"weights": [0.2, 0.1, 0.7]}, {"seed": 1}],
)
def test_another_job_starts_anew(result: Path, other: dict[str, object]) -> None:
    written(result, 4)
    with Journal.held(result, {**JOB, **other}, 3, FILES) as journal:
        assert len(journal.rows()) == 0
        assert journal.discarded_for == tuple(other)
    with Journal.held(result, JOB, 3, FILES) as journal:
        assert len(journal.rows()) == 0, "the first job's rows are gone"
        assert journal.discarded_for == (), "there were none of the second"


def test_rows_without_their_job_are_not_trusted(result: Path, folder: Path) -> None:
    written(result, 4)
    (folder / "job.json").unlink()
    with Journal.held(result, JOB, 3, FILES) as journal:
        assert len(journal.rows()) == 0


def test_a_job_that_cannot_be_read_starts_anew(result: Path, folder: Path) -> None:
    written(result, 4)
    (folder / "job.json").write_text("{", encoding="utf-8")
    with Journal.held(result, JOB, 3, FILES) as journal:
        assert len(journal.rows()) == 0


def test_rows_are_kept_up_to_the_first_photo_that_changed(result: Path) -> None:
    written(result, 10)
    changed = FILES.copy()
    changed[6] += 1
    with Journal.held(result, JOB, 3, changed) as journal:
        np.testing.assert_array_equal(journal.rows(), rows(6))


def test_two_cannot_hold_it_at_once(result: Path) -> None:
    with (
        Journal.held(result, JOB, 3, FILES),
        pytest.raises(ToolkitError, match=r"result\.csv: another process .* `out`"),
        Journal.held(result, JOB, 3, FILES),
    ):
        pass


def test_it_is_free_again_after_an_error(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks: list[filelock.BaseFileLock] = []
    real = filelock.FileLock

    def lock(path: Path) -> filelock.BaseFileLock:
        locks.append(real(path))
        return locks[-1]

    monkeypatch.setattr(filelock, "FileLock", lock)
    with pytest.raises(ZeroDivisionError), Journal.held(result, JOB, 3, FILES):
        assert locks[0].is_locked
        raise ZeroDivisionError
    assert not locks[0].is_locked


def test_nothing_is_left_of_a_finished_job(result: Path) -> None:
    with Journal.held(result, JOB, 3, FILES) as journal:
        journal.append(rows(3))
        journal.remove()
    assert list(result.parent.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with (
        pytest.raises(ToolkitError, match=r"file: cannot be written \(Not a directory\)"),
        Journal.held(tmp_path / "file" / "partial", JOB, 3, FILES),
    ):
        pass
