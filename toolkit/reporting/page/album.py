"""Photos as small JPEG data URIs, so that a page needs no file beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from toolkit.data.pixels import BrokenPhotoError, Pixels, decode

QUALITY = 72


@dataclass(frozen=True)
class Album:
    """Gives photos to a page, or none where a page shall have none.

    Attributes:
        paths: Photos by id.
        shown: Whether the page has photos at all.
    """

    paths: Mapping[str, Path]
    shown: bool = True

    def of_id(self, id: str, side: int) -> str:
        """Return a photo as a data URI; empty where it is not here or cannot be read."""
        return self.of_path(self.paths[id], side) if id in self.paths else ""

    def of_path(self, path: Path, side: int) -> str:
        """Return a photo of at most `side` pixels a side, in its own proportions."""
        if not self.shown:
            return ""
        try:
            image = decode(path)
        except BrokenPhotoError:
            return ""
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return _data_uri(image)

    def of_pixels(self, pixels: Pixels, least: int) -> str:
        """Return a square, shape (side, side, 3), uint8, enlarged to at least `least` a side."""
        if not self.shown:
            return ""
        image, side = Image.fromarray(pixels), max(least, len(pixels))
        return _data_uri(image.resize((side, side), Image.Resampling.BICUBIC))


def _data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
