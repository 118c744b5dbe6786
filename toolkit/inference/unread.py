"""The photos of a job that cannot be read: refused, all of them at once, or remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from toolkit.data.pixels import BrokenPhotoError, decode
from toolkit.errors import ToolkitError, listing
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter


class Unread:
    """What a job does about photos that cannot be read."""

    def __init__(
        self, paths: Sequence[Path], *, skip_broken: bool, reporter: Reporter = SILENT
    ) -> None:
        """Refuse the job where files are missing, unless broken photos are to be skipped.

        Args:
            paths: All photos of the job.
            skip_broken: Remember why, instead of refusing.

        Raises:
            ToolkitError: Names every photo that is missing or broken.
        """
        self._paths, self._skip_broken, self._reporter = paths, skip_broken, reporter
        self._reasons: dict[int, str] = {}
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
            reason = broken_reason(self._paths[number]) or "could not be read when it was its turn"
            self.met({number: BrokenPhotoError(str(self._paths[number]), reason)})

    def reason(self, number: int) -> str:
        """Say why a photo that was met could not be read."""
        return self._reasons[number]

    def _refuse(self, known: str) -> NoReturn:
        lines = broken_photos(self._paths, self._reporter)
        if not lines:
            raise ToolkitError(
                f"{known}, and a moment later it could be read. Run the same command again, which "
                "goes on where it stopped."
            )
        raise ToolkitError(
            f"{len(lines)} of the photos to predict cannot be read. Mend them, or pass "
            f"--skip-broken to answer them with the class prior:\n{listing(lines)}"
        )


def broken_photos(paths: Sequence[Path], reporter: Reporter = SILENT) -> list[str]:
    """Look at all photos, so that a user hears of every broken one at once.

    Args:
        paths: The photos.

    Returns:
        Path and reason of each that cannot be read, in order.
    """
    found: list[str] = []
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        reporter.track("looking for broken photos", len(paths)) as advance,
    ):
        for path, reason in zip(paths, pool.map(broken_reason, paths), strict=True):
            if reason:
                found.append(f"{path}: {reason}")
            advance(1)
    return found


def broken_reason(path: Path) -> str:
    """Say why a photo cannot be read; empty where it can."""
    try:
        decode(path)
    except BrokenPhotoError as error:
        return error.reason
    return ""
