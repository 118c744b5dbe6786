"""From a photo's bytes to an upright RGB image, in bounded memory, whoever wrote the bytes."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import PIL
from PIL import ExifTags, Image

from toolkit.data.budget import MemoryBudget
from toolkit.data.formats import FORMATS, MAX_PIXELS, missing_package
from toolkit.data.photo_file import BrokenPhotoError, opened
from toolkit.data.photo_notes import heard
from toolkit.data.ranges import Range, Ranges, clipping
from toolkit.data.samples import Packing, Samples, UnknownRangeError

MAX_SIDE = 65_535
"""A longer photo is refused, as one of more than `MAX_PIXELS` is; JPEG ends here too."""

DRAFT_SIDE = 1024
"""A larger photo is scaled down to no less than this many pixels a side.

The figure must be the same for all image sizes: a photo is decoded once for all of them.
"""

DECODING_BYTES = 2 * 2**30
"""Memory that decoding takes at the most, all threads of a process together."""

LARGE_FILE = 32 * 2**20
"""Larger files are read one at a time: some decoders take all of a file into memory."""

_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_OTHER_MODE_BYTES = 4
_FORMAT_BYTES = {"WEBP": 12, "AVIF": 12, "HEIF": 12, "JXL": 16, "JPEG2000": 16}
"""Bytes a pixel that a decoder takes beside the image."""

_STRIP_BYTES = 4
"""Likewise, of a compressed TIFF, all of which may be one strip."""

_PROGRESSIVE_BYTES = 6
"""Likewise, of a progressive JPEG, and of its pixels before they are scaled down."""

_RESULT_BYTES = 8
"""Bytes a pixel of the result, and of it turned upright."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a photo of each EXIF orientation upright."""

_LYING = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    RuntimeError,  # Of AVIF.
    ZeroDivisionError,
    struct.error,
)

_budget = MemoryBudget(DECODING_BYTES)
_large_file = threading.Lock()


@dataclass(frozen=True)
class Decoded:
    """A photo that was read.

    Attributes:
        image: Upright, mode RGB; a large one is scaled down (see `DRAFT_SIDE`).
        width: In pixels, upright, as the file has it.
        height: Likewise.
        kind: Of values that need a range (see `toolkit.data.ranges`); empty where they have 8 bits.
        found: Its values; None where they have 8 bits.
        notes: What was remarkable, in one line each.
    """

    image: Image.Image
    width: int
    height: int
    kind: str = ""
    found: Range | None = None
    notes: tuple[str, ...] = ()


def read_photo(source: Path | bytes, ranges: Ranges | None = None) -> Decoded:
    """Decode a photo.

    Args:
        source: A file, or the bytes of one.
        ranges: Of the photos that were trained on. None takes each photo's own range, which is for
            looking at it: two photos are then not comparable.

    Returns:
        The photo, and what is known of it.

    Raises:
        BrokenPhotoError: The bytes are no readable photo; the message says why.
    """
    name = str(source) if isinstance(source, Path) else "photo"
    with heard() as notes:
        try:
            with _opened(source) as file:
                return _read(name, file, ranges, notes)
        except BrokenPhotoError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise BrokenPhotoError(
                name, f"more than the {MAX_PIXELS:,} pixels that are read; scale it down"
            ) from None
        except UnknownRangeError as error:
            raise BrokenPhotoError(name, str(error)) from None
        except PIL.UnidentifiedImageError:
            raise BrokenPhotoError(name, _unidentified(source)) from None
        except MemoryError:
            raise BrokenPhotoError(name, "there is too little memory to decode it") from None
        except _DECODER_ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BrokenPhotoError(name, f"cannot be decoded ({reason})") from None


def decode(source: Path | bytes, ranges: Ranges | None = None) -> Image.Image:
    """Return the image alone of `read_photo`."""
    return read_photo(source, ranges).image


def _opened(source: Path | bytes) -> contextlib.AbstractContextManager[BinaryIO]:
    if isinstance(source, Path):
        return opened(source)
    if not source:
        raise BrokenPhotoError("photo", "the file is empty")
    return io.BytesIO(source)


def _read(name: str, file: BinaryIO, ranges: Ranges | None, notes: list[str]) -> Decoded:
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    # Waited for before any of the budget is held, so that nobody who holds some waits for it.
    alone = _large_file if length > LARGE_FILE else contextlib.nullcontext()
    with alone, Image.open(file, formats=FORMATS) as image:
        _refuse_huge(name, image)
        size, packing = image.size, Packing.of(image)
        image.draft("RGB", (DRAFT_SIDE, DRAFT_SIDE))
        with _budget.reserved(_affordable(name, image, size[0] * size[1])):
            image.load()

            def low_bytes(way: str) -> Image.Image:
                return _unpacked(file, way)

            samples = Samples.of(image, packing, ranges, low_bytes)
            if samples.scale and samples.found:
                notes += filter(None, [clipping(samples.found, samples.scale)])
            rgb = samples.rgb(_factor(image))
            orientation = _orientation(image)
            if orientation in _TURNS:
                rgb = rgb.transpose(_TURNS[orientation])
    if orientation in _LYING:
        size = size[1], size[0]
    return Decoded(rgb, *size, kind=samples.kind, found=samples.found, notes=tuple(notes))


def scaled_down(image: Image.Image) -> Image.Image:
    """Return an RGB image as `read_photo` gives it where a file holds these pixels."""
    factor = _factor(image)
    return image.reduce(factor) if factor > 1 else image


def _factor(image: Image.Image) -> int:
    """Return how many pixels a side of an image are averaged to one."""
    return max(1, min(image.size) // DRAFT_SIDE)


def _unpacked(file: BinaryIO, way: str) -> Image.Image:
    """Load an image once more, its values unpacked in another way."""
    file.seek(0)
    with Image.open(file, formats=FORMATS) as image:
        image.tile = [
            tile._replace(args=(way, *tile[3][1:]) if isinstance(tile[3], tuple) else way)
            for tile in image.tile
        ]
        image.load()
        return image


def _refuse_huge(name: str, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenPhotoError(
            name,
            f"{width} x {height} pixels are more than the {MAX_PIXELS:,} that are read; scale it "
            "down",
        )
    if max(width, height) > MAX_SIDE:
        raise BrokenPhotoError(
            name, f"{width} x {height} pixels: a side is longer than {MAX_SIDE:,}; scale it down"
        )


def _affordable(name: str, image: Image.Image, full_pixels: int) -> int:
    """Return how many bytes decoding an image takes at the most.

    Raises:
        BrokenPhotoError: That is more than all threads may have together.
    """
    each = _MODE_BYTES.get(image.mode, _OTHER_MODE_BYTES) + _FORMAT_BYTES.get(
        (image.format or "").upper(), 0
    )
    packing = Packing.of(image)
    if packing.codec == "libtiff":
        each += _STRIP_BYTES
    if packing.low_bytes:
        each += _OTHER_MODE_BYTES
    pixels = image.width * image.height
    needed = each * pixels + _RESULT_BYTES * pixels // _factor(image) ** 2
    if image.info.get("progressive"):
        needed += _PROGRESSIVE_BYTES * full_pixels
    if needed > DECODING_BYTES:
        raise BrokenPhotoError(
            name,
            f"decoding its {full_pixels:,} pixels takes {needed / 2**30:.1f} GiB of memory, more "
            f"than {DECODING_BYTES / 2**30:.0f}; scale it down",
        )
    return needed


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where it is missing or unreadable; EXIF is only read.

    The image is loaded: a PNG may have its EXIF at the end, and Pillow turns a TIFF itself.
    """
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except _DECODER_ERRORS:
        return 1
    if isinstance(found, tuple) and found:
        found = found[0]
    return int(found) if found in _TURNS else 1


def _unidentified(source: Path | bytes) -> str:
    """Say why no format fits, and what would read it."""
    with _opened(source) as file:
        head = file.read(32)
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the photo; fetch it with 'git lfs pull'"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not a photo; download it again"
    return missing_package(head) or "not a photo in a known format"
