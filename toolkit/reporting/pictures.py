"""Pictures for people: learning curves, photos a class, confusion, costs.

Each public function builds a figure and writes it as a PNG. The builders beside them return the
figure, so that what is drawn can be looked at without reading pixels. Nothing here uses pyplot: no
display is needed and no figure stays open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from toolkit.errors import UsageError
from toolkit.files import written_whole
from toolkit.reporting.plots import (
    DPI,
    Palette,
    draw_costs,
    draw_history,
    mark_stages,
    name_ways,
    stages,
    text_width,
)

INK, FAINT, LINES = "#2b2b2b", "#8a8a8a", "#dddddd"
BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe and Ito's, told apart by colour-blind people.
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9ecae1", BLUE, "#00375c"])
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
PALETTE = Palette(INK, FAINT, BLUE, ORANGE, SMALL)
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
    for panel, key, best in zip(panels, ("accuracy", "loss"), (np.argmax, np.argmin), strict=True):
        panel.margins(y=0.1)
        panel.grid(axis="y")
        validation = draw_history(panel, history, key, "validation", PALETTE)
        pad = 6 + mark_stages(panel, history, stages(history), PALETTE)
        panel.set_title(key, pad=pad)
        usable = np.flatnonzero(np.isfinite(validation))
        if len(usable):
            chosen = usable[best(validation[usable])]
            epoch, value = history[chosen]["epoch"], validation[chosen]
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
    draw_costs(panel, table, PALETTE)
    panel.set_ylabel("labels other than the exact ensemble's, %")
    name_ways(panel, table, PALETTE)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _head(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left")


def short_name(name: str, most: int = 32) -> str:
    """Return a name that is at most so many letters long."""
    return name if len(name) <= most else name[: most - 1] + "…"
