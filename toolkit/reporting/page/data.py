"""The section on data: classes, sizes, samples, and what is wrong with photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.overview import Overview
from toolkit.data.pixels import BrokenPhotoError, decode
from toolkit.reporting.page.album import Album
from toolkit.reporting.page.charts import Chart, sizes_chart
from toolkit.training.recipe import Recipe

SAMPLE_CLASSES, SAMPLES, SAMPLE_SIDE = 30, 6, 96
GROUPS, GROUP_PHOTOS, GROUP_SIDE = 12, 4, 112
LISTED = 50
ORIGINALS, VERSIONS, PREVIEW_SIDE = 4, 6, 112


@dataclass(frozen=True)
class ClassRow:
    """One class: its category, name, photos, their share, and a few of them."""

    category: str
    name: str
    photos: int
    share: float
    samples: tuple[str, ...]


@dataclass(frozen=True)
class Likeness:
    """Photos that are nearly the same: file names with data URIs, and why that matters."""

    photos: tuple[tuple[str, str], ...]
    more: int
    kind: str


@dataclass(frozen=True)
class DataSection:
    """What the page says of the data folder.

    Attributes:
        photos: Labelled photos.
        to_predict: Photos to predict.
        classes: One row a class.
        smallest: Of the readable photos, in pixels; empty where there are none.
        median: Likewise.
        largest: Likewise.
        sizes: How wide and high photos are.
        broken: File name and reason, the first of them.
        broken_count: All of them.
        likenesses: Near-duplicates, the first groups of each kind.
        counts: Groups by kind.
        augmented: For some photos, the original and augmented versions.
        recipe_set: Whose augmentor that is.
    """

    photos: int
    to_predict: int
    classes: tuple[ClassRow, ...]
    smallest: str
    median: str
    largest: str
    sizes: Chart | None
    broken: tuple[tuple[str, str], ...]
    broken_count: int
    likenesses: tuple[Likeness, ...]
    counts: dict[str, int]
    augmented: tuple[tuple[str, ...], ...]
    recipe_set: str


def data_section(found: Overview, album: Album, recipe: Recipe | None) -> DataSection:
    """Describe a data folder.

    Args:
        found: What was found in it.
        album: Gives the photos.
        recipe: Whose augmentor is previewed, at its image size.
    """
    total = len(found.dataset.photos)
    sides = sorted(
        (fact.width * fact.height, fact.width, fact.height)
        for fact in found.facts
        if not fact.broken
    )
    chosen = (sides[0], sides[len(sides) // 2], sides[-1]) if sides else ()
    smallest, median, largest = [f"{w} × {h}" for _, w, h in chosen] or [""] * 3
    conflicts = {tuple(group) for group in found.conflicts}
    groups: dict[str, Sequence[Sequence[Path]]] = {
        "train and test": found.overlap,
        "different labels": found.conflicts,
        "same label": [group for group in found.duplicates if tuple(group) not in conflicts],
    }
    return DataSection(
        photos=total,
        to_predict=len(found.request.ids) if found.request else 0,
        classes=_class_rows(found, album),
        smallest=smallest,
        median=median,
        largest=largest,
        sizes=sizes_chart([(w, h) for _, w, h in sides]) if sides else None,
        broken=tuple((path.name, reason) for path, reason in found.broken[:LISTED]),
        broken_count=len(found.broken),
        likenesses=tuple(
            _likeness(kind, group, album)
            for kind, some in groups.items()
            for group in some[:GROUPS]
        ),
        counts={kind: len(some) for kind, some in groups.items()},
        augmented=_augmented(found, album, recipe) if recipe else (),
        recipe_set=recipe.set if recipe else "",
    )


def _class_rows(found: Overview, album: Album) -> tuple[ClassRow, ...]:
    rows = []
    by_label: dict[int, list[Path]] = {}
    for photo, fact in zip(found.dataset.photos, found.facts, strict=True):
        if not fact.broken:
            by_label.setdefault(photo.label, []).append(photo.path)
    total = max(len(found.dataset.photos), 1)
    for index, category in enumerate(found.dataset.classes):
        some = by_label.get(index, [])[:SAMPLES] if index < SAMPLE_CLASSES else []
        shown = tuple(uri for path in some if (uri := album.of_path(path, SAMPLE_SIDE)))
        count = found.counts[category]
        name = found.dataset.names.get(category, "")
        rows.append(ClassRow(category, name, count, count / total, shown))
    return tuple(rows)


def _likeness(kind: str, group: Sequence[Path], album: Album) -> Likeness:
    shown = tuple((path.name, album.of_path(path, GROUP_SIDE)) for path in group[:GROUP_PHOTOS])
    return Likeness(shown, max(0, len(group) - GROUP_PHOTOS), kind)


def _augmented(found: Overview, album: Album, recipe: Recipe) -> tuple[tuple[str, ...], ...]:
    if not album.shown:
        return ()
    from toolkit.data.augmentor import Augmentor, photo_seed

    augmentor = Augmentor(recipe.augmentor, recipe.image_size)
    rows: list[tuple[str, ...]] = []
    for index in np.random.default_rng(0).permutation(len(found.dataset.photos)):
        try:
            photo = decode(found.dataset.photos[index].path, found.ranges)
        except BrokenPhotoError:
            continue
        seeds = [photo_seed(0, version, len(rows)) for version in range(VERSIONS)]
        versions = [augmentor(recipe.stored_square(photo), seed) for seed in seeds]
        pixels = (recipe.square(photo), *versions)
        shown = (album.of_pixels(each, PREVIEW_SIDE) for each in pixels)
        rows.append(tuple(shown))
        if len(rows) == ORIGINALS:
            break
    return tuple(rows)
