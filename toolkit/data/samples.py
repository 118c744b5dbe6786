"""The values of a loaded image, and how they become RGB bytes, band by band."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.ranges import (
    COLOUR_16,
    FULL_16,
    GREY_16,
    GREY_32,
    GREY_FLOAT,
    Range,
    Ranges,
    found_in,
    natural,
)

_BAND_PIXELS = 2**19
_WHITE = (255, 255, 255, 255)
_GREY_MODES = {
    **dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N"), GREY_16),
    "I": GREY_32,
    "F": GREY_FLOAT,
}

# Of 16-bit colour Pillow keeps the high byte; unpacked in the other byte order it is the low one.
_COLOURS = ("RGB", "RGBX", "RGBA")
_OTHER_THAN_NATIVE = "16B" if sys.byteorder == "little" else "16L"
_OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": _OTHER_THAN_NATIVE}
_LOW_BYTES = {
    f"{colours};{order}": f"{colours};{other}"
    for colours in _COLOURS
    for order, other in _OTHER_ORDER.items()
}
_GREY_ALPHA = "LA;16B"
_LOW_BYTES[_GREY_ALPHA] = "RGBA"  # High and low byte of grey, then of alpha.

_HIDDEN = 17
"""Where no high byte reaches this and the low ones are out of reach, a photo is refused.

12 bits in 16 are below it, also where a format rounds them.
"""


class UnknownRangeError(ValueError):
    """A photo whose values no known range is for."""


@dataclass(frozen=True)
class Packing:
    """How an image that is not loaded yet keeps its values.

    Attributes:
        way: Pillow's name of it; empty where its parts differ.
        largest: The largest value as the file declares it; 0 where it declares none.
        codec: Pillow's name of what unpacks it.
    """

    way: str = ""
    largest: int = 0
    codec: str = ""

    @classmethod
    def of(cls, image: Image.Image) -> Packing:
        """Read it off an image that was opened."""
        found = {_packing(tile[0], tile[3]) for tile in getattr(image, "tile", ())}
        return found.pop() if len(found) == 1 else cls()

    @property
    def low_bytes(self) -> str:
        """The way to the low bytes of 16-bit colour; empty for everything else."""
        return _LOW_BYTES.get(self.way, "")

    @property
    def is_cut(self) -> bool:
        """Whether Pillow keeps only the high bytes of its values."""
        return self.way.endswith(tuple(f";{order}" for order in _OTHER_ORDER)) or (
            self.way in _COLOURS and self.largest > 255
        )


@dataclass(frozen=True)
class Samples:
    """A loaded image with what its 8 bits leave out.

    Attributes:
        image: Loaded.
        kind: Of values that need a range (see `toolkit.data.ranges`); empty where they have 8 bits.
        found: The smallest and largest value; None where they have 8 bits.
        scale: What becomes 0 and 255; None where they have 8 bits.
        low: The low bytes of 16-bit colour, or of 16-bit grey with alpha; None where the high ones
            say all.
    """

    image: Image.Image
    kind: str = ""
    found: Range | None = None
    scale: Range | None = None
    low: Image.Image | None = None

    @classmethod
    def of(
        cls,
        image: Image.Image,
        packing: Packing,
        ranges: Ranges | None,
        low_bytes: Callable[[str], Image.Image],
    ) -> Samples:
        """Find out what an image holds.

        Args:
            image: Loaded.
            packing: What it was before.
            ranges: As for `toolkit.data.decoder.read_photo`.
            low_bytes: Loads the same image once more, unpacked in a way that is given.

        Raises:
            UnknownRangeError: Its values belong to no known range.
            ValueError: It has no values to be scaled.
        """
        if image.mode in _GREY_MODES:
            # Pillow's own scale, of what the format declares, is that of 16 bits.
            is_scaled = image.format in ("PPM", "JPEG2000") and image.mode == "I"
            kind = GREY_16 if is_scaled else _GREY_MODES[image.mode]
            each = [found_in(values) for values in _grey_bands(image)]
            found = Range(min(one.low for one in each), max(one.high for one in each))
            return cls(image, kind, found, _scale(kind, found, ranges))
        if packing.low_bytes:
            return cls._of_high_bytes(image, packing, ranges, low_bytes)
        if packing.is_cut and _largest(image, len(image.getbands())) < _HIDDEN:
            raise UnknownRangeError(
                "of its 16 bits a channel only the lower ones are used; save it with 8 bits"
            )
        return cls(image)

    @classmethod
    def _of_high_bytes(
        cls,
        image: Image.Image,
        packing: Packing,
        ranges: Ranges | None,
        low_bytes: Callable[[str], Image.Image],
    ) -> Samples:
        is_grey = packing.way == _GREY_ALPHA
        kind = GREY_16 if is_grey else COLOUR_16
        high = _largest(image, 1 if is_grey else 3)
        found, low = Range(0.0, float(256 * high + 255)), None
        known = (ranges or {}).get(kind) or natural(kind, found)
        if known.high < FULL_16:
            low = low_bytes(packing.low_bytes)
            low = low.getchannel(1) if is_grey else low
            if not high:
                found = Range(0.0, float(_largest(low, 1 if is_grey else 3)))
        return cls(image, kind, found, _scale(kind, found, ranges), low)

    def rgb(self, factor: int) -> Image.Image:
        """Return the image as RGB, each block of `factor` x `factor` pixels averaged to one.

        It is done band by band, so that of a large image nothing is in memory twice.
        """
        image = self.image
        if image.mode == "RGB" and self.low is None and "transparency" not in image.info:
            return image.reduce(factor) if factor > 1 else image
        size = (-(-image.width // factor), -(-image.height // factor))
        whole = Image.new("RGB", size)
        for top, bottom in _rows(image, factor):
            box = (0, top, image.width, bottom)
            band = self._rgb_of(image.crop(box), self.low and self.low.crop(box))
            whole.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
        return whole

    def _rgb_of(self, band: Image.Image, low: Image.Image | None) -> Image.Image:
        if band.mode in _GREY_MODES and self.scale:
            values = _unsigned(np.asarray(band), self.image)
            return Image.fromarray(self.scale.levels(values)).convert("RGB")
        if low is not None and self.scale:
            high, rest = np.asarray(band), np.asarray(low)
            alpha = high[..., 3:]
            rest = rest[..., :3] if rest.ndim == 3 else rest[..., None]
            levels = self.scale.levels(high[..., :3].astype(np.uint16) << 8 | rest)
            band = Image.fromarray(np.concatenate([levels, alpha], axis=2))
        if band.has_transparency_data:
            on_white = Image.new("RGBA", band.size, _WHITE)
            on_white.alpha_composite(band.convert("RGBA"))
            return on_white.convert("RGB")
        return band.convert("RGB")


def _packing(codec: str, arguments: Any) -> Packing:
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    way = parts[0] if parts and isinstance(parts[0], str) else ""
    is_declared = len(parts) == 2 and isinstance(parts[1], int)  # Of PPM.
    return Packing(way, int(parts[1]) if is_declared else 0, codec)


def _scale(kind: str, found: Range, ranges: Ranges | None) -> Range:
    own = natural(kind, found)
    if ranges is None:
        return own
    if kind in ranges:
        return ranges[kind]
    if kind in (GREY_16, COLOUR_16) and own == Range(0.0, float(FULL_16)):
        return own
    raise UnknownRangeError(
        f"has {kind} values up to {found.high:g}, and no photo that was trained on has such: which "
        "value is white is unknown; save it with 8 bits"
    )


def _rows(image: Image.Image, factor: int) -> Iterator[tuple[int, int]]:
    """Yield first row and end of bands; all but the last have a multiple of `factor` rows."""
    height = factor * max(1, _BAND_PIXELS // (image.width * factor))
    for top in range(0, image.height, height):
        yield top, min(top + height, image.height)


def _grey_bands(image: Image.Image) -> Iterator[NDArray[Any]]:
    for top, bottom in _rows(image, 1):
        yield _unsigned(np.asarray(image.crop((0, top, image.width, bottom))), image)


def _unsigned(values: NDArray[Any], image: Image.Image) -> NDArray[Any]:
    """Undo that Pillow takes 32 bits without a sign for such with one, which only TIFF has."""
    tags = getattr(image, "tag_v2", None)
    if tags is None or image.mode != "I":
        return values
    bits, sample_format = tags.get(258, (0,)), tags.get(339, (1,))
    return values.view(np.uint32) if (bits[0], sample_format[0]) == (32, 1) else values


def _largest(image: Image.Image, channels: int) -> int:
    extremes: Any = image.getextrema()
    pairs = extremes if isinstance(extremes[0], tuple) else (extremes,)
    return max(int(largest) for _, largest in pairs[:channels])
