"""Pictures for people: learning curves, photos a class, confusion, costs.

Each public function builds a figure and writes it as a PNG. The builders beside them return the
figure, so that what is drawn can be looked at without reading pixels. Nothing here uses pyplot: no
display is needed and no figure stays open.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import BboxBase
from numpy.typing import NDArray

from toolkit.errors import UsageError
from toolkit.files import written_whole

DPI = 120
INK, FAINT, LINES = "#2b2b2b", "#8a8a8a", "#dddddd"
BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe and Ito's, told apart by colour-blind people.
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9ecae1", BLUE, "#00375c"])
TITLE, TEXT, SMALL, TINY = 12.0, 10.0, 9.0, 6.5  # Font sizes in points.
GAP = 8  # Pixels between things.
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
COUNTED_CLASSES = 30  # Up to here the cells of a confusion matrix have room for their counts.


def draw_curves(history: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw accuracy and loss over the epochs, with stages and the best validation marked.

    Args:
        history: One row an epoch, at least one: `epoch` (counted from 1 over all stages), `stage`
            (name), `loss`, `accuracy`, `val_loss` and `val_accuracy`. The last two may be None.
        title: What was trained.
        path: The PNG to write.

    Raises:
        ValueError: The history is empty.
    """
    save_figure(curves_figure(history, title), path)


def draw_class_histogram(counts: Mapping[str, int], path: Path) -> None:
    """Draw how many photos each class has, as horizontal bars.

    Args:
        counts: Photos by class name, drawn from top to bottom in this order.
        path: The PNG to write; its height grows with the number of classes.
    """
    save_figure(class_histogram_figure(counts), path)


def check_picture(path: Path) -> None:
    """Refuse a name that is not one of a PNG, before any work is done for it.

    Raises:
        UsageError: The suffix is another.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: Expected a picture's name that ends in .png.")


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


def draw_cost(table: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw what ways to predict cost against how often they give the exact ensemble's label.

    Args:
        table: One row a way, as `toolkit.inference.plan.Plan.table` holds them: `way`, `ms`,
            `agreement`.
        title: What was planned.
        path: The PNG to write.
    """
    save_figure(cost_figure(table, title), path)


@matplotlib.rc_context(STYLE)
def curves_figure(history: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Build the picture of `draw_curves`."""
    if not history:
        raise ValueError("Expected a history of at least one epoch, received none.")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    _head(figure, title)
    panels: list[Axes] = list(figure.subplots(1, 2))
    epochs = np.array([row["epoch"] for row in history])
    for panel, key, best in zip(panels, ("accuracy", "loss"), (np.argmax, np.argmin), strict=True):
        panel.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        panel.margins(y=0.1)
        panel.grid(axis="y")
        pad = 6 + 1.4 * SMALL * _mark_stages(panel, history)
        panel.set_title(key, pad=pad)
        look: dict[str, Any] = {"marker": "o", "markersize": 4 if len(history) <= 40 else 2}
        panel.plot(epochs, _values(history, key), "--", color=BLUE, label="training", **look)
        validation = _values(history, f"val_{key}")
        usable = np.flatnonzero(np.isfinite(validation))
        if len(usable):
            panel.plot(epochs, validation, "-", color=ORANGE, label="validation", **look)
            chosen = usable[best(validation[usable])]
            epoch, value = epochs[chosen], validation[chosen]
            ring: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 2}
            panel.plot([epoch], [value], "o", color=ORANGE, ms=9, label="best validation", **ring)
            told = f"best validation {value:.3f}, epoch {epoch}"
            panel.set_title(told, loc="right", pad=pad, color=ORANGE, fontsize=SMALL)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


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
    _head(figure, f"{sum(counts.values()):,} photos in {len(counts)} classes")
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
    _head(figure, title)
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
def cost_figure(table: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Build the figure of `draw_cost`."""
    figure = Figure((7.5, 4.8), layout="constrained")
    panel = figure.add_subplot()
    _head(figure, title)
    fast = [row for row in table if row["way"].startswith("fast")]
    panel.plot(
        [row["ms"] for row in fast],
        [100 * (1 - row["agreement"]) for row in fast],
        color=BLUE,
        marker="o",
        markersize=5,
        label="fast plans, careful to bold",
    )
    places: dict[tuple[float, float], list[str]] = {}
    for row in table:
        if not row["way"].startswith("fast"):
            place = (round(row["ms"], 3), round(100 * (1 - row["agreement"]), 3))
            places.setdefault(place, []).append(row["way"])
    for place, ways in places.items():
        exact = "exact" in ways
        panel.plot(*place, marker="D" if exact else "s", color=INK if exact else ORANGE)
    panel.set_xscale("log")
    panel.set_yscale("symlog", linthresh=2)
    panel.set_ylim(-0.3, 150)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:g}"[0] in "25" else "")
    panel.set_xlabel("inference, ms a photo (logarithmic)")
    panel.set_ylabel("labels other than the exact ensemble's, %")
    panel.grid(visible=True)
    if fast:
        panel.legend(loc="lower left")
    figure.draw_without_rendering()  # Texts have an extent only then.
    _name_places(panel, {place: ", ".join(ways) for place, ways in places.items()})
    return figure


def _name_places(panel: Axes, names: Mapping[tuple[float, float], str]) -> None:
    """Write a name beside each place, above or below, where it covers no other and no edge."""
    inside = panel.get_window_extent()
    taken: list[BboxBase] = []
    for place, name in names.items():
        free = None
        for rows, (side, align) in itertools.product(range(6), ((6, "left"), (-6, "right"))):
            up = (4, -12, 16, -24, 28, -36)[rows]
            text = panel.annotate(
                name, place, (side, up), ha=align, textcoords="offset points", fontsize=SMALL
            )
            box = text.get_window_extent()
            hidden = box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0
            if not hidden and box.count_overlaps(taken) == 0:
                free = box
                break
            text.remove()
        if free is None:  # So many at one spot: some cover each other.
            text = panel.annotate(name, place, (6, 4), textcoords="offset points", fontsize=SMALL)
            free = text.get_window_extent()
        taken.append(free)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _values(history: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([np.nan if row[key] is None else row[key] for row in history], dtype=float)


def _head(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left")


def _mark_stages(panel: Axes, history: Sequence[Mapping[str, Any]]) -> int:
    """Mark where stages begin; return how many rows of names that took above the panel."""
    names = [row["stage"] for row in history]
    starts = [index for index, name in enumerate(names) if index == 0 or name != names[index - 1]]
    if len(starts) < 2:
        return 0
    room = 490.0  # Pixels, about the width of a panel.
    ends: list[float] = []  # Of each row of names: where its last name ends.
    for start in starts:
        if start:
            panel.axvline(history[start]["epoch"] - 0.5, color=FAINT, lw=1, ls=":", gid="stage")
        width = (text_width(names[start], SMALL) + 2 * GAP) / room
        left = max(0.0, min(start / len(names), 1 - width))
        row = next((row for row, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [left + width]
        where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        where["xytext"] = (0, 4 + row * 1.4 * SMALL)
        panel.annotate(names[start], (left, 1), color=FAINT, fontsize=SMALL, **where)
    return len(ends)


def text_width(text: str, size: float, weight: str = "normal") -> int:
    """Return about how many pixels wide a text is drawn."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    path = TextPath((0, 0), text.strip() or "-", size=size, prop=font)
    return math.ceil(float(path.vertices[:, 0].max()) * DPI / 72)


def short_name(name: str, most: int = 32) -> str:
    """Return a name that is at most so many letters long."""
    return name if len(name) <= most else name[: most - 1] + "…"
