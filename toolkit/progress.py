"""How long work tells how far it is: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.console import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, TaskID

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
            print(printable(line), file=sys.stderr, flush=True)

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
        with Works(self) as works:
            works.hear("", Began(work, total, unit, tell_end))
            yield lambda count: works.hear("", Advanced(count))
            works.hear("", Ended())


@dataclass(frozen=True)
class Said:
    """A line for people, from another process."""

    line: str


@dataclass(frozen=True)
class Began:
    """Work begins; for the fields see `Reporter.track`."""

    work: str
    total: int
    unit: str
    tell_end: bool


@dataclass(frozen=True)
class Advanced:
    """So many units more are done."""

    count: int


@dataclass(frozen=True)
class Ended:
    """The work is done."""


Message = Said | Began | Advanced | Ended


@dataclass(frozen=True)
class Relayed(Reporter):
    """Sends what it has to say to a process that shows the work of several: see `Works`.

    Attributes:
        send: Takes one message to that process.
    """

    send: Callable[[Message], None] = lambda message: None

    def say(self, line: str) -> None:
        """Send one line."""
        if not self.quiet:
            self.send(Said(line))

    @contextmanager
    def track(
        self, work: str, total: int, unit: str = "photos", *, tell_end: bool = True
    ) -> Iterator[Advance]:
        """Follow work of a known length; for the arguments see `Reporter.track`."""
        if self.quiet or total == 0:
            yield lambda count: None
            return
        self.send(Began(work, total, unit, tell_end))
        yield lambda count: self.send(Advanced(count))
        self.send(Ended())


class Works(AbstractContextManager["Works"]):
    """Shows works that go on at the same time: a bar for each, or lines that begin with its name.

    Everything is shown by the thread that calls `hear`.
    """

    def __init__(self, reporter: Reporter) -> None:
        """Show nothing yet.

        Args:
            reporter: Says the lines.
        """
        self._reporter = reporter
        self._bars = _Bars() if is_terminal() and not reporter.quiet else None
        self._logs: dict[str, _Log] = {}

    def __exit__(self, *raised: object) -> None:
        if self._bars:
            self._bars.close()

    def hear(self, source: str, message: Message) -> None:
        """Show a message.

        Args:
            source: Which of the processes, or other sources, it is from. Each has one work at a
                time.
            message: What it has to say.
        """
        match message:
            case Said(line):
                self._reporter.say(line)
            case Began():
                self._begin(source, message)
            case Advanced(count):
                self._advance(source, count)
            case Ended():
                self._end(source)

    def forget(self, source: str) -> None:
        """Remove what is left of a source that has ended, perhaps in the middle of its work."""
        if self._logs.pop(source, None) and self._bars:
            self._bars.remove(source)

    def _begin(self, source: str, began: Began) -> None:
        self._logs[source] = _Log(self._reporter, began)
        if self._bars:
            self._bars.add(source, began)

    def _advance(self, source: str, count: int) -> None:
        if self._bars:
            self._logs[source].count(count)
            self._bars.advance(source, count)
        else:
            self._logs[source].advance(count)

    def _end(self, source: str) -> None:
        log = self._logs[source]
        self.forget(source)
        if log.tell_end and (self._reporter.verbose or log.spoken):
            self._reporter.say(log.end)


SILENT = Reporter(quiet=True)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: '1 photo', '2 photos'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def is_terminal() -> bool:
    """Whether standard error is a terminal that a bar can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


class _Bars:
    """Bars on the terminal, one below the other, which vanish when they are closed."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._console = Console(stderr=True)
        self._bars = Progress(console=self._console, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._widest = 0

    def add(self, source: str, began: Began) -> None:
        if began.total > self._widest:
            self._widest = began.total
            self._bars.columns = tuple(_columns(self._console, began.total))
        self._tasks[source] = self._bars.add_task(
            printable(began.work), total=began.total, unit=began.unit
        )
        self._bars.start()  # Once; later calls change nothing.

    def advance(self, source: str, count: int) -> None:
        self._bars.advance(self._tasks[source], count)

    def remove(self, source: str) -> None:
        self._bars.refresh()  # Its last numbers are seen, however fast it was.
        self._bars.remove_task(self._tasks.pop(source))

    def close(self) -> None:
        self._bars.stop()


def _columns(console: Console, total: int) -> list[ProgressColumn | str]:
    """Return what bars show; what they are about is cut on a narrow terminal, numbers never.

    Args:
        console: The terminal.
        total: The largest number of units of all bars.
    """
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
        progress.TextColumn("{task.fields[unit]}"),
        numbers[1],
        progress.TimeElapsedColumn(),
        numbers[2],
    ]


class _Log:
    """Lines about one work, for a file."""

    def __init__(self, reporter: Reporter, began: Began) -> None:
        self._reporter, self.tell_end = reporter, began.tell_end
        self._work, self._total, self._unit = began.work, began.total, began.unit
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
