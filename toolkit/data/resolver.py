"""From ids to files: the one place that knows how people write the name of a photo."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from toolkit.data.tree import Folder
from toolkit.errors import DataError, listing

EXACT, CLASS_FOLDER = "as named", "in the folder of the class"
SUFFIX, SPELLING = "with a suffix added", "in other case or Unicode form"
BACKSLASH, PATH = "with '\\' read as '/'", "by the end of the path"
DEEPER = "by name in a deeper folder"
RULES = (EXACT, CLASS_FOLDER, SUFFIX, SPELLING, BACKSLASH, PATH, DEEPER)
"""The rules by which an id becomes a file, in the order in which they are tried."""


class AmbiguousIdError(DataError):
    """An id fits several files."""


@dataclass(frozen=True)
class Resolution:
    """The files of ids.

    Attributes:
        paths: One an id, in order; None where no file was found.
        rules: How many ids each rule resolved, in the order of `RULES`.
    """

    paths: tuple[Path | None, ...]
    rules: Mapping[str, int]

    @property
    def missing(self) -> int:
        """How many ids have no file."""
        return sum(path is None for path in self.paths)

    @property
    def described(self) -> str:
        """How many ids were found by which rule, in words."""
        parts = [f"{count:,} {rule}" for rule, count in self.rules.items()]
        return ", ".join([*parts, *([f"{self.missing:,} not found"] if self.missing else [])])


class Resolver:
    """Finds the files that ids mean, in one tree of files."""

    def __init__(
        self, tree: Folder, folders: Sequence[Folder] = (), others: Iterable[Folder] = ()
    ) -> None:
        """Index a tree by the names of its files; no file is opened.

        Args:
            tree: Where files may be.
            folders: Folders of it that are looked into first, such as `train/`.
            others: Folders that are no part of it: what an id says to be there is not looked for
                elsewhere.
        """
        self._tree = tree
        places = [self._below(folder) for folder in folders]
        self._bases = tuple(dict.fromkeys([*(f"{each}/" for each in places if each), ""]))
        self._foreign = {_folded(folder.place.rpartition("/")[2]) for folder in others}

    def resolve(self, ids: Sequence[str], labels: Sequence[str] = ()) -> Resolution:
        """Find the files of ids.

        Args:
            ids: As a table has them.
            labels: The label of each, where they are known: its photo may lie in a folder so named.

        Returns:
            The files, and which rules led to them.

        Raises:
            AmbiguousIdError: An id fits several files, or several ids one file.
        """
        rules: Counter[str] = Counter()
        found: list[str | None] = []
        for number, id in enumerate(ids):
            rule, places = self.candidates(id, labels[number] if labels else "")
            if len(places) > 1:
                raise AmbiguousIdError(
                    f"{self._tree.path}: the id '{id}' fits {len(places)} files. Write the path of "
                    f"the right one into the table:\n{listing(places)}",
                    path=self._tree.path,
                )
            if places:
                rules[rule] += 1
            found.append(places[0] if places else None)
        self._refuse_shared(ids, found)
        paths = tuple(None if place is None else self._files[place] for place in found)
        return Resolution(paths, {rule: rules[rule] for rule in RULES if rules[rule]})

    def share(self, values: Sequence[str]) -> float:
        """Return which share of values are ids of files here, between 0 and 1."""
        hits = sum(bool(value) and bool(self.candidates(value)[1]) for value in values)
        return hits / len(values) if values else 0.0

    def candidates(self, id: str, label: str = "") -> tuple[str, Sequence[str]]:
        """Return the first rule under which an id fits any file, and the places of all that fit."""
        if label and self._tree.folders:
            places = self._fitting(f"{label}/{id}")[1]
            if places:
                return CLASS_FOLDER, places
        rule, places = self._fitting(id)
        if places:
            return rule, places
        path = id.replace("\\", "/")
        if path != id:
            places = self._fitting(path)[1]
            if places:
                return BACKSLASH, places
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            if start and _folded(parts[start - 1]) in self._foreign:
                return "", ()
            places = self._fitting("/".join(parts[start:]))[1]
            if places:
                return PATH, places
        return DEEPER, self._deeper(parts[-1]) if parts else ()

    def _fitting(self, path: str) -> tuple[str, Sequence[str]]:
        """Return the files of one path, in the first of the folders that has such."""
        for base in self._bases:
            if base + path in self._files:
                return EXACT, (base + path,)
        for index, key, rule in (
            (self._stems, path, SUFFIX),
            (self._spellings, _folded(path), SPELLING),
            (self._stem_spellings, _folded(path), SPELLING),
        ):
            for base in self._bases:
                places = index.get((_folded(base) if rule == SPELLING else base) + key)
                if places:
                    return rule, places
        return "", ()

    def _deeper(self, name: str) -> Sequence[str]:
        for index, key in (
            (self._names, name),
            (self._name_stems, name),
            (self._name_spellings, _folded(name)),
        ):
            places = index.get(key, ())
            inside = [each for each in places if each.startswith(self._bases[:-1])]
            if inside or places:
                return inside or places
        return ()

    def _refuse_shared(self, ids: Sequence[str], found: Sequence[str | None]) -> None:
        first: dict[str, str] = {}
        shared = [
            f"'{first[place]}' and '{id}': {place}"
            for id, place in zip(ids, found, strict=True)
            if place is not None and first.setdefault(place, id) != id
        ]
        if shared:
            raise AmbiguousIdError(
                f"{self._tree.path}: {len(shared)} files are meant by more than one id. Write the "
                f"path of each photo into the table:\n{listing(shared)}",
                path=self._tree.path,
            )

    def _below(self, folder: Folder) -> str:
        return folder.place[len(self._tree.place) :].lstrip("/")

    @cached_property
    def _files(self) -> dict[str, Path]:
        files = dict(self._tree.all_photos())
        start = len(self._tree.place) + 1 if self._tree.place else 0
        for folder in self._tree.walk():
            for name in folder.others:
                files[f"{folder.place}/{name}"[start:].lstrip("/")] = folder.path / name
        return files

    @cached_property
    def _photos(self) -> list[str]:
        return [place for place, _ in self._tree.all_photos()]

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _grouped((_stem(place), place) for place in self._photos)

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        return _grouped((_folded(place), place) for place in self._photos)

    @cached_property
    def _stem_spellings(self) -> dict[str, list[str]]:
        return _grouped((_folded(_stem(p)), p) for p in self._photos)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        # Files of any name: an id may be all that there is of it.
        return _grouped((place.rpartition("/")[2], place) for place in self._files)

    @cached_property
    def _name_stems(self) -> dict[str, list[str]]:
        names = ((place.rpartition("/")[2], place) for place in self._photos)
        return _grouped((_stem(name), place) for name, place in names)

    @cached_property
    def _name_spellings(self) -> dict[str, list[str]]:
        both = {**self._name_stems, **self._names}
        return _grouped((_folded(name), place) for name, places in both.items() for place in places)


def _folded(text: str) -> str:
    """Return what spellings of one name have in common; macOS decomposes 'é', Windows has no case.

    The rule 'Unicode Default Caseless Matching' (Unicode Standard 3.13, D145).
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _stem(place: str) -> str:
    """Return a path without the suffix of its last part; many times as fast as `Path` does."""
    before, dot, suffix = place.rpartition(".")
    return before if dot and before and "/" not in suffix and before[-1] != "/" else place


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for key, place in pairs:
        grouped.setdefault(key, []).append(place)
    return grouped
