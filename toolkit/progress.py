"""How long work tells how far it is: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

Advance = Callable[[int], None]

FIRST_LINE_S, LOG_INTERVAL_S = 5.0, 20.0
"""Seconds to the first line of a work where there is no terminal, and between two later ones."""

NARROW = 70
"""Columns of a terminal below which there is room for the numbers only, not for the bar."""

RATE_AND_TIME = len("  1234.5/s 0:00:00")
"""Columns that stand beside the numbers of such a narrow one."""


@dataclass(frozen=True)
class Reporter:
    """Says on standard error what goes on. It can be sent to another process.

    Attributes:
        quiet: Say nothing; the default for use from Python.
        verbose: Say details too, and what each work took.
    """

    quiet: bool = True
    verbose: bool = False

    def say(self, line: str) -> None:
        """Print one line."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def warn(self, line: str) -> None:
        """Print one line that a user must read even where they want no progress told."""
        print(f"warning: {line}", file=sys.stderr, flush=True)

    def detail(self, line: str) -> None:
        """Print one line that only a user who asked for details wants to read."""
        if self.verbose:
            self.say(line)

    @contextmanager
    def track(
        self, work: str, total: int, unit: str = "photos", *, tell_end: bool = True
    ) -> Iterator[Advance]:
        """Follow work of a known length.

        Where there is no terminal, work that is done within seconds says nothing.

        Args:
            work: What is being done, for people.
            total: How many units there are.
            unit: What one step is.
            tell_end: Whether to say what long work took; not where a line of the caller's does.

        Yields:
            A function to call with the number of units just done.
        """
        if self.quiet or total == 0:
            yield lambda count: None
            return
        log = _Log(self, work, total, unit)
        if is_terminal():
            with _terminal_bar(work, total, unit) as move:

                def advance(count: int) -> None:
                    move(count)
                    log.count(count)

                yield advance
        else:
            yield log.advance
        if tell_end and (self.verbose or log.spoken):
            self.say(log.end)


SILENT = Reporter(quiet=True)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: '1 photo', '2 photos'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def is_terminal() -> bool:
    """Whether standard error is a terminal that a bar can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


@contextmanager
def _terminal_bar(work: str, total: int, unit: str) -> Iterator[Advance]:
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = _columns(console, total, unit)
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(work, total=total)
        yield lambda count: bar.advance(task, count)


def _columns(console: Console, total: int, unit: str) -> list[ProgressColumn | str]:
    """Return what a bar shows; what it is about is cut on a narrow terminal, numbers never."""
    from rich import progress
    from rich.table import Column
    from rich.text import Text

    whole = Column(no_wrap=True, min_width=1)

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("-/s" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")

    numbers: list[ProgressColumn | str] = [
        progress.MofNCompleteColumn(table_column=whole),
        Rate(table_column=whole),
        progress.TimeRemainingColumn(table_column=whole),
    ]
    if console.width < NARROW:
        room = console.width - len(f"{total}/{total}") - RATE_AND_TIME
        name = progress.TextColumn(
            "{task.description}", table_column=Column(no_wrap=True, width=max(1, room))
        )
        return [name, *numbers]
    return [
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        numbers[0],
        progress.TextColumn(unit),
        numbers[1],
        progress.TimeElapsedColumn(),
        numbers[2],
    ]


class _Log:
    """Lines about one work, for a file."""

    def __init__(self, reporter: Reporter, work: str, total: int, unit: str) -> None:
        self._reporter, self._work, self._total, self._unit = reporter, work, total, unit
        self._started = time.monotonic()
        self._next = self._started + FIRST_LINE_S
        self._done = 0
        self._first: tuple[float, int] | None = None
        self.spoken = False

    def count(self, count: int) -> None:
        self._done += count

    def advance(self, count: int) -> None:
        self.count(count)
        now = time.monotonic()
        self._first = self._first or (now, self._done)
        if now >= self._next and self._done < self._total:
            self._next, self.spoken = now + LOG_INTERVAL_S, True
            pace = self._pace(now, *self._first)
            self._reporter.say(f"{self._work}: {self._done}/{self._total} {self._unit}{pace}")

    def _pace(self, now: float, since: float, then: int) -> str:
        """Say rate and time left, by what came after the first: that one loads and compiles too."""
        if self._done <= then or now <= since:
            return ""
        rate = (self._done - then) / (now - since)
        return f", {rate:.1f}/s, {_duration((self._total - self._done) / rate)} left"

    @property
    def end(self) -> str:
        """What it took, in words."""
        seconds = time.monotonic() - self._started
        unit = self._unit.removesuffix("s") if self._done == 1 else self._unit
        rate = f", {self._done / seconds:.1f}/s" if seconds > 0 else ""
        return f"{self._work}: {self._done} {unit} in {_duration(seconds)}{rate}"


def _duration(seconds: float) -> str:
    """Write seconds as a person says them: '4.2 s', '42 s', '3:05 min', '2:03 h'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
