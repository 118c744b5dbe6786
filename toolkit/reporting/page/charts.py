"""The charts of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from toolkit.inference.bundle import VotingTable
from toolkit.reporting.page.figures import ReliabilityBin
from toolkit.reporting.page.svg import INK, LINES, MUTED, SERIES, Chart, chart, drawn

SMALL = 8.5


def history_charts(
    history: Sequence[Mapping[str, Any]], label: str, best_epoch: int
) -> tuple[Chart, ...]:
    """Draw accuracy, loss and learning rate over the epochs, with stages and best epoch marked."""
    if not history:
        return ()
    epochs = np.array([row["epoch"] for row in history])
    charts = []
    kept = epochs == best_epoch
    for key in ("accuracy", "loss"):
        training, validation = _values(history, key), _values(history, f"val_{key}")
        words = f"{label}: {key} on training photos ends at {training[-1]:.3f}"
        with drawn((4.2, 2.9)) as figure:
            panel = _panel(figure, key)
            look: Any = {"marker": "o", "markersize": 3.5 if len(history) <= 40 else 0}
            panel.plot(epochs, training, "--", color=SERIES[0], label="training", **look)
            if np.isfinite(validation).any():
                panel.plot(epochs, validation, color=SERIES[1], label="held out", **look)
                panel.plot(
                    epochs[kept],
                    validation[kept],
                    "o",
                    color=SERIES[1],
                    markersize=9,
                    markerfacecolor="none",
                    markeredgewidth=1.6,
                )
                words += "".join(
                    f"; on held-out photos it is {value:.3f} in epoch {best_epoch}, whose weights "
                    "were kept"
                    for value in validation[kept]
                )
            _mark_stages(panel, history)
            _epochs(panel, epochs)
            panel.legend(loc="best", labelcolor=INK)
            charts.append(chart(figure, f"{label} {key}", words))
    rates = _values(history, "learning_rate")
    with drawn((4.2, 2.9)) as figure:
        panel = _panel(figure, "learning rate")
        panel.plot(epochs, rates, color=SERIES[2], drawstyle="steps-mid")
        if np.nanmin(rates) > 0 and np.nanmax(rates) > 5 * np.nanmin(rates):
            panel.set_yscale("log")
        else:
            panel.set_ylim(0, 1.15 * np.nanmax(rates))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        _mark_stages(panel, history)
        _epochs(panel, epochs)
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
    fast = [row for row in table if row["way"].startswith("fast")]
    others = [row for row in table if not row["way"].startswith("fast")]
    with drawn((6.4, 4.2)) as figure:
        panel = _panel(figure, "labels other than the exact ensemble's, %")
        if fast:
            panel.plot(
                [row["ms"] for row in fast],
                [100 * (1 - row["agreement"]) for row in fast],
                "o-",
                color=SERIES[0],
                markersize=4.5,
                label="fast plans, careful to bold",
            )
        places: dict[tuple[float, float], list[str]] = {}
        for row in others:
            place = (round(row["ms"], 3), round(100 * (1 - row["agreement"]), 3))
            places.setdefault(place, []).append(row["way"])
        for place, ways in places.items():
            exact = "exact" in ways
            colour = INK if exact else SERIES[1]
            panel.plot(*place, marker="D" if exact else "s", markersize=5, color=colour)
        panel.set_xscale("log")
        panel.set_yscale("symlog", linthresh=2)
        panel.set_ylim(-0.3, 150)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:g}"[0] in "25" else "")
        panel.set_xlabel("inference, ms a photo (logarithmic)")
        panel.grid(visible=True, axis="x")
        if fast:
            panel.legend(loc="upper right", labelcolor=INK)
        _name_places(figure, panel, {place: ", ".join(ways) for place, ways in places.items()})
        exact_ms = max(row["ms"] for row in table)
        words = (
            f"Cost against agreement: the exact ensemble takes {exact_ms:.1f} ms a photo; "
            + "; ".join(f"{r['way']} {r['ms']:.1f} ms, {r['agreement']:.1%} equal" for r in others)
        )
        return chart(figure, "cost", words)


def _panel(figure: Figure, title: str) -> Axes:
    panel = figure.add_subplot()
    panel.set_title(title, pad=9)
    panel.grid(axis="y")
    panel.tick_params(length=0)
    panel.spines["left"].set_visible(False)
    return panel


def _epochs(panel: Axes, epochs: NDArray[np.int64]) -> None:
    panel.set(xlabel="epoch", xlim=(epochs[0] - 0.4, epochs[-1] + 0.4))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def _mark_stages(panel: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """Mark where stages begin by their numbers, where there are several."""
    names = [row["stage"] for row in history]
    starts = [n for n, name in enumerate(names) if n == 0 or name != names[n - 1]]
    if len(starts) < 2:
        return
    panel.set_title(panel.get_title(loc="left"), pad=20)
    for number, start in enumerate(starts, start=1):
        edge = history[start]["epoch"] - 0.5
        if start:
            panel.axvline(edge, color=MUTED, linewidth=0.9, linestyle=":")
        panel.annotate(
            f"stage {number}" if start == 0 else str(number),
            (edge, 1),
            xycoords=("data", "axes fraction"),
            xytext=(1, 4),
            textcoords="offset points",
            fontsize=SMALL,
            color=MUTED,
        )


def _name_places(figure: Figure, panel: Axes, names: Mapping[tuple[float, float], str]) -> None:
    """Write names beside points where there is room; what finds none stands in the table."""
    figure.draw_without_rendering()  # Before that, no point has a place on paper.
    scale = 72 / figure.dpi
    centres = {place: np.asarray(panel.transData.transform(place)) * scale for place in names}
    border = np.asarray(panel.get_window_extent().extents) * scale
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in centres.values()]
    for place, name in names.items():
        x, y = centres[place]
        wide, high = 0.6 * SMALL * len(name), 1.15 * SMALL
        for side, below in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            left = x + 6 if side > 0 else x - 6 - wide
            bottom = y - 6 - high if below else y + 4
            box = (left, bottom, left + wide, bottom + high)
            inside = box[0] >= border[0] and box[2] <= border[2] and box[1] >= border[1]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                panel.annotate(
                    name,
                    place,
                    xytext=(6 * side, -6 if below else 4),
                    textcoords="offset points",
                    ha="left" if side > 0 else "right",
                    va="top" if below else "bottom",
                    fontsize=SMALL,
                    color=MUTED,
                )
                break


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    return not apart


def _values(history: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([np.nan if row.get(key) is None else row[key] for row in history], dtype=float)
