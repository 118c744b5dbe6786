"""The tables of a data folder, and what their names say that they are for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.layout import Role, role_of
from toolkit.data.other_formats import other_format
from toolkit.data.sample import looks_like_sample, may_be_sample
from toolkit.data.tables import TEXT_SUFFIXES, is_table, stem
from toolkit.data.tree import Folder
from toolkit.data.unpacking import Unpacked
from toolkit.errors import DataError, listing

MOST_TABLES, MOST_DEPTH = 25, 3
"""A folder with more tables holds one a photo, and no list of photos; neither do deep folders."""

_TELLING = ("label", "annot", "truth", "class", "target", "meta", "photo", "image", "data")
_PARTS = re.compile(
    r"(?:^|[^a-z])(train|training|trn|valid|validation|val|dev|test|testing|pred|predict)"
    r"(?:set|labels?|data|images?|ids?|list|csv|df|meta|metadata|[^a-z]|$)"
)


@dataclass(frozen=True)
class Catalogue:
    """The tables of a data folder by use, those nearest to the top first.

    Attributes:
        root: The data folder.
        samples: Sample submissions.
        doubtful: What looks like one, without being one for certain.
        train: Tables whose names say that they are for training.
        validation: Likewise, for validation.
        test: Likewise, for the photos to predict.
        others: All others; those first that may be of labels.
        json: JSON files.
    """

    root: Path
    samples: tuple[Path, ...]
    doubtful: tuple[Path, ...]
    train: tuple[Path, ...]
    validation: tuple[Path, ...]
    test: tuple[Path, ...]
    others: tuple[Path, ...]
    json: tuple[Path, ...]

    @classmethod
    def of(cls, here: Unpacked) -> Catalogue:
        """Look for tables by the names of files; none is opened."""
        found: dict[str, list[Path]] = {}
        json = []
        for folder in _shallow(here.tree):
            json += [folder.path / name for name in folder.others if name.lower().endswith(".json")]
            for path in _tables(folder, here):
                found.setdefault(_use(path) or _use_by_place(folder), []).append(path)
            unread = [folder.path / name for name in folder.others if other_format(name)]
            found.setdefault("doubtful", []).extend(filter(looks_like_sample, unread))
        others = sorted(found.get("", []), key=lambda path: not is_telling(path))
        uses = ("sample", "doubtful", "train", "validation", "test")
        samples, doubtful, train, validation, test = (tuple(found.get(use, [])) for use in uses)
        return cls(
            here.tree.path, samples, doubtful, train, validation, test, tuple(others), tuple(json)
        )

    def sample(self) -> Path | None:
        """Return the sample submission, or None where there is none.

        Raises:
            ToolkitError: There are several, none of which is nearer to the top.
        """
        depth = {path: len(path.parts) for path in self.samples}
        nearest = [path for path in self.samples if depth[path] == min(depth.values())]
        # Packed and unpacked it is the same; the shorter name is of the unpacked one.
        by_stem: dict[str, Path] = {}
        for path in sorted(nearest, key=lambda path: len(path.name)):
            by_stem.setdefault(stem(path), path)
        if len(by_stem) > 1:
            raise DataError(
                f"{self.root}: {len(by_stem)} files look like the sample submission. Name the "
                f"right one with `sample=FILE`:\n{listing(map(str, sorted(by_stem.values())))}",
                path=self.root,
            )
        return next(iter(by_stem.values()), None)


def part_of(path: Path) -> Role:
    """Return the part of the data that a table's name says that it is for; empty for none."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", stem(path)).lower()
    match = _PARTS.search(name)
    return role_of(match.group(1)) if match else ""


def _use(path: Path) -> str:
    if looks_like_sample(path):
        return "sample"
    part = part_of(path)
    if part:
        return "test" if part == "predict" else part
    return "doubtful" if may_be_sample(path) else ""


def _use_by_place(folder: Folder) -> str:
    """Return the part that a table is for whose folder holds one; empty for training."""
    roles = [role_of(name) for name in folder.place.split("/")]
    part = next(filter(None, reversed(roles)), "")
    return {"predict": "test", "train": ""}.get(part, part)


def is_telling(path: Path) -> bool:
    """Return whether a table's name says that it may hold labels."""
    return any(word in stem(path).lower() for word in _TELLING)


def _shallow(tree: Folder) -> list[Folder]:
    folders = [folder for folder in tree.walk() if folder.place.count("/") < MOST_DEPTH]
    return sorted(folders, key=lambda folder: (bool(folder.place), folder.place.count("/")))


def _tables(folder: Folder, here: Unpacked) -> list[Path]:
    paths = [folder.path / name for name in folder.others]
    tables = [path for path in paths if path in here.tables or _is_open_table(path)]
    return tables if len(tables) <= MOST_TABLES else []


def _is_open_table(path: Path) -> bool:
    # A text file beside photos is a read-me more often than a table.
    is_text = path.suffix.lower() == TEXT_SUFFIXES[-1]
    is_meant = not is_text or bool(part_of(path)) or looks_like_sample(path)
    return is_table(path) and path.suffix.lower() != ".zip" and is_meant
