"""Which of some names an id means: the one place that knows how people write a photo's name."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from toolkit.data.tree import PHOTO_SUFFIXES
from toolkit.errors import DataError, listing

EXACT, CLASS_FOLDER = "as named", "in the folder of the class"
SUFFIX, SPELLING = "with a suffix added", "in other case or Unicode form"
BACKSLASH, PATH = "with '\\' read as '/'", "by the end of the path"
DEEPER = "by name in a deeper folder"
RULES = (EXACT, CLASS_FOLDER, SUFFIX, SPELLING, BACKSLASH, PATH, DEEPER)
"""The rules by which an id becomes a name, in the order in which they are tried."""


class AmbiguousIdError(DataError):
    """An id fits several files."""


class Names:
    """Finds names by ids."""

    def __init__(
        self,
        places: Collection[str],
        photos: Collection[str],
        bases: Sequence[str] = ("",),
        foreign: Collection[str] = (),
    ) -> None:
        """Index names.

        Args:
            places: The names: paths with '/'.
            photos: Those of them whose suffix may be missing from an id.
            bases: What an id may go on from, each with '/' at its end, the likeliest first.
            foreign: Names of folders that are elsewhere: what an id says to be there is not found.
        """
        self._files = places
        self._photos = photos
        self._bases = tuple(bases)
        self._foreign = frozenset(map(folded, foreign))

    @classmethod
    def of_ids(cls, ids: Iterable[str]) -> Names:
        """Index ids, to find them by other spellings of the same."""
        places = dict.fromkeys(ids)
        photos = [id for id in places if id.lower().endswith(PHOTO_SUFFIXES)]
        return cls(places, photos)

    def share(self, values: Sequence[str]) -> float:
        """Return which share of values are ids of names here, between 0 and 1."""
        hits = sum(bool(value) and bool(self.candidates(value)[1]) for value in values)
        return hits / len(values) if values else 0.0

    def candidates(self, id: str, label: str = "") -> tuple[str, Sequence[str]]:
        """Return the first rule under which an id fits any name, and all names that fit.

        Args:
            id: As a table has it.
            label: What it is labelled, where names may begin with a folder so named.
        """
        if label:
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
            if start and folded(parts[start - 1]) in self._foreign:
                return "", ()
            places = self._fitting("/".join(parts[start:]))[1]
            if places:
                return PATH, places
        return DEEPER, self._deeper(parts[-1]) if parts else ()

    def _fitting(self, path: str) -> tuple[str, Sequence[str]]:
        """Return the names of one path, below the first of the bases that has such."""
        for base in self._bases:
            if base + path in self._files:
                return EXACT, (base + path,)
        for index, key, rule in (
            (self._stems, path, SUFFIX),
            (self._spellings, folded(path), SPELLING),
            (self._stem_spellings, folded(path), SPELLING),
        ):
            for base in self._bases:
                places = index.get((folded(base) if rule == SPELLING else base) + key)
                if places:
                    return rule, places
        return "", ()

    def _deeper(self, name: str) -> Sequence[str]:
        for index, key in (
            (self._names, name),
            (self._name_stems, name),
            (self._name_spellings, folded(name)),
        ):
            places = index.get(key, ())
            inside = [each for each in places if each.startswith(self._bases[:-1])]
            if inside or places:
                return inside or places
        return ()

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _grouped((stem_of(place), place) for place in self._photos)

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        return _grouped((folded(place), place) for place in self._files)

    @cached_property
    def _stem_spellings(self) -> dict[str, list[str]]:
        return _grouped((folded(stem_of(p)), p) for p in self._photos)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        # Files of any name: an id may be all that there is of it.
        return _grouped((place.rpartition("/")[2], place) for place in self._files)

    @cached_property
    def _name_stems(self) -> dict[str, list[str]]:
        names = ((place.rpartition("/")[2], place) for place in self._photos)
        return _grouped((stem_of(name), place) for name, place in names)

    @cached_property
    def _name_spellings(self) -> dict[str, list[str]]:
        both = {**self._name_stems, **self._names}
        return _grouped((folded(name), place) for name, places in both.items() for place in places)


@dataclass(frozen=True)
class MatchedIds:
    """Ids of one table beside those of another.

    Attributes:
        names: How the other table writes each id that it has.
        rules: How many ids each rule matched, in the order of `RULES`.
    """

    names: Mapping[str, str]
    rules: Mapping[str, int]

    @property
    def remark(self) -> str:
        """How ids were matched, in words; empty where all are written alike."""
        return "" if set(self.rules) <= {EXACT} else f"ids matched: {described(self.rules)}"


def match_ids(ids: Sequence[str], others: Sequence[str], path: Path) -> MatchedIds:
    """Match the ids of two tables, which may write them differently.

    Args:
        ids: Of one table, each once.
        others: Of the other, each once.
        path: The table of `ids`, for messages.

    Returns:
        The ids that both have; either may have those that lack a suffix or a folder.

    Raises:
        AmbiguousIdError: An id fits several ids of the other table, or several fit one.
    """
    rules: Counter[str] = Counter()
    pairs = list(_pairs(ids, others, path, rules))
    matched, taken = {id for id, _ in pairs}, {other for _, other in pairs}
    left = [id for id in ids if id not in matched]
    free = [other for other in others if other not in taken]
    if left and free:
        pairs += [(id, other) for other, id in _pairs(free, left, path, rules)]
    for names in ([id for id, _ in pairs], [other for _, other in pairs]):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            alike = [f"'{id}' and '{other}'" for id, other in pairs if {id, other} & set(twice)]
            raise AmbiguousIdError(
                f"{path}: which photo is meant is unclear, because several ids fit one of the "
                f"other table. Write them alike in both:\n{listing(alike)}",
                path=path,
            )
    return MatchedIds(dict(pairs), {rule: rules[rule] for rule in RULES if rules[rule]})


def _pairs(
    ids: Sequence[str], others: Sequence[str], path: Path, rules: Counter[str]
) -> Iterable[tuple[str, str]]:
    names = Names.of_ids(others)
    for id in ids:
        rule, fitting = names.candidates(id)
        if len(fitting) > 1:
            raise AmbiguousIdError(
                f"{path}: the id '{id}' fits {len(fitting)} ids of the other table. Write them "
                f"alike in both:\n{listing(fitting)}",
                path=path,
            )
        if fitting:
            rules[rule] += 1
            yield id, fitting[0]


def share_of_ids(values: Sequence[str], known: Names) -> float:
    """Return which share of values are ids that are known, written so or without their suffix."""
    return known.share(values) or known.share([stem_of(value) for value in values])


def described(rules: Mapping[str, int]) -> str:
    """Say how many ids were found by which rule."""
    return ", ".join(f"{count:,} {rule}" for rule, count in rules.items())


def folded(text: str) -> str:
    """Return what spellings of one name have in common; macOS decomposes 'é', Windows has no case.

    The rule 'Unicode Default Caseless Matching' (Unicode Standard 3.13, D145).
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def stem_of(place: str) -> str:
    """Return a path without the suffix of its last part; many times as fast as `Path` does."""
    before, dot, suffix = place.rpartition(".")
    return before if dot and before and "/" not in suffix and before[-1] != "/" else place


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for key, place in pairs:
        grouped.setdefault(key, []).append(place)
    return grouped
