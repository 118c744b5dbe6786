"""Text and streams of the command line: names cannot steer a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import sys

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # Control characters but tab and newline: ANSI, OSC.
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # Writing direction, invisible.
    "\ud800-\udfff"  # Bytes of a file name that is not UTF-8.
    "\U000e0000-\U000e007f]"  # Tags.
)


def printable(text: str) -> str:
    """Escape what would steer a terminal or cannot be encoded, as in `\\x1b` or `\\u202e`.

    File names and labels come from strangers. Tabs, newlines and the joiners that some scripts need
    stay as they are.
    """
    return _STEERING.sub(lambda found: _escaped(found.group()), text)


def open_closed_streams() -> None:
    """Open the null device in the place of standard streams that the parent process closed.

    Otherwise the next file that is opened takes a standard stream's number, and messages meant for
    people are written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one. Child processes inherit standard streams.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def encode_everything() -> None:
    """Escape characters that standard output and error cannot encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # Something else stands in for the stream.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def discard_output() -> None:
    """Send what is still buffered for a pipe that was closed to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # Python's name for this byte of a file name.
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
