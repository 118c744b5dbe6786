"""From ids to files, in one tree of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from toolkit.data.names import RULES, AmbiguousIdError, Names, described
from toolkit.data.tree import Folder
from toolkit.errors import listing


@dataclass(frozen=True)
class Resolution:
    """The files of ids.

    Attributes:
        paths: One an id, in order; None where no file was found.
        rules: How many ids each rule resolved, in the order of `toolkit.data.names.RULES`.
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
        missing = {"not found": self.missing} if self.missing else {}
        return described({**self.rules, **missing})


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
        self._foreign = [folder.place.rpartition("/")[2] for folder in others]

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
                    "the right one into the table, or name the folder of the photos with "
                    f"`photos=DIR`:\n{listing(places)}",
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
        return self._names.share(values)

    def candidates(self, id: str, label: str = "") -> tuple[str, Sequence[str]]:
        """Return the first rule under which an id fits any file, and the places of all that fit."""
        return self._names.candidates(id, label if self._tree.folders else "")

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
    def _names(self) -> Names:
        photos = [place for place, _ in self._tree.all_photos()]
        return Names(self._files, photos, self._bases, self._foreign)

    @cached_property
    def _files(self) -> dict[str, Path]:
        files = dict(self._tree.all_photos())
        start = len(self._tree.place) + 1 if self._tree.place else 0
        for folder in self._tree.walk():
            for name in folder.others:
                files[f"{folder.place}/{name}"[start:].lstrip("/")] = folder.path / name
        return files
