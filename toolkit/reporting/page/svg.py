"""Drawn figures as inline SVG whose colours are the page's own, in both themes.

The colours of `toolkit.reporting.style` become CSS variables; text stays text, so that it can be
read aloud, found and copied.
"""

from __future__ import annotations

import html
import io
import re
import zlib
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from toolkit.reporting.style import BLUE, FAINT, GREEN, INK, LINES, ORANGE, STYLE

VARIABLES = {
    INK: "ink",
    FAINT: "muted",
    LINES: "line",
    **{colour: f"series-{number}" for number, colour in enumerate((BLUE, ORANGE, GREEN), start=1)},
}
"""The page's colour for each of a figure's."""

SAVED: Any = {"svg.fonttype": "none", "svg.hashsalt": "page"}


@dataclass(frozen=True)
class Chart:
    """A picture: the SVG element, and what it shows in words."""

    svg: str
    words: str


def chart(figure: Figure, name: str, words: str) -> Chart:
    """Make a chart of a figure.

    Args:
        figure: What was drawn.
        name: Unique on the page.
        words: What it shows.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({**STYLE, **SAVED}):
        nameless = {"Date": None, "Creator": None}
        figure.savefig(stream, format="svg", transparent=True, metadata=nameless)
    return Chart(_inline(stream.getvalue(), name, words), words)


def _inline(drawn: str, name: str, words: str) -> str:
    """Make a drawn SVG a part of the page: own ids, the page's colours and fonts, a title."""
    svg = drawn[drawn.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    own = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + f"-{zlib.crc32(name.encode()):x}"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{own}-", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1var(--sans)", svg)
    head, _, body = svg.partition(">")
    width = re.search(r'viewBox="0 0 ([\d.]+)', head)
    head = re.sub(r' (width|height|version)="[^"]*"', "", head)
    wide = f' style="max-width: {float(width[1]) * 4 / 3:.0f}px"' if width else ""
    title = f'<title id="{own}-title">{html.escape(words)}</title>'
    return f'{head} role="img" aria-labelledby="{own}-title"{wide}>{title}{body.strip()}'
