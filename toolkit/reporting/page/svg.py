"""Drawn figures as inline SVG whose colours are the page's own, in both themes.

They are drawn with stand-in colours, which become CSS variables; text stays text, so that it can be
read aloud, found and copied.
"""

from __future__ import annotations

import html
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from toolkit.reporting.pictures import STYLE

INK, MUTED, LINES, PAPER = "#010203", "#010204", "#010205", "#010206"
SERIES = ("#010211", "#010212", "#010213", "#010214")
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINES: "line",
    PAPER: "paper",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)},
}
LOOK: Any = {
    **STYLE,
    "svg.fonttype": "none",
    "svg.hashsalt": "page",
    "font.size": 10.0,
    "text.color": INK,
    "grid.color": LINES,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), LINES),
    **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), MUTED),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9.0),
    "axes.labelsize": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Chart:
    """A picture: the SVG element, and what it shows in words."""

    svg: str
    words: str


@contextmanager
def drawn(size: tuple[float, float]) -> Iterator[Figure]:
    """Give a figure in the page's look, which has to hold until it is saved."""
    with matplotlib.rc_context(LOOK):
        yield Figure(size, layout="constrained")


def chart(figure: Figure, name: str, words: str) -> Chart:
    """Make a chart of a figure, inside `drawn`.

    Args:
        figure: What was drawn.
        name: Unique on the page.
        words: What it shows.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
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
