"""The one definition of how a photo's bytes become pixels.

Training, validation, calibration, evaluation and inference all come through here, so that a
difference between them cannot be made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pydantic
from numpy.typing import NDArray
from PIL import Image

from toolkit.artifacts import Json, artifact
from toolkit.data.decoder import DRAFT_SIDE, decode, read_photo, scaled_down
from toolkit.data.formats import DECODER_VERSION
from toolkit.data.photo_file import BrokenPhotoError
from toolkit.data.ranges import Ranges
from toolkit.errors import DataError

__all__ = [
    "DECODER_VERSION",
    "DEFINITION",
    "DRAFT_SIDE",
    "LARGEST_IMAGE_SIZE",
    "PADDING",
    "RESIZES",
    "BrokenPhotoError",
    "PixelDefinition",
    "Pixels",
    "Resize",
    "Square",
    "decode",
    "from_array",
    "load",
    "read_photo",
]

Pixels = NDArray[np.uint8]

LARGEST_IMAGE_SIZE = DRAFT_SIDE

Resize = Literal["stretch", "letterbox", "center_crop"]
RESIZES: tuple[Resize, ...] = get_args(Resize)

PADDING = (124, 116, 104)
"""What a letterbox is filled with: the mean colour of ImageNet."""

DEFINITION: dict[str, Any] = {
    "definition": 2,
    "decoder": "Pillow",
    "draft_side": DRAFT_SIDE,
    "large": "JPEG scaled down while decoded, then k x k pixels averaged, k = short side // draft",
    "orientation": "EXIF applied",
    "colour": "RGB uint8; alpha on white; CMYK converted by formula",
    "more than 8 bits": "by the range of the kind; whole numbers floor, others rounded half up",
    "resize": "bilinear antialiased (Pillow BILINEAR)",
    "padding": list(PADDING),
}
"""What travels with every run and bundle; its hash is part of the key of cached pixels."""


@artifact
class PixelDefinition:
    """How the photos of a data set become pixels, as runs and bundles keep it.

    Attributes:
        rules: `DEFINITION`, of the toolkit that wrote it.
        decoder_version: What decoded the photos then.
        ranges: By kind, of photos whose values have more than 8 bits; see `toolkit.data.ranges`.
    """

    rules: dict[str, Json] = field(default_factory=lambda: dict(DEFINITION))
    decoder_version: str = DECODER_VERSION
    ranges: Ranges = field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _has_ranges(self) -> PixelDefinition:
        for kind, each in self.ranges.items():
            if not each.low < each.high:
                raise ValueError(
                    f"ranges.{kind}: Expected low below high, received {each.low} and {each.high}"
                )
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """What must be equal for two networks to see the same photo alike, as JSON has it."""
        content = asdict(self)
        del content["decoder_version"]
        return content

    def decoder_note(self, when: str) -> str:
        """Return what to report where another version decodes photos than then; else empty."""
        if self.decoder_version == DECODER_VERSION:
            return ""
        return (
            f"photos are decoded by {DECODER_VERSION}, {when} they were by "
            f"{self.decoder_version}: probabilities may differ a little"
        )

    def check(self, owner: Path, remedy: str) -> None:
        """Refuse networks that were given other pixels than they would be given now.

        Args:
            owner: The run or bundle.
            remedy: What makes it anew, as a sentence.

        Raises:
            ToolkitError: The rules are others; the message names what differs.
        """
        for key in sorted({*self.rules, *DEFINITION}):
            if self.rules.get(key) != DEFINITION.get(key):
                raise DataError(
                    f"{owner}: its pixels have another definition ({key}: Expected "
                    f"{DEFINITION.get(key)!r}, received {self.rules.get(key)!r}). {remedy}, or "
                    "use the toolkit that made it.",
                    path=owner,
                )


@dataclass(frozen=True, order=True)
class Square:
    """How a decoded photo becomes the square that a network looks at.

    Attributes:
        size: Side in pixels.
        resize: `stretch` changes the proportions. `letterbox` keeps them, and fills what is left
            with `PADDING`. `center_crop` keeps them, and cuts off what is over.
    """

    size: int
    resize: Resize = "stretch"

    def __call__(self, image: Image.Image) -> Pixels:
        """Make the square.

        Args:
            image: Mode RGB.

        Returns:
            Shape (size, size, 3), uint8, RGB.
        """
        made = {"letterbox": _letterboxed, "center_crop": _cropped}.get(self.resize, _stretched)
        return np.asarray(made(image, self.size), dtype=np.uint8)

    def __str__(self) -> str:
        return f"{self.size} px" if self.resize == "stretch" else f"{self.size} px, {self.resize}"


def from_array(pixels: Pixels) -> Image.Image:
    """Take decoded pixels in place of a photo.

    Args:
        pixels: Shape (height, width, 3), uint8, RGB.

    Returns:
        The same as an image; a large one is scaled down as a file's is.

    Raises:
        ToolkitError: It is no array, or has another shape or dtype.
    """
    if not isinstance(pixels, np.ndarray):
        raise DataError(f"Expected a photo's path or array, received {type(pixels).__name__}.")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DataError(
            "Expected an array of shape (height, width, 3) and dtype uint8 (RGB), "
            f"received shape {pixels.shape} and dtype {pixels.dtype}."
        )
    return scaled_down(Image.fromarray(np.ascontiguousarray(pixels)))


def load(source: Path | bytes, square: Square, ranges: Ranges | None = None) -> Pixels:
    """Decode a photo and make a square of it: `square(decode(source, ranges))`."""
    return square(decode(source, ranges))


def _stretched(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _letterboxed(image: Image.Image, size: int) -> Image.Image:
    """Bring the long side to `size`, and the photo to the middle.

    The short side becomes `size` times the proportion, rounded half up, at least 1; of an odd rest
    the larger part lies at the right or below.
    """
    longest = max(image.size)
    width, height = (max(1, (2 * size * side + longest) // (2 * longest)) for side in image.size)
    whole = Image.new("RGB", (size, size), PADDING)
    small = image.resize((width, height), Image.Resampling.BILINEAR)
    whole.paste(small, ((size - width) // 2, (size - height) // 2))
    return whole


def _cropped(image: Image.Image, size: int) -> Image.Image:
    """Stretch the largest square in the middle; of an odd rest the larger part lies after it."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _stretched(image.crop((left, top, left + side, top + side)), size)
