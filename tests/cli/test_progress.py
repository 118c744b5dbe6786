"""Progress: a bar on a terminal, lines in a file, nothing where it would only be noise."""

from __future__ import annotations

import io
import pickle
import sys

import pytest

from toolkit import progress
from toolkit.progress import Advanced, Began, Ended, Relayed, Reporter, Said, Works, counted


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


class TestInAFile:
    def test_short_work_says_nothing(self, clock: Clock, capsys) -> None:
        with Reporter(quiet=False).track("work", 10) as advance:
            for _ in range(10):
                clock.now += 0.4
                advance(1)
        assert capsys.readouterr().err == ""

    def test_long_work_tells_rate_time_left_and_end(self, clock: Clock, capsys) -> None:
        with Reporter(quiet=False).track("work", 40) as advance:
            for _ in range(40):
                clock.now += 1
                advance(1)
        assert capsys.readouterr().err.splitlines() == [
            "work: 5/40 photos, 1.0/s, 35 s left",
            "work: 25/40 photos, 1.0/s, 15 s left",
            "work: 40 photos in 40 s, 1.0/s",
        ]

    def test_hours_are_hours(self, clock: Clock, capsys) -> None:
        with Reporter(quiet=False).track("work", 1000, "steps") as advance:
            clock.now += 9
            advance(1)
            clock.now += 130
            advance(1)
        _, line, last = capsys.readouterr().err.splitlines()
        assert line == "work: 2/1000 steps, 0.0/s, 36:02 h left"
        assert last == "work: 2 steps in 2:19 min, 0.0/s"

    def test_the_first_tells_nothing_of_the_rest(self, clock: Clock, capsys) -> None:
        """It loads and compiles: a minute for the first step is not hours for an epoch."""
        with Reporter(quiet=False).track("work", 100, "steps") as advance:
            clock.now += 60
            advance(1)
            for _ in range(20):
                clock.now += 1
                advance(1)
        assert capsys.readouterr().err.splitlines()[:2] == [
            "work: 1/100 steps",
            "work: 21/100 steps, 1.0/s, 79 s left",
        ]

    def test_a_caller_may_tell_the_end_itself(self, clock: Clock, capsys) -> None:
        with Reporter(quiet=False).track("work", 2, tell_end=False) as advance:
            clock.now += 9
            advance(1)
        assert capsys.readouterr().err == "work: 1/2 photos\n"

    def test_verbose_tells_what_short_work_took_and_quiet_nothing(
        self, clock: Clock, capsys
    ) -> None:
        for reporter in (Reporter(quiet=False, verbose=True), Reporter(), Reporter(quiet=True)):
            reporter.detail("a detail")
            with reporter.track("work", 2) as advance:
                clock.now += 0.5
                advance(2)
        assert capsys.readouterr().err == "a detail\nwork: 2 photos in 0.5 s, 4.0/s\n"

    def test_details_are_for_those_who_ask(self, capsys) -> None:
        Reporter(quiet=False).detail("a detail")
        assert capsys.readouterr().err == ""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestOnATerminal:
    @pytest.fixture
    def screen(self, monkeypatch: pytest.MonkeyPatch) -> Screen:
        made = Screen()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
        return made

    @pytest.mark.parametrize("width", [34, 50, 80, 200])
    def test_numbers_are_whole_at_any_width(
        self, screen: Screen, monkeypatch: pytest.MonkeyPatch, width: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stderr", screen)  # Not in the fixture: pytest sets its own.
        with Reporter(quiet=False).track("looking at all of them", 15_561) as advance:
            advance(15_561)
        drawn = screen.getvalue()
        assert "15561/15561" in drawn
        assert "/s" in drawn
        assert "0:00:00" in drawn
        assert ("photos" in drawn) == (width >= progress.NARROW)

    def test_a_dumb_terminal_gets_lines(
        self, screen: Screen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setattr(sys, "stderr", screen)
        with Reporter(quiet=False).track("work", 2) as advance:
            advance(2)
        assert screen.getvalue() == ""


class TestOfSeveral:
    """Works of several processes, shown in one."""

    def test_lines_say_whose_they_are(self, clock: Clock, capsys) -> None:
        with Works(Reporter(quiet=False)) as works:
            for name, total in (("a", 40), ("b", 80)):
                works.hear(name, Began(f"{name} epoch 1", total, "steps", tell_end=False))
            for _ in range(6):
                clock.now += 1
                works.hear("a", Advanced(1))
                works.hear("b", Advanced(2))
            works.hear("b", Said("b is sure"))
            works.hear("a", Ended())
        assert capsys.readouterr().err.splitlines() == [
            "a epoch 1: 5/40 steps, 1.0/s, 35 s left",
            "b epoch 1: 10/80 steps, 2.0/s, 35 s left",
            "b is sure",
        ]

    def test_one_that_ends_in_the_middle_is_forgotten(self, clock: Clock, capsys) -> None:
        with Works(Reporter(quiet=False)) as works:
            works.hear("a", Began("a", 40, "steps", tell_end=True))
            works.forget("a")
            works.forget("never seen")
            works.hear("a", Began("a again", 2, "steps", tell_end=True))
            clock.now += 9
            works.hear("a", Advanced(1))
        assert capsys.readouterr().err == "a again: 1/2 steps\n"

    def test_each_has_a_bar_and_lines_stand_above(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = Screen()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "stderr", screen)
        with Works(Reporter(quiet=False)) as works:
            works.hear("a", Began("a epoch 1", 40, "steps", tell_end=False))
            works.hear("b", Began("b epoch 7", 12345, "photos", tell_end=False))
            works.hear("a", Advanced(39))
            works.hear("b", Advanced(12344))
            works.hear("a", Said("a has something to say"))
            works.hear("a", Ended())
        shown = screen.getvalue()
        last = shown[shown.index("a has something to say") :]
        assert "39/40" in last
        assert "12344/12345" in last
        assert last.index("a epoch 1") < last.index("b epoch 7")

    def test_what_is_relayed_is_what_would_be_told(self, clock: Clock, capsys) -> None:
        def work(reporter: Reporter) -> None:
            reporter.say("a line")
            reporter.detail("a detail")
            with reporter.track("work", 40) as advance:
                for _ in range(40):
                    clock.now += 1
                    advance(1)

        for shown in (Reporter(quiet=False), Reporter(quiet=False, verbose=True), Reporter()):
            work(shown)
            direct = capsys.readouterr().err
            with Works(shown) as works:
                work(Relayed(shown.quiet, shown.verbose, lambda told: works.hear("", told)))
            assert capsys.readouterr().err == direct


def test_a_reporter_can_be_sent_to_another_process() -> None:
    reporter = Reporter(quiet=False, verbose=True)
    assert pickle.loads(pickle.dumps(reporter)) == reporter


def test_one_is_not_many() -> None:
    assert [counted(count, "photo") for count in (0, 1, 2)] == ["0 photos", "1 photo", "2 photos"]
