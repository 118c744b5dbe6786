"""What the decoder's libraries warn of while they read a photo, kept for that photo."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

DECODERS = r"PIL\b|pillow_heif\b|pillow_avif\b|pillow_jxl\b"
"""Modules whose warnings are about a photo."""

_FILTER = ("always", None, Warning, re.compile(DECODERS), 0)
_listening = threading.local()
_otherwise = warnings.showwarning
_taking_turns = threading.Lock()


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what the decoder warns of or logs in the block, in this thread alone.

    `warnings.catch_warnings` would take those of all threads, and give each only the first of its
    kind.

    Yields:
        The warnings so far, each once, in one line.
    """
    _listen()
    before, _listening.notes = getattr(_listening, "notes", None), list[str]()
    try:
        yield _listening.notes
    finally:
        _listening.notes = before


def _listen() -> None:
    """Have warnings come here first; others, as a test runner, may have changed that since."""
    global _otherwise
    with _taking_turns:
        if not warnings.filters or warnings.filters[0] != _FILTER:
            warnings.filterwarnings("always", module=DECODERS)
        if warnings.showwarning is not _take:
            _otherwise, warnings.showwarning = warnings.showwarning, _take


def _take(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if not _noted(str(message)):
        _otherwise(message, category, filename, lineno, file, line)


def _noted(text: str) -> bool:
    """Take note of a text where this thread listens; return whether it does."""
    notes = getattr(_listening, "notes", None)
    if notes is None:
        return False
    note = " ".join(text.split())
    if note not in notes:
        notes.append(note)
    return True


class _Log(logging.Handler):
    """Takes what Pillow logs; without a handler Python prints it on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        _noted(record.getMessage())


logging.getLogger("PIL").addHandler(_Log(logging.WARNING))
