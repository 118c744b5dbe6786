"""Sheets of a data folder's photos: as they are, and as an augmentor changes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from toolkit.data.augmentor import Augmentor, photo_seed
from toolkit.data.dataset import Photo, load_labelled
from toolkit.data.overview import Overview
from toolkit.data.pixels import Square, decode, load, read_photo
from toolkit.data.survey import ranges_among, survey
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.photo_sheets import draw_augmentation_sheet, draw_sample_sheet
from toolkit.reporting.pictures import check_picture, draw_class_histogram
from toolkit.training.recipe import Recipe

SHEET_PHOTOS, SHEET_CLASSES, SHEET_SIZE = 6, 20, 128


def draw_overview(found: Overview, folder: Path, reporter: Reporter = SILENT) -> None:
    """Draw the class histogram and some photos of the first classes into a folder.

    Where none of those can be read, only the histogram is drawn, and the reporter told.
    """

    def labelled(category: str) -> str:
        name = found.dataset.names.get(category)
        return f"{category} {name}" if name else category

    samples = {}
    for index, category in enumerate(found.dataset.classes[:SHEET_CLASSES]):
        paths = [
            photo.path
            for photo, fact in zip(found.dataset.photos, found.facts, strict=True)
            if photo.label == index and not fact.broken
        ]
        square = Square(SHEET_SIZE)
        samples[labelled(category)] = [
            load(path, square, found.ranges) for path in paths[:SHEET_PHOTOS]
        ]
    counts = {labelled(category): count for category, count in found.counts.items()}
    draw_class_histogram(counts, folder / "classes.png")
    if any(samples.values()):
        draw_sample_sheet(samples, folder / "samples.png")
    else:
        reporter.say(f"{folder / 'samples.png'}: not drawn, for no photo of it can be read")


def draw_augmentor(
    recipe: Recipe, data: Path, path: Path, *, photos: int, versions: int, seed: int
) -> int:
    """Draw originals beside augmented versions, as training would see them.

    Args:
        recipe: Its augmentor and image size are used.
        data: A data folder with labelled photos.
        path: The PNG to write.
        photos: Rows at the most.
        versions: Augmented versions a photo.
        seed: Decides which photos, and which changes.

    Returns:
        How many photos were drawn.

    Raises:
        UsageError: The name is not one of a picture.
        ToolkitError: The data folder is not as expected, or a photo is broken.
    """
    check_picture(path)
    available = load_labelled(data).photos
    picked = np.random.default_rng(seed).permutation(len(available))[:photos]
    decoded = _decoded([available[index].path for index in picked], available)
    originals = [recipe.square(photo) for photo in decoded]
    augmentor = Augmentor(recipe.augmentor, recipe.image_size)
    augmented = [
        [augmentor(stored, photo_seed(seed, version, row)) for version in range(versions)]
        for row, stored in enumerate(map(recipe.stored_square, decoded))
    ]
    draw_augmentation_sheet(originals, augmented, f"Augmentor of '{recipe.set}'", path)
    return len(originals)


def _decoded(paths: Sequence[Path], all_photos: Sequence[Photo]) -> list[Image.Image]:
    """Decode some photos; where one has more than 8 bits, all are looked at for their range."""
    photos = [read_photo(path) for path in paths]
    if not any(photo.kind for photo in photos):
        return [photo.image for photo in photos]
    ranges = ranges_among(survey([photo.path for photo in all_photos]))
    return [decode(path, ranges) for path in paths]
