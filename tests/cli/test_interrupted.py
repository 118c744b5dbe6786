"""Ctrl-C and SIGTERM: one line that says how to go on, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import click
import pytest
from PIL import Image

from toolkit.cli.main import COMMANDS, GO_ON, cli
from toolkit.inference.journal import ROWS

STARTED = "from toolkit.cli.main import main; main()"
GO_ON_LINE = "Interrupted. The same command goes on with the photos that are not answered yet."


def stopped_by(number: int, *command: str, when: Callable[[], bool], cwd: Path) -> tuple[int, str]:
    """Start a command, send a signal to its whole group once `when` holds, and see its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, *command],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = monotonic() + 60
    try:
        while not when():
            assert process.poll() is None, "it ended before it could be interrupted"
            assert monotonic() < deadline
            sleep(0.002)
        os.killpg(process.pid, number)
        told = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    return process.returncode, told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_ensemble_says_how_to_go_on_and_does(
    toolkit, home: Path, draw_photo: Callable[..., Image.Image], number: int
) -> None:
    rows = ["Id,Category"]
    for each in range(200):
        draw_photo(each, (40, 30)).save(home / "data" / "test_upload" / f"n{each}.png")
        rows.append(f"n{each}.png,2")
    (home / "data" / "sample-submission.csv").write_text("\n".join(rows), encoding="utf-8")
    command = ("ensemble", "--tta", "8", "--batch", "1", "--device", "cpu", "--quiet")
    written = home / ".submission.csv.partial" / ROWS
    code, told = stopped_by(
        number, *command, when=lambda: written.is_file() and written.stat().st_size > 0, cwd=home
    )
    assert (code, told.strip()) == (128 + number, GO_ON_LINE)
    assert {path.name for path in home.iterdir()} == {"bundle", "data", ".submission.csv.partial"}
    report = toolkit(*command, "--json").json
    assert report["resumed_photos"] > 0
    assert (report["rows"], written.parent.exists()) == (200, False)


def test_a_drawing_that_was_interrupted_leaves_nothing(here: Path) -> None:
    code, told = stopped_by(
        signal.SIGTERM,
        *("demo", "photos", "--train", "100", "--quiet"),
        when=lambda: any(here.glob(".photos.*/train/*/*.jpg")),
        cwd=here,
    )
    assert (code, told.strip()) == (143, "Interrupted. The same command starts over.")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "way"),
    [
        ("doctor", "The same command starts over."),
        (
            "train-all",
            "The same command, without --fresh, goes on from the last checkpoints.",
        ),
        (
            "reproduce",
            "With --keep, the same command goes on with the photos that are not answered yet; "
            "without, it starts over.",
        ),
    ],
)
def test_what_is_said_fits_the_command(
    toolkit, monkeypatch: pytest.MonkeyPatch, command: str, way: str
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    found = cli.get_command(click.Context(cli), command)
    monkeypatch.setattr(found, "callback", interrupted)
    told = toolkit(command)
    assert (told.code, told.out, told.err) == (130, "", f"Interrupted. {way}\n")


def test_what_goes_on_is_a_command() -> None:
    assert set(GO_ON) <= set(COMMANDS)


def test_signals_are_handed_back(toolkit) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    toolkit("--version")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
