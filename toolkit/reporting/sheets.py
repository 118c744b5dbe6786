"""Sheets of a data folder's photos: as they are, and as an augmentor changes them.

Photos are put on a figure pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.augmentor import Augmentor, photo_seed
from toolkit.data.dataset import Photo
from toolkit.data.labelled import load_labelled
from toolkit.data.overview import Overview
from toolkit.data.pixels import Square, decode, load, read_photo
from toolkit.data.reading import AUTO, Reading
from toolkit.data.survey import ranges_among, survey
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.pictures import draw_class_histogram
from toolkit.reporting.style import (
    DPI,
    FAINT,
    GAP,
    ORANGE,
    STYLE,
    TEXT,
    TITLE,
    check_picture,
    save_figure,
    short_name,
    text_width,
)
from toolkit.training.recipe import Recipe

SHEET_PHOTOS, SHEET_CLASSES, SHEET_SIZE = 6, 20, 128
PHOTO_SIDES = (96, 192)  # Pixels: smaller photos are enlarged by whole numbers, larger ones shrunk.
SHEET_HEIGHT = 12_000  # Pixels; with more rows the photos get smaller, down to SMALLEST_SIDE.
SMALLEST_SIDE = 48
MARGIN, LINE = 18, 30  # Pixels on photo sheets; LINE is the height of a line of text.


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
    recipe: Recipe,
    data: Path,
    path: Path,
    *,
    reading: Reading = AUTO,
    photos: int,
    versions: int,
    seed: int,
) -> int:
    """Draw originals beside augmented versions, as training would see them.

    Args:
        recipe: Its augmentor and image size are used.
        data: A data folder with labelled photos.
        path: The PNG to write.
        reading: How the data folder is to be read, where that cannot be found by itself.
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
    available = load_labelled(data, reading).photos
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


def draw_sample_sheet(samples: Mapping[str, Sequence[NDArray[np.uint8]]], path: Path) -> None:
    """Draw some photos of each class, a row a class.

    Args:
        samples: By class name, photos as uint8 RGB `(size, size, 3)`, 0 to 255, all of one size.
            Rows may differ in length.
        path: The PNG to write.

    Raises:
        ValueError: There is no photo at all.
    """
    save_figure(sample_sheet_figure(samples), path)


def draw_augmentation_sheet(
    originals: Sequence[NDArray[np.uint8]],
    augmented: Sequence[Sequence[NDArray[np.uint8]]],
    title: str,
    path: Path,
) -> None:
    """Draw photos beside what augmentation makes of them, a row a photo.

    Args:
        originals: Photos as uint8 RGB `(size, size, 3)`, 0 to 255, all of one size.
        augmented: For each original, its augmented versions, likewise.
        title: Which augmentation this is.
        path: The PNG to write.

    Raises:
        ValueError: There is no photo, or not one row of augmented photos for each original.
    """
    save_figure(augmentation_sheet_figure(originals, augmented, title), path)


@matplotlib.rc_context(STYLE)
def sample_sheet_figure(samples: Mapping[str, Sequence[NDArray[np.uint8]]]) -> Figure:
    """Build the picture of `draw_sample_sheet`."""
    side = _side([photo for photos in samples.values() for photo in photos], len(samples))
    labels = [short_name(name) for name in samples]
    left = MARGIN + max(text_width(label, TEXT) for label in labels) + 2 * GAP
    width = left + max(len(photos) for photos in samples.values()) * (side + GAP) - GAP + MARGIN
    sheet = _sheet(width, 2 * MARGIN + len(samples) * (side + GAP) - GAP)
    for row, (label, photos) in enumerate(zip(labels, samples.values(), strict=True)):
        top = MARGIN + row * (side + GAP)
        _write(sheet, label, left - 2 * GAP, top + side / 2, ha="right", va="center")
        for column, photo in enumerate(photos):
            _place(sheet, photo, left + column * (side + GAP), top, side)
    return sheet


@matplotlib.rc_context(STYLE)
def augmentation_sheet_figure(
    originals: Sequence[NDArray[np.uint8]],
    augmented: Sequence[Sequence[NDArray[np.uint8]]],
    title: str,
) -> Figure:
    """Build the picture of `draw_augmentation_sheet`."""
    side = _side(originals, len(originals))
    head, second = MARGIN + 2 * LINE, MARGIN + side + 4 * GAP
    width = second + max(len(row) for row in augmented) * (side + GAP) - GAP + MARGIN
    width = max(width, 2 * MARGIN + text_width(title, TITLE, weight="bold"))
    sheet = _sheet(width, head + len(originals) * (side + GAP) - GAP + MARGIN)
    _write(sheet, title, MARGIN, MARGIN, va="top", fontsize=TITLE, fontweight="bold")
    _write(sheet, "original", MARGIN, head - GAP - 2)
    _write(sheet, "augmented", second, head - GAP - 2, color=FAINT)
    for row, (original, versions) in enumerate(zip(originals, augmented, strict=True)):
        top = head + row * (side + GAP)
        _place(sheet, original, MARGIN, top, side)
        bottom = sheet.bbox.height - top - side
        frame = Rectangle((MARGIN - 1, bottom - 1), side + 2, side + 2, fill=False)
        frame.set(transform=IdentityTransform(), edgecolor=ORANGE, linewidth=1.5, zorder=3)
        sheet.add_artist(frame)
        for column, photo in enumerate(versions):
            _place(sheet, photo, second + column * (side + GAP), top, side)
    return sheet


def _side(photos: Sequence[NDArray[np.uint8]], rows: int) -> int:
    """Choose how many pixels wide and high each photo of a sheet is drawn."""
    if not photos:
        raise ValueError("Expected at least one photo, received none.")
    size, (least, most) = len(photos[0]), PHOTO_SIDES
    most = min(most, max(SMALLEST_SIDE, SHEET_HEIGHT // rows))
    return min(most, size * -(-least // size))


def _sheet(width: int, height: int) -> Figure:
    return Figure(figsize=(width / DPI, height / DPI))


def _place(sheet: Figure, photo: NDArray[np.uint8], left: int, top: int, side: int) -> None:
    """Put a photo on a sheet pixel by pixel, which an axes would not do."""
    way = Image.Resampling.NEAREST if side % len(photo) == 0 else Image.Resampling.LANCZOS
    pixels = np.asarray(Image.fromarray(photo).resize((side, side), way))
    sheet.figimage(pixels, left, round(sheet.bbox.height) - top - side, origin="upper")


def _write(sheet: Figure, text: str, left: float, top: float, **look: Any) -> None:
    sheet.text(left / sheet.bbox.width, 1 - top / sheet.bbox.height, text, **look)
