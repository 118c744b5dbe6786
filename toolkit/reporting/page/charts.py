"""The charts of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from toolkit.inference.bundle import VotingTable
from toolkit.reporting.page.figures import ReliabilityBin
from toolkit.reporting.page.svg import INK, LINES, MUTED, SERIES, Chart, chart, drawn
from toolkit.reporting.plots import (
    Palette,
    draw_costs,
    draw_history,
    epochs_axis,
    mark_stages,
    name_ways,
    stages,
    values,
)

PALETTE = Palette(INK, MUTED, SERIES[0], SERIES[1], small=8.5)
PAD = 9
"""Points between a title and its panel."""


def history_charts(
    history: Sequence[Mapping[str, Any]], label: str, best_epoch: int
) -> tuple[Chart, ...]:
    """Draw accuracy, loss and learning rate over the epochs, with stages and best epoch marked."""
    if not history:
        return ()
    names = [f"stage {n}" if n == 1 else str(n) for n, _ in enumerate(stages(history), start=1)]
    kept = np.array([row["epoch"] == best_epoch for row in history])
    charts = []
    for key in ("accuracy", "loss"):
        with drawn((4.2, 2.9)) as figure:
            panel = _panel(figure, key)
            held_out = draw_history(panel, history, key, "held out", PALETTE)[kept]
            panel.plot(
                [best_epoch] * len(held_out),
                held_out,
                "o",
                color=SERIES[1],
                markersize=9,
                markerfacecolor="none",
                markeredgewidth=1.6,
            )
            panel.set_title(key, pad=PAD + mark_stages(panel, history, names, PALETTE))
            panel.legend(loc="best", labelcolor=INK)
            words = f"{label}: {key} on training photos ends at {history[-1][key]:.3f}" + "".join(
                f"; on held-out photos it is {value:.3f} in epoch {best_epoch}, whose weights were "
                "kept"
                for value in held_out
                if np.isfinite(value)
            )
            charts.append(chart(figure, f"{label} {key}", words))
    rates = values(history, "learning_rate")
    with drawn((4.2, 2.9)) as figure:
        panel = _panel(figure, "learning rate")
        epochs = epochs_axis(panel, history)
        panel.plot(epochs, rates, color=SERIES[2], drawstyle="steps-mid")
        if np.nanmin(rates) > 0 and np.nanmax(rates) > 5 * np.nanmin(rates):
            panel.set_yscale("log")
        else:
            panel.set_ylim(0, 1.15 * np.nanmax(rates))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        panel.set_title("learning rate", pad=PAD + mark_stages(panel, history, names, PALETTE))
        words = f"{label}: learning rate from {rates[0]:.2g} to {rates[-1]:.2g}"
        charts.append(chart(figure, f"{label} rate", words))
    return tuple(charts)


def sizes_chart(sizes: Sequence[tuple[int, int]]) -> Chart:
    """Draw how wide and high photos are, given as (width, height) in pixels, at least one."""
    wide, high = np.array(sizes, dtype=float).T
    counts, columns, rows = np.histogram2d(wide, high, bins=24)
    with drawn((5.2, 3.6)) as figure:
        panel = _panel(figure, "width and height of the photos, pixels")
        which = np.argwhere(counts > 0)
        many = counts[which[:, 0], which[:, 1]]
        panel.scatter(
            (columns[which[:, 0]] + columns[which[:, 0] + 1]) / 2,
            (rows[which[:, 1]] + rows[which[:, 1] + 1]) / 2,
            s=8 + 220 * many / many.max(),
            color=SERIES[0],
            alpha=0.55,
            linewidth=0,
        )
        panel.set(xlabel="width", ylabel="height")
        panel.margins(0.12)
        words = (
            f"{len(sizes)} photos, {wide.min():.0f} to {wide.max():.0f} pixels wide and "
            f"{high.min():.0f} to {high.max():.0f} high; larger dots are more photos"
        )
        return chart(figure, "sizes", words)


def reliability_chart(
    before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin], errors: tuple[float, float]
) -> Chart:
    """Draw accuracy against confidence, before and after the temperature."""
    with drawn((4.6, 4.2)) as figure:
        panel = _panel(figure, "how often it is right, by how sure it is")
        panel.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1.2, label="as sure as right")
        for bins, colour, name in ((before, SERIES[1], "before"), (after, SERIES[0], "after")):
            panel.plot(
                [each.confidence for each in bins],
                [each.accuracy for each in bins],
                "-",
                color=colour,
                linewidth=1.2,
                alpha=0.7,
            )
            most = max((each.photos for each in (*before, *after)), default=1)
            panel.scatter(
                [each.confidence for each in bins],
                [each.accuracy for each in bins],
                s=[14 + 110 * each.photos / most for each in bins],
                color=colour,
                linewidth=0,
                label=f"{name} temperature",
            )
        panel.set(xlim=(-0.02, 1.03), ylim=(-0.02, 1.05), xlabel="confidence", ylabel="accuracy")
        legend = panel.legend(loc="upper left", labelcolor=INK)
        for handle in legend.legend_handles[1:]:
            handle.set_sizes([40])  # type: ignore[union-attr]
        words = (
            f"Reliability: calibration error {errors[0]:.3f} before and {errors[1]:.3f} after the "
            "temperature; larger dots are more photos"
        )
        return chart(figure, "reliability", words)


def views_chart(voting: Mapping[int, VotingTable], chosen: int) -> Chart | None:
    """Draw cross-fitted accuracy by number of views; None where there is none."""
    counts = [n for n in sorted(voting) if voting[n].best_single]
    if not counts:
        return None
    lines = {
        "best alone": [voting[n].best_single["accuracy"] for n in counts],
        "uniform": [voting[n].alternatives["uniform"].accuracy for n in counts],
        "fitted": [voting[n].alternatives["fitted"].accuracy for n in counts],
    }
    with drawn((5.6, 3.4)) as figure:
        panel = _panel(figure, "accuracy by number of views, %")
        panel.axvline(chosen, color=LINES, linewidth=7, zorder=0)
        look = ((SERIES[2], ":", "s"), (SERIES[1], "--", "D"), (SERIES[0], "-", "o"))
        for (name, values), (colour, style, mark) in zip(lines.items(), look, strict=True):
            percents = [100 * float(value) for value in values if value is not None]
            panel.plot(counts, percents, style, color=colour, marker=mark, markersize=4, label=name)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("views a photo")
        panel.legend(loc="best", labelcolor=INK)
        words = f"Accuracy by number of views; {chosen} were used. " + "; ".join(
            f"{name}: " + ", ".join(f"{value:.1%}" for value in values if value is not None)
            for name, values in lines.items()
        )
        return chart(figure, "views", words)


def cost_chart(table: Sequence[Mapping[str, Any]]) -> Chart:
    """Draw ways to predict: inference cost against labels unlike the exact ensemble's."""
    others = [row for row in table if not row["way"].startswith("fast")]
    with drawn((6.4, 4.2)) as figure:
        panel = _panel(figure, "labels other than the exact ensemble's, %")
        draw_costs(panel, table, PALETTE)
        name_ways(panel, table, PALETTE)
        exact_ms = max(row["ms"] for row in table)
        words = (
            f"Cost against agreement: the exact ensemble takes {exact_ms:.1f} ms a photo; "
            + "; ".join(f"{r['way']} {r['ms']:.1f} ms, {r['agreement']:.1%} equal" for r in others)
        )
        return chart(figure, "cost", words)


def _panel(figure: Figure, title: str) -> Axes:
    panel = figure.add_subplot()
    panel.set_title(title, pad=PAD)
    panel.grid(axis="y")
    panel.tick_params(length=0)
    panel.spines["left"].set_visible(False)
    return panel
