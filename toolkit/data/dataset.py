"""Labelled photos and the order of their classes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from toolkit.data.reading import Found
from toolkit.files import sha256_json


@dataclass(frozen=True)
class Photo:
    """One labelled photo.

    Attributes:
        id: As the table of labels names it, or its path below the class folders' parent.
        path: Its file, which may be missing.
        label: Index of its class.
        group: What it has in common with photos that must stay on its side of a split, such as a
            patient; empty where nothing was named.
        held_out: Whether the data itself holds it out for validation.
    """

    id: str
    path: Path
    label: int
    group: str = ""
    held_out: bool = False


@dataclass(frozen=True)
class Dataset:
    """Labelled photos and the order of their classes.

    Attributes:
        root: The data folder.
        classes: Labels as written in the data, in class order.
        photos: The photos, in a fixed order.
        names: A readable name for some classes.
        columns: What the table of labels calls its ids and its labels; empty for the latter where
            each class has a column, and None where folders give the labels.
        found: How all this was found.
    """

    root: Path
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    names: dict[str, str] = field(default_factory=dict)
    columns: tuple[str, str] | None = field(default=None, compare=False)
    found: Found = field(default=Found(), compare=False)

    @property
    def fingerprint(self) -> str:
        """Hash of class order, ids and labels; not of the photos' bytes."""
        return sha256_json([self.classes, [[photo.id, photo.label] for photo in self.photos]])

    @property
    def has_validation(self) -> bool:
        """Whether the data itself says which photos are held out."""
        return any(photo.held_out for photo in self.photos)

    def without(self, ids: Iterable[str]) -> Dataset:
        """Return the same data without some photos."""
        gone = set(ids)
        return replace(self, photos=tuple(p for p in self.photos if p.id not in gone))


def class_order(categories: Iterable[str]) -> tuple[str, ...]:
    """Sort labels, as numbers where all are numbers ("2" before "10")."""
    values = sorted(set(categories))
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", value) for value in values):
        values.sort(key=float)
    return tuple(values)
