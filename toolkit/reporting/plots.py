"""Curves over epochs and ways to predict by cost, drawn alike on pictures and on the page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, BboxBase
from numpy.typing import NDArray

DPI = 120
GAP = 8  # Pixels between things.
SIDES = ((6, "left"), (-6, "right"))
ROWS = (4, -12, 16, -24, 28, -36)  # Points above a place.


@dataclass(frozen=True)
class Palette:
    """Colours, and the font size of small text in points."""

    ink: str
    faint: str
    first: str
    second: str
    small: float


def draw_history(
    panel: Axes, history: Sequence[Mapping[str, Any]], key: str, name: str, palette: Palette
) -> NDArray[np.float64]:
    """Draw a figure of training and of held-out photos over the epochs.

    Args:
        panel: Where.
        history: One row an epoch, at least one.
        key: Of the figure on training photos; with `val_` before it, on held-out ones.
        name: What those are called in the legend.
        palette: Training photos have its first colour, held-out ones its second.

    Returns:
        The figure on held-out photos, NaN in an epoch without it.
    """
    epochs = epochs_axis(panel, history)
    look: dict[str, Any] = {"marker": "o", "markersize": 4 if len(history) <= 40 else 1}
    panel.plot(epochs, values(history, key), "--", color=palette.first, label="training", **look)
    held_out = values(history, f"val_{key}")
    if np.isfinite(held_out).any():
        panel.plot(epochs, held_out, "-", color=palette.second, label=name, **look)
    return held_out


def epochs_axis(panel: Axes, history: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Let a panel's width be the epochs, and return them."""
    epochs = np.array([row["epoch"] for row in history])
    panel.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return epochs


def stages(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the stages in their order."""
    return [name for name, _ in itertools.groupby(str(row["stage"]) for row in history)]


def mark_stages(
    panel: Axes, history: Sequence[Mapping[str, Any]], names: Sequence[str], palette: Palette
) -> float:
    """Mark where stages begin, where there are several.

    Args:
        panel: Of `draw_history` or `epochs_axis`.
        history: Its rows.
        names: What to call each stage.
        palette: Its colours.

    Returns:
        How many points high the names are above the panel.
    """
    if len(names) < 2:
        return 0.0
    lengths = [len(list(rows)) for _, rows in itertools.groupby(row["stage"] for row in history)]
    figure, grid = panel.get_figure(root=True), panel.get_gridspec()
    assert figure is not None
    assert grid is not None
    room = 0.82 * figure.get_figwidth() * DPI / grid.ncols  # Pixels, about a panel's width.
    line = 1.4 * palette.small
    ends: list[float] = []  # Of each row of names: where its last name ends.
    for start, name in zip(itertools.accumulate([0, *lengths[:-1]]), names, strict=True):
        if start:
            edge = history[start]["epoch"] - 0.5
            panel.axvline(edge, color=palette.faint, lw=1, ls=":", gid="stage")
        width = (text_width(name, palette.small) + 2 * GAP) / room
        left = max(0.0, min(start / len(history), 1 - width))
        row = next((row for row, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [left + width]
        where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        where["xytext"] = (0, 4 + row * line)
        panel.annotate(name, (left, 1), color=palette.faint, fontsize=palette.small, **where)
    return line * len(ends)


def draw_costs(panel: Axes, table: Sequence[Mapping[str, Any]], palette: Palette) -> None:
    """Draw ways to predict: inference cost against labels unlike the exact ensemble's.

    Args:
        panel: Where.
        table: One row a way, as `toolkit.inference.plan.Plan.table` holds them: `way`, `ms`,
            `agreement`.
        palette: Fast plans have its first colour, other ways its second.
    """
    fast = [row for row in table if row["way"].startswith("fast")]
    if fast:
        panel.plot(
            [row["ms"] for row in fast],
            [100 * (1 - row["agreement"]) for row in fast],
            color=palette.first,
            marker="o",
            markersize=5,
            label="fast plans, careful to bold",
        )
    for place, ways in _places(table).items():
        exact = "exact" in ways
        colour = palette.ink if exact else palette.second
        panel.plot(*place, marker="D" if exact else "s", markersize=5, color=colour)
    panel.set_xscale("log")
    panel.set_yscale("symlog", linthresh=2)
    panel.set_ylim(-0.3, 150)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:g}"[0] in "25" else "")
    panel.set_xlabel("inference, ms a photo (logarithmic)")
    panel.grid(visible=True)
    if fast:
        panel.legend(loc="lower left", labelcolor=palette.ink)


def name_ways(panel: Axes, table: Sequence[Mapping[str, Any]], palette: Palette) -> None:
    """Write the names of ways beside their places, where they cover nothing and no edge.

    Args:
        panel: Of `draw_costs`.
        table: Its rows.
        palette: Its colours.
    """
    figure = panel.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # Texts and places are somewhere only then.
    inside, reach = panel.get_window_extent(), 4 * figure.dpi / 72
    places = _places(table)
    taken: list[BboxBase] = []
    legend = panel.get_legend()
    if legend is not None:
        taken.append(legend.get_window_extent())
    for x, y in (panel.transData.transform(place) for place in places):
        taken.append(Bbox.from_extents(x - reach, y - reach, x + reach, y + reach))
    for place, ways in places.items():
        for up, (side, align) in itertools.product(ROWS, SIDES):
            text = panel.annotate(
                ", ".join(ways),
                place,
                (side, up),
                ha=align,
                textcoords="offset points",
                fontsize=palette.small,
                color=palette.ink,
            )
            box = text.get_window_extent()
            hidden = box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0
            if not hidden and box.count_overlaps(taken) == 0:
                taken.append(box)
                break
            text.remove()


def values(history: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """Return a figure by epoch, NaN where there is none."""
    return np.array([np.nan if row.get(key) is None else row[key] for row in history], dtype=float)


def text_width(text: str, size: float, weight: str = "normal") -> int:
    """Return about how many pixels wide a text is drawn."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    path = TextPath((0, 0), text.strip() or "-", size=size, prop=font)
    return math.ceil(float(path.vertices[:, 0].max()) * DPI / 72)


def _places(table: Sequence[Mapping[str, Any]]) -> dict[tuple[float, float], list[str]]:
    """Return the ways that are no fast plans, by cost and percentage of other labels."""
    places: dict[tuple[float, float], list[str]] = {}
    for row in table:
        if not row["way"].startswith("fast"):
            place = (round(row["ms"], 3), round(100 * (1 - row["agreement"]), 3))
            places.setdefault(place, []).append(row["way"])
    return places
