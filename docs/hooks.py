"""Refuses pages that would fetch something from the network when they are read."""

from __future__ import annotations

import logging
import re
from typing import Any

# What a browser loads by itself; a link that a reader follows is none of it.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s\"'>]+"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect))[^>]*"
    r"\bhref=[\"']?(?:https?:)?//[^\s\"'>]+"
)


def fetched(html: str) -> list[str]:
    """Return what a browser would fetch from another machine to show a page."""
    return [found.group() for found in _LOADED.finditer(html)]


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Warn, which `mkdocs build --strict` takes for an error."""
    for found in fetched(output):
        logging.getLogger("mkdocs.hooks").warning(
            "%s: would be fetched when the page is read: %s", page.file.src_path, found
        )
    return output
