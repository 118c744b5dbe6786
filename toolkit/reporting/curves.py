"""Learning curves: accuracy, loss and learning rate over the epochs of a run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from toolkit.reporting.style import (
    BLUE,
    DPI,
    FAINT,
    GAP,
    GREEN,
    ORANGE,
    SMALL,
    STYLE,
    head,
    save_figure,
    text_width,
)

History = Sequence[Mapping[str, Any]]
"""One row an epoch: `epoch` (counted from 1 over all stages), `stage` (name), `loss`, `accuracy`,
`val_loss`, `val_accuracy` and `learning_rate`. Those of validation may be None."""

PAD = 6
"""Points between a panel and its title."""


def draw_curves(history: History, best_epoch: int, title: str, path: Path) -> None:
    """Draw accuracy and loss over the epochs, with stages and the epoch that was kept.

    Args:
        history: At least one epoch.
        best_epoch: Whose weights were kept.
        title: What was trained.
        path: The PNG to write.

    Raises:
        ValueError: The history is empty.
    """
    save_figure(curves_figure(history, best_epoch, title), path)


@matplotlib.rc_context(STYLE)
def curves_figure(history: History, best_epoch: int, title: str) -> Figure:
    """Build the picture of `draw_curves`."""
    if not history:
        raise ValueError("Expected a history of at least one epoch, received none.")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    head(figure, title)
    for panel, key in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        curve_panel(panel, history, key, best_epoch)
    return figure


def curve_panel(panel: Axes, history: History, key: str, best_epoch: int) -> None:
    """Draw a figure of training and of validation photos over the epochs, its stages marked.

    Args:
        panel: Where.
        history: At least one epoch.
        key: `accuracy` or `loss`.
        best_epoch: Whose weights were kept; its validation figure gets a ring.
    """
    epochs = _epochs_axis(panel, history)
    look: dict[str, Any] = {"marker": "o", "markersize": 4 if len(history) <= 40 else 1}
    panel.plot(epochs, _values(history, key), "--", color=BLUE, label="training", **look)
    validation = _values(history, f"val_{key}")
    pad = _mark_stages(panel, history)
    if np.isfinite(validation).any():
        panel.plot(epochs, validation, "-", color=ORANGE, label="validation", **look)
    for value in validation[(epochs == best_epoch) & np.isfinite(validation)]:
        ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 2}
        panel.plot([best_epoch], [value], "o", color=ORANGE, label="weights kept", **ring)
        told = f"validation {value:.3f} in epoch {best_epoch}"
        panel.set_title(told, loc="right", pad=pad, color=ORANGE, fontsize=SMALL)
    panel.set_title(key, pad=pad)
    panel.legend(loc="best")


def rate_panel(panel: Axes, history: History) -> None:
    """Draw the learning rate over the epochs, of which there is at least one."""
    rates = _values(history, "learning_rate")
    panel.plot(_epochs_axis(panel, history), rates, color=GREEN, drawstyle="steps-mid")
    if np.nanmin(rates) > 0 and np.nanmax(rates) > 5 * np.nanmin(rates):
        panel.set_yscale("log")
    else:
        panel.set_ylim(0, 1.15 * np.nanmax(rates))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    panel.set_title("learning rate", pad=_mark_stages(panel, history))


def _epochs_axis(panel: Axes, history: History) -> NDArray[np.int64]:
    """Let a panel's width be the epochs, and return them."""
    epochs = np.array([row["epoch"] for row in history])
    panel.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    panel.margins(y=0.1)
    panel.grid(axis="y")
    return epochs


def _mark_stages(panel: Axes, history: History) -> float:
    """Mark where stages begin, where there are several; return the room below the title, points."""
    stages = [(n, len(list(rows))) for n, rows in itertools.groupby(r["stage"] for r in history)]
    if len(stages) < 2:
        return PAD
    figure, grid = panel.get_figure(root=True), panel.get_gridspec()
    assert figure is not None
    assert grid is not None
    room = 0.82 * figure.get_figwidth() * DPI / grid.ncols  # Pixels, about a panel's width.
    line = 1.4 * SMALL
    ends: list[float] = []  # Of each row of names: where its last name ends.
    starts = itertools.accumulate([0, *(length for _, length in stages[:-1])])
    for start, (stage, _) in zip(starts, stages, strict=True):
        name = str(stage)
        if start:
            edge = history[start]["epoch"] - 0.5
            panel.axvline(edge, color=FAINT, lw=1, ls=":", gid="stage")
        width = (text_width(name, SMALL) + 2 * GAP) / room
        left = max(0.0, min(start / len(history), 1 - width))
        row = next((row for row, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [left + width]
        where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        where["xytext"] = (0, 4 + row * line)
        panel.annotate(name, (left, 1), color=FAINT, fontsize=SMALL, **where)
    return PAD + line * len(ends)


def _values(history: History, key: str) -> NDArray[np.float64]:
    """Return a figure by epoch, NaN where there is none."""
    return np.array([np.nan if row.get(key) is None else row[key] for row in history], dtype=float)
