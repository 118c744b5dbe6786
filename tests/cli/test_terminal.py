"""What the commands print: whole in a pipe, and to the letter."""

from __future__ import annotations

import json
import sys

import pytest

from toolkit.cli import terminal


def test_a_table_in_a_pipe_is_not_cut_to_a_screens_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal.print_table("Title", ["<a", "b"], [("x" * 100, "y" * 40)], note="n" * 200)
    told = capsys.readouterr().out
    for whole in ("x" * 100, "y" * 40, "n" * 200):
        assert whole in told


def test_numbers_are_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    row = ("a long name of a stage", "in words that can be broken", "1234.56", "83.17 %")
    terminal.print_table("Title", ["<stage", "<unit", "a long heading", "share"], [row])
    told = capsys.readouterr().out
    assert "1234.56" in told
    assert "83.17 %" in told


@pytest.mark.parametrize(("name", "coloured"), [("NO_COLOR", False), ("FORCE_COLOR", True)])
def test_colours_are_as_the_user_wants_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, coloured: bool
) -> None:
    for each in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: not coloured)
    terminal.print_table("Title", ["a"], [(1,)])
    assert ("\x1b[" in capsys.readouterr().out) == coloured


def test_square_brackets_are_not_taken_for_colours(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table("[red]", ["<[b]"], [("pip install 'toolkit[cuda]'",)], note="[/b]")
    told = capsys.readouterr().out
    for word in ("[red]", "[b]", "toolkit[cuda]", "[/b]"):
        assert word in told


def test_an_empty_cell_is_empty_and_zero_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table("", ["a", "b"], [(None, 0)])
    assert capsys.readouterr().out.splitlines()[-2].split() == ["0"]


def test_json_keeps_what_people_write(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({"Käfer": "車"})
    told = capsys.readouterr().out
    assert "Käfer" in told
    assert json.loads(told) == {"Käfer": "車"}


def test_figures_that_are_not_there_are_dashes() -> None:
    assert terminal.percent(None) == terminal.interval(None) == terminal.figure(None) == "-"
    assert terminal.interval([]) == "-"


def test_figures_are_written_alike() -> None:
    assert terminal.percent(0.91876) == "91.88 %"
    assert terminal.percent(0.0) == "0.00 %"
    assert terminal.percent(1.0, 1) == "100.0 %"
    assert terminal.interval((0.8123, 0.9)) == "81.2 .. 90.0"
    assert terminal.figure(0.0) == "0.0000"
    assert terminal.figure(12.345, 1) == "12.3"
