"""How every figure looks, and how it becomes a PNG.

Nothing here uses pyplot: no display is needed and no figure stays open. The page embeds the same
figures as SVG and puts its own colours in place of these; see `toolkit.reporting.page.charts`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from toolkit.errors import UsageError
from toolkit.files import written_whole

DPI = 120
GAP = 8  # Pixels between things.
INK, FAINT, LINES = "#2b2b2b", "#8a8a8a", "#dddddd"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito's, for colour-blind people.
TITLE, TEXT, SMALL, TINY = 12.0, 10.0, 9.0, 6.5  # Font sizes in points.
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "text.color": INK,
    "text.parse_math": False,  # A class may be called "$5 and $10".
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "white"),
    "figure.dpi": DPI,
    "figure.titlesize": TITLE,
    "figure.titleweight": "bold",
    **dict.fromkeys(("figure.constrained_layout.h_pad", "figure.constrained_layout.w_pad"), 0.08),
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.axisbelow": True,
    "grid.color": LINES,
    "grid.linewidth": 0.7,
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), FAINT),
    **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), SMALL),
}


def check_picture(path: Path) -> None:
    """Refuse a name that is not one of a PNG, before any work is done for it.

    Raises:
        UsageError: The suffix is another.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: Expected a picture's name that ends in .png.", path=path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def head(figure: Figure, title: str) -> None:
    """Write a figure's title at its upper left."""
    figure.suptitle(title, x=0.01, ha="left")


def short_name(name: str, most: int = 32) -> str:
    """Return a name that is at most so many letters long."""
    return name if len(name) <= most else name[: most - 1] + "…"


def text_width(text: str, size: float, weight: str = "normal") -> int:
    """Return about how many pixels wide a text is drawn."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    path = TextPath((0, 0), text.strip() or "-", size=size, prop=font)
    return math.ceil(float(path.vertices[:, 0].max()) * DPI / 72)
