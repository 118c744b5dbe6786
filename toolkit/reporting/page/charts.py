"""The charts of the page: drawn figures as inline SVG whose colours are the page's own.

The colours of `toolkit.reporting.style` become CSS variables, in both themes; text stays text, so
that it can be read aloud, found and copied.
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
from matplotlib.ticker import MaxNLocator

from toolkit.inference.bundle import VotingTable
from toolkit.inference.plan import CASCADE, Way
from toolkit.reporting.curves import History, curve_panel, rate_panel
from toolkit.reporting.page.figures import ReliabilityBin
from toolkit.reporting.pictures import cost_figure
from toolkit.reporting.style import BLUE, FAINT, GREEN, INK, LINES, ORANGE, STYLE

VARIABLES = {
    INK: "ink",
    FAINT: "muted",
    LINES: "line",
    **{colour: f"series-{number}" for number, colour in enumerate((BLUE, ORANGE, GREEN), start=1)},
}
"""The page's colour for each of a figure's."""

SAVED: Any = {"svg.fonttype": "none", "svg.hashsalt": "page"}


@dataclass(frozen=True)
class Chart:
    """A picture: the SVG element, and what it shows in words."""

    svg: str
    words: str


def history_charts(history: History, label: str, best_epoch: int) -> tuple[Chart, ...]:
    """Draw accuracy, loss and learning rate over the epochs."""
    if not history:
        return ()
    charts = []
    for key in ("accuracy", "loss"):
        with _drawn((3.8, 2.8)) as figure:
            curve_panel(figure.add_subplot(), history, key, best_epoch)
        words = f"{label}: {key} on training photos ends at {history[-1][key]:.3f}"
        kept = next(row for row in history if row["epoch"] == best_epoch)[f"val_{key}"]
        if kept is not None:
            words += (
                f"; on held-out photos it is {kept:.3f} in epoch {best_epoch}, whose weights were "
                "kept"
            )
        charts.append(_chart(figure, f"{label} {key}", words))
    with _drawn((3.8, 2.8)) as figure:
        rate_panel(figure.add_subplot(), history)
    first, last = (history[number]["learning_rate"] for number in (0, -1))
    words = f"{label}: learning rate from {first:.2g} to {last:.2g}"
    return (*charts, _chart(figure, f"{label} rate", words))


def sizes_chart(sizes: Sequence[tuple[int, int]]) -> Chart:
    """Draw how wide and high photos are, given as (width, height) in pixels, at least one."""
    wide, high = np.array(sizes, dtype=float).T
    counts, columns, rows = np.histogram2d(wide, high, bins=24)
    with _drawn((5.2, 3.6)) as figure:
        panel = _panel(figure, "width and height of the photos, pixels")
        which = np.argwhere(counts > 0)
        many = counts[which[:, 0], which[:, 1]]
        panel.scatter(
            (columns[which[:, 0]] + columns[which[:, 0] + 1]) / 2,
            (rows[which[:, 1]] + rows[which[:, 1] + 1]) / 2,
            s=8 + 220 * many / many.max(),
            color=BLUE,
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
    with _drawn((4.6, 4.2)) as figure:
        panel = _panel(figure, "how often it is right, by how sure it is")
        panel.plot([0, 1], [0, 1], ":", color=FAINT, linewidth=1.2, label="as sure as right")
        for bins, colour, name in ((before, ORANGE, "before"), (after, BLUE, "after")):
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
        legend = panel.legend(loc="upper left")
        for handle in legend.legend_handles[1:]:
            handle.set_sizes([40])  # type: ignore[union-attr]
        words = (
            f"Reliability: calibration error {errors[0]:.3f} before and {errors[1]:.3f} after the "
            "temperature; larger dots are more photos"
        )
        return _chart(figure, "reliability", words)


def views_chart(voting: Mapping[int, VotingTable], chosen: int) -> Chart | None:
    """Draw cross-fitted accuracy by number of views; None where there is none."""
    best = {n: table.best_single for n, table in sorted(voting.items()) if table.best_single}
    counts = list(best)
    if not counts:
        return None
    lines = {
        "best alone": [each.accuracy for each in best.values()],
        "uniform": [voting[n].alternatives["uniform"].accuracy for n in counts],
        "fitted": [voting[n].alternatives["fitted"].accuracy for n in counts],
    }
    with _drawn((5.6, 3.4)) as figure:
        panel = _panel(figure, "accuracy by number of views, %")
        panel.axvline(chosen, color=LINES, linewidth=7, zorder=0)
        look = ((GREEN, ":", "s"), (ORANGE, "--", "D"), (BLUE, "-", "o"))
        for (name, values), (colour, style, mark) in zip(lines.items(), look, strict=True):
            percents = [100 * float(value) for value in values if value is not None]
            panel.plot(counts, percents, style, color=colour, marker=mark, markersize=4, label=name)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("views a photo")
        panel.legend(loc="best")
        words = f"Accuracy by number of views; {chosen} were used. " + "; ".join(
            f"{name}: " + ", ".join(f"{value:.1%}" for value in values if value is not None)
            for name, values in lines.items()
        )
        return _chart(figure, "views", words)


def cost_chart(table: Sequence[Way]) -> Chart:
    """Draw ways to predict: inference cost against labels unlike the full ensemble's."""
    others = [row for row in table if not row.way.startswith(CASCADE)]
    full_ms = next(row.ms for row in table if row.way == "full")
    words = f"Cost against agreement: the full ensemble takes {full_ms:.1f} ms a photo; "
    words += "; ".join(f"{row.way} {row.ms:.1f} ms, {row.agreement:.1%} equal" for row in others)
    return _chart(cost_figure(table), "cost", words)


@contextmanager
def _drawn(size: tuple[float, float]) -> Iterator[Figure]:
    with matplotlib.rc_context(STYLE):
        yield Figure(size, layout="constrained")


def _panel(figure: Figure, title: str) -> Axes:
    panel = figure.add_subplot()
    panel.set_title(title)
    panel.grid(axis="y")
    return panel


def _chart(figure: Figure, name: str, words: str) -> Chart:
    """Make a chart of a figure.

    Args:
        figure: What was drawn.
        name: Unique on the page.
        words: What it shows.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({**STYLE, **SAVED}):
        nameless = {"Date": None, "Creator": None}
        figure.savefig(stream, format="svg", transparent=True, metadata=nameless)
    return Chart(_inline(stream.getvalue(), name, words), words)


def _inline(drawn: str, name: str, words: str) -> str:
    """Make a drawn SVG a part of the page: own ids, the page's colours and fonts, a title."""
    svg = drawn[drawn.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    # The page's own style sheet says this, and its policy admits no other.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
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
