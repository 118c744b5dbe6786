"""Pictures for people: photos a class, confusion, costs.

Each public function builds a figure and writes it as a PNG. The builders beside them return the
figure, for the page and for whoever looks at what is drawn without reading pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, BboxBase
from numpy.typing import NDArray

from toolkit.inference.plan import CASCADE, Way
from toolkit.reporting.style import (
    BLUE,
    DPI,
    INK,
    ORANGE,
    SMALL,
    STYLE,
    TINY,
    TITLE,
    head,
    save_figure,
    short_name,
    text_width,
)

SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9ecae1", BLUE, "#00375c"])
COUNTED_CLASSES = 30  # Up to here the cells of a confusion matrix have room for their counts.
SIDES = ((6, "left"), (-6, "right"))
ROWS = (4, -12, 16, -24, 28, -36)  # Points above a place.


def draw_class_histogram(counts: Mapping[str, int], path: Path) -> None:
    """Draw how many photos each class has, as horizontal bars.

    Args:
        counts: Photos by class name, drawn from top to bottom in this order.
        path: The PNG to write; its height grows with the number of classes.
    """
    save_figure(class_histogram_figure(counts), path)


def draw_confusion(
    counts: NDArray[np.int64], classes: Sequence[str], title: str, path: Path
) -> None:
    """Draw a confusion matrix, coloured by the share of each true class.

    Args:
        counts: int64 `(classes, classes)`, not negative: rows are true, columns predicted. They
            are written in the cells where there are at most 30 classes.
        classes: Their names, in the order of the rows.
        title: Whose predictions these are.
        path: The PNG to write.
    """
    save_figure(confusion_figure(counts, classes, title), path)


def draw_cost(table: Sequence[Way], title: str, path: Path) -> None:
    """Draw what ways to predict cost against how often they give the full ensemble's label.

    Args:
        table: Of a plan.
        title: What was planned.
        path: The PNG to write.
    """
    save_figure(cost_figure(table, title), path)


@matplotlib.rc_context(STYLE)
def class_histogram_figure(counts: Mapping[str, int]) -> Figure:
    """Build the picture of `draw_class_histogram`."""
    row, size = (0.28, SMALL) if len(counts) <= 60 else (0.17, TINY + 0.5)
    figure = Figure(figsize=(8, 0.9 + row * max(len(counts), 2)), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(counts))
    bars = axes.barh(positions, list(counts.values()), height=0.72, color=BLUE)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4, fontsize=size)
    axes.set_yticks(positions, [short_name(name) for name in counts], fontsize=size)
    axes.set_ylim(len(counts) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max([*counts.values(), 1]))
    axes.tick_params(length=0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    head(figure, f"{sum(counts.values()):,} photos in {len(counts)} classes")
    return figure


@matplotlib.rc_context(STYLE)
def confusion_figure(counts: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Build the picture of `draw_confusion`."""
    written = len(classes) <= COUNTED_CLASSES
    cell, size = (0.42, SMALL) if written else (0.13, TINY)
    names, positions = [short_name(name) for name in classes], np.arange(len(classes))
    side, beside = max(cell * len(classes), 2.4), max(text_width(name, size) for name in names)
    around = beside / DPI + 0.9
    width = max(side + around + 0.9, text_width(title, TITLE, weight="bold") / DPI + 0.3)
    figure = Figure(figsize=(width, side + around), layout="compressed")
    head(figure, title)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=SHADES, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(positions, names, rotation=90, fontsize=size)
    axes.set_yticks(positions, names, fontsize=size)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(positions[1:] - 0.5, minor=True)
    axes.set_yticks(positions[1:] - 0.5, minor=True)
    axes.grid(which="minor", linewidth=0.5 if written else 0.25)
    axes.tick_params(which="minor", length=0)
    for row, column in np.ndindex(counts.shape) if written else ():
        share, count = shares[row, column], int(counts[row, column])
        colour = "white" if share > 0.5 else INK if count else "#bbbbbb"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=SMALL)
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3 / side), aspect=18, pad=0.02)
    bar.set_label("share of the true class", fontsize=SMALL)
    bar.outline.set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def cost_figure(table: Sequence[Way], title: str = "") -> Figure:
    """Build the figure of `draw_cost`, without a title where none is given."""
    figure = Figure((6.4, 4.2), layout="constrained")
    panel = figure.add_subplot()
    if title:
        head(figure, title)
    _draw_ways(panel, table)
    panel.set_ylabel("labels other than the full ensemble's, %")
    _name_ways(panel, table)
    return figure


def _draw_ways(panel: Axes, table: Sequence[Way]) -> None:
    """Draw cascades in one colour as a line, other ways in another as squares."""
    cascades = [row for row in table if row.way.startswith(CASCADE)]
    if cascades:
        panel.plot(
            [row.ms for row in cascades],
            [100 * (1 - row.agreement) for row in cascades],
            color=BLUE,
            marker="o",
            markersize=5,
            label="cascades, conservative to aggressive",
        )
    for place, ways in _places(table).items():
        full = "full" in ways
        colour = INK if full else ORANGE
        panel.plot(*place, marker="D" if full else "s", markersize=5, color=colour)
    panel.set_xscale("log")
    panel.set_yscale("symlog", linthresh=2)
    panel.set_ylim(-0.3, 150)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:g}"[0] in "25" else "")
    panel.set_xlabel("inference, ms a photo (logarithmic)")
    panel.grid(visible=True)
    if cascades:
        panel.legend(loc="lower left")


def _name_ways(panel: Axes, table: Sequence[Way]) -> None:
    """Write the names of ways beside their places, where they cover nothing and no edge."""
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
                fontsize=SMALL,
            )
            box = text.get_window_extent()
            hidden = box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0
            if not hidden and box.count_overlaps(taken) == 0:
                taken.append(box)
                break
            text.remove()


def _places(table: Sequence[Way]) -> dict[tuple[float, float], list[str]]:
    """Return the ways that are no cascades, by cost and percentage of other labels."""
    places: dict[tuple[float, float], list[str]] = {}
    for row in table:
        if not row.way.startswith(CASCADE):
            place = (round(row.ms, 3), round(100 * (1 - row.agreement), 3))
            places.setdefault(place, []).append(row.way)
    return places
