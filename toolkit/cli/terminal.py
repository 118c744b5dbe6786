"""The one home of what the commands print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import click

from toolkit.console import printable
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.metrics import Metric

NARROWEST, FILE_WIDTH, MOST_WIDTH = 12, 160, 10_000
"""Columns of the narrowest column of words, of a table in a file, and of any table."""


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = ""
) -> None:
    """Print a table on standard output: framed on a terminal, plain in a file or pipe.

    Args:
        title: Stands above it.
        columns: Headings; one that starts with '<' is aligned to the left.
        rows: One sequence a row, as long as `columns`.
        note: Stands below it.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1, as if something had failed.

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    for index, heading in enumerate(columns):
        # On a narrow terminal words go on in the next line, numbers never.
        left, widest = heading.startswith("<"), max((len(row[index]) for row in cells), default=0)
        table.add_column(
            heading.removeprefix("<"),
            justify="left" if left else "right",
            overflow="fold",
            min_width=min(widest, NARROWEST) if left else widest,
        )
    for row in cells:
        table.add_row(*row)
    colours: Literal["auto"] | None = None if _no_colour() else "auto"
    console = Output(markup=False, highlight=False, color_system=colours)
    # A file has no width: what was measured there must not be cut to 80 characters.
    width = console.width if sys.stdout.isatty() else FILE_WIDTH
    wide = console.options.update_width(MOST_WIDTH)
    if console.measure(table, options=wide).maximum > width:
        # Only a column of a fixed width is never broken.
        for column in table.columns:
            if column.justify == "right":
                longest = max(map(len, str(column.header).split()), default=0)
                column.width = max(column.min_width or 0, longest)
    console.width = max(width, console.measure(table, options=wide).minimum)
    with _writable_output():
        if title:
            console.print(printable(title), style="bold", soft_wrap=True)
        console.print(table)
        if note:
            console.print(printable(note), soft_wrap=True)


def print_line(line: str) -> None:
    """Print one line on standard output."""
    with _writable_output():
        click.echo(printable(line))


def print_json(content: Any) -> None:
    """Print JSON on standard output; what could steer a terminal is escaped, as JSON escapes it."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(content, indent=2, ensure_ascii=not utf8)
    if printable(text) != text:
        text = json.dumps(content, indent=2)
    with _writable_output():
        click.echo(text)


def percent(share: float | None, digits: int = 2) -> str:
    """Write a share as a percentage, or a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def interval(bounds: Sequence[float] | None) -> str:
    """Write a confidence interval of a share as percentages."""
    return "-" if not bounds else f"{100 * bounds[0]:.1f} .. {100 * bounds[1]:.1f}"


def figure(value: float | None, digits: int = 4) -> str:
    """Write a number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def measured(metric: Metric, value: float | None) -> str:
    """Write the value of a metric: a percentage, or a number."""
    return percent(value) if metric.is_share else figure(value)


def measured_interval(metric: Metric, bounds: Sequence[float] | None) -> str:
    """Write the interval of a metric."""
    if not bounds or metric.is_share:
        return interval(bounds)
    return f"{bounds[0]:.3f} .. {bounds[1]:.3f}"


def doubts(found: Mapping[str, str]) -> list[str]:
    """Say of which figures the photos cannot carry them, a line for each reason.

    Args:
        found: Why, by what was scored; empty where they can.
    """
    named: dict[str, list[str]] = {}
    for name, reason in found.items():
        if reason:
            named.setdefault(reason, []).append(name)
    lines = []
    for reason, names in named.items():
        whose = f" of {', '.join(names)}" if len(names) < len(found) else ""
        lines.append(f"Do not rely on the figures{whose}: {reason}.")
    return lines


@contextmanager
def _writable_output() -> Iterator[None]:
    """Name standard output where writing to it fails, as on a full disk: the system does not."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ToolkitError(f"standard output: cannot be written ({error.strerror}).") from None


def _no_colour() -> bool:
    """Whether the user wants plain text (no-color.org): not even bold."""
    return bool(os.environ.get("NO_COLOR"))
