"""Charts as inline SVG whose colours are the page's own, in both themes.

They are drawn with stand-in colours, which become CSS variables; text stays text, so that it can be
read aloud, found and copied.
"""

from __future__ import annotations

import html
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from toolkit.inference.bundle import VotingTable
from toolkit.reporting.page.figures import ReliabilityBin
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
SMALL = 8.5


@dataclass(frozen=True)
class Chart:
    """A picture: the SVG element, and what it shows in words."""

    svg: str
    words: str


def history_charts(history: Sequence[Mapping[str, Any]], label: str) -> tuple[Chart, ...]:
    """Draw accuracy, loss and learning rate over the epochs, with stages marked."""
    if not history:
        return ()
    epochs = np.array([row["epoch"] for row in history])
    charts = []
    for key, best in (("accuracy", np.argmax), ("loss", np.argmin)):
        training, validation = _values(history, key), _values(history, f"val_{key}")
        words = f"{label}: {key} on training photos ends at {training[-1]:.3f}"
        with _figure((4.2, 2.9)) as figure:
            panel = _panel(figure, key)
            look: Any = {"marker": "o", "markersize": 3.5 if len(history) <= 40 else 0}
            panel.plot(epochs, training, "--", color=SERIES[0], label="training", **look)
            usable = np.flatnonzero(np.isfinite(validation))
            if len(usable):
                panel.plot(epochs, validation, color=SERIES[1], label="held out", **look)
                chosen = usable[best(validation[usable])]
                panel.plot(
                    [epochs[chosen]],
                    [validation[chosen]],
                    "o",
                    color=SERIES[1],
                    markersize=9,
                    markerfacecolor="none",
                    markeredgewidth=1.6,
                )
                words += (
                    f"; on held-out photos it is best, {validation[chosen]:.3f}, in epoch "
                    f"{epochs[chosen]}"
                )
            _mark_stages(panel, history)
            _epochs(panel, epochs)
            panel.legend(loc="best", labelcolor=INK)
            charts.append(_chart(figure, f"{label} {key}", words))
    rates = _values(history, "learning_rate")
    with _figure((4.2, 2.9)) as figure:
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
        charts.append(_chart(figure, f"{label} rate", words))
    return tuple(charts)


def sizes_chart(sizes: Sequence[tuple[int, int]]) -> Chart:
    """Draw how wide and high photos are, given as (width, height) in pixels, at least one."""
    wide, high = np.array(sizes, dtype=float).T
    counts, columns, rows = np.histogram2d(wide, high, bins=24)
    with _figure((5.2, 3.6)) as figure:
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
        return _chart(figure, "sizes", words)


def reliability_chart(
    before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin], errors: tuple[float, float]
) -> Chart:
    """Draw accuracy against confidence, before and after the temperature."""
    with _figure((4.6, 4.2)) as figure:
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
        return _chart(figure, "reliability", words)


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
    with _figure((5.6, 3.4)) as figure:
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
        return _chart(figure, "views", words)


def cost_chart(table: Sequence[Mapping[str, Any]]) -> Chart:
    """Draw ways to predict: inference cost against labels unlike the exact ensemble's."""
    fast = [row for row in table if row["way"].startswith("fast")]
    others = [row for row in table if not row["way"].startswith("fast")]
    with _figure((6.4, 4.2)) as figure:
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
        middle = float(np.sqrt(min(r["ms"] for r in table) * max(r["ms"] for r in table)))
        for place, ways in places.items():
            exact, right = "exact" in ways, place[0] > middle
            colour = INK if exact else SERIES[1]
            panel.plot(*place, marker="D" if exact else "s", markersize=5, color=colour)
            panel.annotate(
                ", ".join(ways),
                place,
                xytext=(-6 if right else 6, 7),
                ha="right" if right else "left",
                textcoords="offset points",
                fontsize=SMALL,
                color=MUTED,
            )
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
        exact_ms = max(row["ms"] for row in table)
        words = (
            f"Cost against agreement: the exact ensemble takes {exact_ms:.1f} ms a photo; "
            + "; ".join(f"{r['way']} {r['ms']:.1f} ms, {r['agreement']:.1%} equal" for r in others)
        )
        return _chart(figure, "cost", words)


@contextmanager
def _figure(size: tuple[float, float]) -> Iterator[Figure]:
    """Give a figure in the page's look, which has to hold until it is saved."""
    with matplotlib.rc_context(LOOK):
        yield Figure(size, layout="constrained")


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
    names = [row["stage"] for row in history]
    starts = [n for n, name in enumerate(names) if n == 0 or name != names[n - 1]]
    if len(starts) < 2:
        return
    for start in starts:
        edge = history[start]["epoch"] - 0.5
        if start:
            panel.axvline(edge, color=MUTED, linewidth=0.9, linestyle=":")
        panel.annotate(
            str(names[start]),
            (edge, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=7.5,
            color=MUTED,
        )


def _values(history: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([np.nan if row.get(key) is None else row[key] for row in history], dtype=float)


def _chart(figure: Figure, name: str, words: str) -> Chart:
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
