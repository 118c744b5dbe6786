"""The photos of a job that cannot be read: refused, all of them at once, or remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from toolkit.data.pixels import BrokenPhotoError, decode
from toolkit.data.ranges import Ranges
from toolkit.data.survey import report_notes
from toolkit.errors import ToolkitError, listing
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter


class Unread:
    """What a job does about photos that cannot be read."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        ranges: Ranges,
        skip_broken: bool,
        reporter: Reporter = SILENT,
    ) -> None:
        """Refuse the job where files are missing, unless broken photos are to be skipped.

        Args:
            paths: All photos of the job.
            ranges: Of the photos that were trained on.
            skip_broken: Remember why, instead of refusing.

        Raises:
            ToolkitError: Names every photo that is missing or broken.
        """
        self._paths, self._ranges = paths, ranges
        self._skip_broken, self._reporter = skip_broken, reporter
        self._reasons: dict[int, str] = {}
        self._notes: list[tuple[Path, str]] = []
        missing = next((path for path in paths if not path.is_file()), None)
        if missing and not skip_broken:
            self._refuse(f"{missing}: no such file")

    def met(self, errors: Mapping[int, BrokenPhotoError]) -> None:
        """Take note of photos that could not be read, by their numbers among the paths.

        Raises:
            ToolkitError: They are not to be skipped; names every photo that is missing or broken.
        """
        for number, error in errors.items():
            self._reasons[number] = error.reason
            if not self._skip_broken:
                self._refuse(str(error))

    def met_before(self, numbers: Iterable[int]) -> None:
        """Take note of photos that an earlier sitting of the job could not read.

        Raises:
            ToolkitError: They are not to be skipped; names every photo that is missing or broken.
        """
        for number in numbers:
            found = broken_reason(self._paths[number], self._ranges)
            reason = found or "could not be read when it was its turn"
            self.met({number: BrokenPhotoError(str(self._paths[number]), reason)})

    def noted(self, numbers: Iterable[int], notes: Iterable[Sequence[str]]) -> None:
        """Take note of what was remarkable about photos that were read, by their numbers."""
        for number, each in zip(numbers, notes, strict=True):
            self._notes += [(self._paths[number], note) for note in each]

    def report_notes(self) -> None:
        """Report what was noted."""
        report_notes(self._notes, self._reporter)

    def reason(self, number: int) -> str:
        """Say why a photo that was met could not be read."""
        return self._reasons[number]

    def _refuse(self, known: str) -> NoReturn:
        lines = broken_photos(self._paths, self._ranges, self._reporter)
        if not lines:
            raise ToolkitError(
                f"{known}, and a moment later it could be read. Run the same command again, which "
                "goes on where it stopped."
            )
        raise ToolkitError(
            f"{len(lines)} of the photos to predict cannot be read. Fix them, or pass "
            f"`skip_broken=True` to answer them with the class prior:\n{listing(lines)}"
        )


def broken_photos(paths: Sequence[Path], ranges: Ranges, reporter: Reporter = SILENT) -> list[str]:
    """Look at all photos, so that a user hears of every broken one at once.

    Args:
        paths: The photos.
        ranges: Of the photos that were trained on.
        reporter: Where progress is told.

    Returns:
        Path and reason of each that cannot be read, in order.
    """
    found: list[str] = []
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        reporter.track("looking for broken photos", len(paths)) as advance,
    ):
        reasons = pool.map(lambda path: broken_reason(path, ranges), paths)
        for path, reason in zip(paths, reasons, strict=True):
            if reason:
                found.append(f"{path}: {reason}")
            advance(1)
    return found


def broken_reason(path: Path, ranges: Ranges) -> str:
    """Say why a photo cannot be read; empty where it can."""
    try:
        decode(path, ranges)
    except BrokenPhotoError as error:
        return error.reason
    return ""
