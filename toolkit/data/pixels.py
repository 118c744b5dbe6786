"""The one definition of how a photo's bytes become pixels.

Training, validation, calibration, evaluation and inference all come through here, so that a
difference between them cannot be made.
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from toolkit.errors import ToolkitError

Pixels = NDArray[np.uint8]

MAX_PIXELS = 200_000_000
"""A photo of more pixels is refused: it would not fit in memory beside others."""

DRAFT_SIDE = 1024
"""A larger JPEG is scaled down while it is decoded, to no less than this many pixels a side.

The figure must be the same for all image sizes: a photo is decoded once for all of them.
"""

LARGEST_IMAGE_SIZE = 1024

DEFINITION: dict[str, Any] = {
    "definition": 1,
    "decoder": "Pillow",
    "draft_side": DRAFT_SIDE,
    "orientation": "EXIF applied",
    "colour": "RGB uint8; alpha on white; 16 bits by their high byte; CMYK converted by formula",
    "resize": "stretched to the square, bilinear antialiased (Pillow BILINEAR)",
}
"""What travels with every run and bundle; its hash is part of the key of cached pixels."""

DECODER_VERSION = f"Pillow {PIL.__version__}"

_LYING = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

_WHITE = (255, 255, 255, 255)
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    RuntimeError,  # Of AVIF.
    ZeroDivisionError,
    struct.error,
)


class BrokenPhotoError(ToolkitError):
    """A photo that cannot be read.

    Attributes:
        source: The file, or a name for bytes that came without one.
        reason: What is wrong with it.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[BrokenPhotoError], tuple[str, str]]:
        return type(self), (self.source, self.reason)


def decode(source: Path | bytes) -> Image.Image:
    """Decode a photo.

    Args:
        source: A file, or the bytes of one.

    Returns:
        An upright image of mode RGB. A large JPEG comes scaled down (see `DRAFT_SIDE`).

    Raises:
        BrokenPhotoError: The bytes are no readable photo; the message says why.
    """
    name = str(source) if isinstance(source, Path) else "photo"
    content = _read(source) if isinstance(source, Path) else source
    if not content:
        raise BrokenPhotoError(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BrokenPhotoError(
                    name,
                    f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS:,} "
                    "that are read; scale it down",
                )
            image.draft("RGB", (DRAFT_SIDE, DRAFT_SIDE))
            return _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise BrokenPhotoError(
            name, f"more than twice the {MAX_PIXELS:,} pixels that are read; scale it down"
        ) from None
    except PIL.UnidentifiedImageError:
        raise BrokenPhotoError(name, "not a photo in a known format") from None
    except _DECODER_ERRORS as error:
        raise BrokenPhotoError(name, f"cannot be decoded ({error})") from None


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of a readable photo as its file has them, turned upright.

    Unlike a decoded image's, they are never scaled down.
    """
    with Image.open(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in _LYING
        return (image.height, image.width) if turned else image.size


def from_array(pixels: Pixels) -> Image.Image:
    """Take decoded pixels in place of a photo.

    Args:
        pixels: Shape (height, width, 3), uint8, RGB.

    Returns:
        The same as an image.

    Raises:
        ToolkitError: It is no array, or has another shape or dtype.
    """
    if not isinstance(pixels, np.ndarray):
        raise ToolkitError(f"Expected a photo's path or array, received {type(pixels).__name__}.")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ToolkitError(
            "Expected an array of shape (height, width, 3) and dtype uint8 (RGB), "
            f"received shape {pixels.shape} and dtype {pixels.dtype}."
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def resize(image: Image.Image, size: int) -> Pixels:
    """Stretch an image to a square.

    Args:
        image: Mode RGB.
        size: Side of the square in pixels.

    Returns:
        Shape (size, size, 3), uint8, RGB.
    """
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)


def load(source: Path | bytes, size: int) -> Pixels:
    """Decode a photo and stretch it to a square: `resize(decode(source), size)`."""
    return resize(decode(source), size)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BrokenPhotoError(str(path), "no such file") from None
    except OSError as error:
        raise BrokenPhotoError(str(path), f"cannot be read ({error.strerror})") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode in _SIXTEEN_BIT_MODES:
        high_bytes = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(high_bytes).convert("RGB")
    if image.has_transparency_data:
        on_white = Image.new("RGBA", image.size, _WHITE)
        on_white.alpha_composite(image.convert("RGBA"))
        return on_white.convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save as 8 or 16 bits")
    return image.convert("RGB")


# Pillow warns, then refuses, by a limit of its own; ours is the one that is told to the user.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
