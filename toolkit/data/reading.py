"""How a data folder is to be read where it does not say so itself, and what was found in it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from toolkit.errors import DataError
from toolkit.progress import SILENT, Reporter

WARN_SHARE = 0.05
"""Share of photos that are missing or not used from which a user is warned."""

_PATHS = ("labels", "photos", "sample")

ReadingName = Literal["labels", "id_column", "label_column", "photos", "sample", "group_column"]
ReadingRecord = dict[ReadingName, str]
"""What was said of a data folder, as it is kept with runs, bundles and submissions."""

READINGS: tuple[ReadingName, ...] = get_args(ReadingName)


@dataclass(frozen=True)
class Reading:
    """What a user says of a data folder; None is found by itself.

    Relative paths go on from the working folder, or else from the data folder.

    Attributes:
        labels: The table of ids and labels.
        id_column: Its column of ids; the sample's too, where it has one so named.
        label_column: Its column of labels.
        photos: The folder that the photos are in: for training, of the labelled ones; for
            prediction, of those to predict.
        sample: The sample submission.
        group_column: A column of the table of labels; photos with the same value in it stay on one
            side of every split.
    """

    labels: Path | None = None
    id_column: str | None = None
    label_column: str | None = None
    photos: Path | None = None
    sample: Path | None = None
    group_column: str | None = None

    def below(self, root: Path) -> Reading:
        """Return the same with paths that can be opened.

        Raises:
            ToolkitError: There is no such file or folder, neither here nor below `root`.
        """
        found: dict[str, Path] = {}
        for name in _PATHS:
            path = getattr(self, name)
            if path is None:
                continue
            existing = next((each for each in (path, root / path) if each.exists()), None)
            if existing is None:
                raise DataError(
                    f"{path}: no such file or folder (`{name}={_METAVARS[name]}`), neither here "
                    f"nor in {root}.",
                    path=path,
                )
            found[name] = existing
        return replace(self, **found)  # type: ignore[arg-type]

    @property
    def for_test(self) -> Reading:
        """The same for the photos to predict, where `photos` is the folder of labelled ones."""
        return replace(self, photos=None)

    def recorded(self, root: Path) -> ReadingRecord:
        """Return what was said, to be kept with a run: paths from `root` where they lead below it.

        Args:
            root: The data folder.
        """
        said: ReadingRecord = {}
        for name in READINGS:
            value = getattr(self.below(root), name)
            if isinstance(value, Path):
                absolute, base = value.absolute(), root.absolute()
                inside = absolute.is_relative_to(base)
                said[name] = (absolute.relative_to(base) if inside else absolute).as_posix()
            elif value is not None:
                said[name] = value
        return said

    @classmethod
    def of_record(cls, said: ReadingRecord, root: Path) -> Reading:
        """Return what `recorded` returned, for a data folder that may have moved.

        Args:
            said: The record.
            root: Where the data folder is now.
        """
        paths = {name: root / said[name] for name in _PATHS if name in said}
        return cls(**{**said, **paths})  # type: ignore[arg-type]

    def absent(self, said: ReadingRecord, root: Path) -> dict[str, str]:
        """Return which files that were named for training are not there, and a line for each.

        Args:
            said: The record that this was made of.
            root: The data folder.
        """
        return {
            name: f"{root}: has no {said[name]}, which was named for training as the {what}"
            for name, what in _TABLES.items()
            if (path := getattr(self, name)) and not path.exists()
        }

    def completed(self, said: ReadingRecord, root: Path, reporter: Reporter = SILENT) -> Reading:
        """Return the same, completed by what was said when the bundle's networks were trained.

        Args:
            said: As `recorded` returned it; the folder of the photos for training is left out, and
                so are a file that is not below `root` and the columns of such a table.
            root: The data folder.
            reporter: Where it is said that a file is left out.
        """
        before = Reading.of_record(said, root)
        for name, line in before.absent(said, root).items():
            if getattr(self, name) is None:
                reporter.say(f"{line}. Instead, what is in the folder is found by itself")
        if self.labels is None and before.labels is not None and not before.labels.exists():
            before = replace(before, id_column=None, label_column=None)
        mine = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("labels", "id_column", "label_column", "sample"):
            value = getattr(before, name)
            if mine[name] is None and not (isinstance(value, Path) and not value.exists()):
                mine[name] = value
        return Reading(**mine)


_TABLES: dict[Literal["labels", "sample"], str] = {
    "labels": "table of labels",
    "sample": "sample submission",
}

_METAVARS = {"labels": "FILE", "photos": "DIR", "sample": "FILE"}

AUTO = Reading()
"""Everything is found by itself."""


@dataclass(frozen=True)
class Found:
    """What was found, for a person.

    Attributes:
        rows: What, and where it was found or how it was read.
        passed_over: What is there and was not used, a line each.
        warnings: What a user must hear of even where they want no progress told.
    """

    rows: tuple[tuple[str, str], ...] = ()
    passed_over: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def joined(self, other: Found) -> Found:
        """Return both."""
        passed_over = tuple(dict.fromkeys([*self.passed_over, *other.passed_over]))
        warnings = tuple(dict.fromkeys([*self.warnings, *other.warnings]))
        return Found((*self.rows, *other.rows), passed_over, warnings)

    @property
    def line(self) -> str:
        """All of it in one line."""
        parts = [f"{what}: {how}" for what, how in self.rows]
        if self.passed_over:
            parts.append(f"passed over: {len(self.passed_over)} ({self.passed_over[0]})")
        return "; ".join(parts)
