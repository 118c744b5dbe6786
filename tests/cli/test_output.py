"""What the command writes to its standard streams, whatever they lead to and names contain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.console import printable

COMMAND = f"'{sys.executable}' -c 'from toolkit.cli.main import main; main()'"


def typed(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line in bash, where `toolkit` is the command."""
    script = f'set -o pipefail; toolkit() {{ {COMMAND} "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("invoice\u202egpj.exe", r"invoice\u202egpj.exe"),
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("over\rwritten", r"over\x0dwritten"),
        ("caf\udce9", r"caf\xe9"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_names_cannot_steer_the_terminal(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.parametrize("name", ["Käfer", "車", "a\tb\nc", "می‌خواهم", "👩‍🚒", "\\x1b"])
def test_names_of_all_scripts_stay_as_they_are(name: str) -> None:
    assert printable(name) == name


def test_an_error_shows_a_hostile_name_escaped() -> None:
    ended = typed("toolkit data --data $'\\e[31mred'")
    assert ended.returncode == 1
    assert rb"\x1b[31mred" in ended.stderr
    assert b"\x1b" not in ended.stderr


def test_a_refused_word_is_shown_escaped() -> None:
    ended = typed("toolkit $'\\u202ed' ; toolkit recipes --$'\\e'x")
    assert ended.returncode == 2
    assert "\u202e" not in ended.stderr.decode()
    assert b"\x1b" not in ended.stderr


def test_json_escapes_what_could_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from toolkit.cli.terminal import print_json

    print_json({"name": "Käfer\u202e\x9b"})
    written = capsys.readouterr().out
    assert "\u202e" not in written
    assert "\x9b" not in written
    assert json.loads(written) == {"name": "Käfer\u202e\x9b"}


def test_output_that_nobody_reads_to_its_end_is_no_failure() -> None:
    assert typed("toolkit recipes | true").returncode == 141
    assert typed("toolkit --help | true").returncode == 141
    assert typed("toolkit recipes --json | true").returncode == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_but_what_is_seen(closed: str, tmp_path: Path) -> None:
    missing, copy = tmp_path / "missing", tmp_path / "copy"
    ended = typed(f"toolkit data --data '{missing}' {closed}")
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: ") == ("2>&-" not in closed)
    assert typed(f"toolkit recipes improved --copy '{copy}' {closed}").returncode == 0
    assert sorted(copy.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_on_a_full_disk_is_named() -> None:
    for arguments in ("recipes", "recipes --json", "recipes improved xception"):
        ended = typed(f"toolkit {arguments} > /dev/full")
        assert ended.returncode == 1
        assert ended.stderr.startswith(b"error: standard output: cannot be written (No space")


def test_an_ascii_terminal_gets_escapes(tmp_path: Path) -> None:
    ended = typed(f"toolkit data --data '{tmp_path}/Käfer'", PYTHONIOENCODING="ascii")
    assert ended.returncode == 1
    assert rb"K\xe4fer: no such folder" in ended.stderr
