"""The formats of photos that are read, and the packages that decode them."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import re
import warnings

import PIL
from PIL import Image, _imaging, features

MAX_PIXELS = 200_000_000
"""A photo of more pixels is refused."""

_FORMATS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "AVIF": "AvifImagePlugin",
    "HEIF": "",
    "JXL": "",
    "TIFF": "TiffImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "DIB": "BmpImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "PPM": "PpmImagePlugin",
    "TGA": "TgaImagePlugin",  # Last, because its files begin with nothing of their own.
}
"""Formats that are read, with Pillow's module; those without one need a package of their own.

Pillow has more, and one of them starts another program.
"""

_OPTIONAL = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}
"""Formats that a Pillow may be built without, and what it calls their libraries."""

_PLUGINS = {"HEIF": "pillow_heif", "AVIF": "pillow_avif", "JXL": "pillow_jxl"}
_PACKAGES = {"HEIF": "pillow-heif", "AVIF": "pillow-avif-plugin", "JXL": "pillow-jxl-plugin"}

_HEIF_BRANDS = ("heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1")
_SIGNATURES = {
    "HEIF": re.compile(rb"(?s).{4}ftyp(" + "|".join(_HEIF_BRANDS).encode() + b")"),
    "AVIF": re.compile(rb"(?s).{4}ftypavi[fs]"),
    "JXL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
}
"""How files of the formats begin that a package of its own may bring."""


def missing_package(start: bytes) -> str:
    """Say which package would read a file; empty where none is known to.

    Args:
        start: Its first 32 bytes.
    """
    for format, signature in _SIGNATURES.items():
        if format not in FORMATS and signature.match(start):
            return f"a {format} photo, which needs another package: pip install {_PACKAGES[format]}"
    return ""


def _register() -> tuple[str, ...]:
    """Make Pillow and the packages for more formats ready; return the formats that are read."""
    for module in filter(None, _FORMATS.values()):
        importlib.import_module(f"PIL.{module}")
    able = {format for format in _FORMATS if _FORMATS[format] and _is_built_in(format)}
    for format, module in _PLUGINS.items():
        if format in able:
            continue
        # A package that does not fit to this Pillow is as good as none.
        with contextlib.suppress(ImportError, AttributeError, RuntimeError):
            plugin = importlib.import_module(module)
            if format == "HEIF":
                plugin.register_heif_opener()
            able.add(format)
    return tuple(format for format in _FORMATS if format in able and format in Image.OPEN)


def _is_built_in(format: str) -> bool:
    return format not in _OPTIONAL or bool(features.check(_OPTIONAL[format]))


def _silence_libtiff() -> None:
    """Keep libtiff from printing on standard error what Pillow raises as well."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _version() -> str:
    """Name all that may decode a photo otherwise in another version."""
    plugins = [
        f"{_PACKAGES[format]} {importlib.metadata.version(_PACKAGES[format])}"
        for format in _PLUGINS
        if format in FORMATS and not (_FORMATS[format] and _is_built_in(format))
    ]
    missing = [f"without {format}" for format in _OPTIONAL if format not in FORMATS]
    return ", ".join([f"Pillow {PIL.__version__}", *plugins, *missing])


FORMATS = _register()
DECODER_VERSION = _version()
"""Pillow and the packages that bring more formats; part of what is remembered of a photo."""

_silence_libtiff()

# Pillow warns, then refuses, by a limit of its own; ours is the one that a user reads of.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
