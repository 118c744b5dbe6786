"""How long work tells how far it is: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Advance = Callable[[int], None]

LOG_INTERVAL_S = 20.0
"""Seconds between two lines of the same work where there is no terminal."""


@dataclass(frozen=True)
class Reporter:
    """Says on standard error what goes on. It can be sent to another process.

    Attributes:
        quiet: Say nothing; the default for use from Python.
    """

    quiet: bool = True

    def say(self, line: str) -> None:
        """Print one line."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    @contextmanager
    def track(self, work: str, total: int, unit: str = "photos") -> Iterator[Advance]:
        """Follow work of a known length.

        Args:
            work: What is being done, for people.
            total: How many units there are.
            unit: What one step is.

        Yields:
            A function to call with the number of units just done.
        """
        if self.quiet or total == 0:
            yield lambda count: None
        elif sys.stderr.isatty():
            with _terminal_bar(work, total, unit) as advance:
                yield advance
        else:
            yield _log_lines(self, work, total, unit)


SILENT = Reporter(quiet=True)


@contextmanager
def _terminal_bar(work: str, total: int, unit: str) -> Iterator[Advance]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn(unit),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(work, total=total)
        yield lambda count: bar.advance(task, count)


def _log_lines(reporter: Reporter, work: str, total: int, unit: str) -> Advance:
    started = spoken = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, spoken
        done += count
        now = time.monotonic()
        if now - spoken >= LOG_INTERVAL_S:
            spoken = now
            rate = done / (now - started)
            left = (total - done) / rate if rate else 0.0
            reporter.say(f"{work}: {done}/{total} {unit}, {rate:.1f}/s, {left:.0f} s left")

    return advance
