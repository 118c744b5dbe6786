"""Results go where a file can stand: never over a device, pipe or folder, and through a link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import ToolkitError
from toolkit.files import write_text

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


def other_than_file(folder: Path, kind: str) -> Path:
    path = folder / "submission.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        os.mkfifo(folder / "pipe")
        path.symlink_to(folder / "pipe")
    return path


KINDS = {
    "pipe": "is a named pipe",
    "folder": "is a folder",
    "device": "is a device",
    "link to a pipe": "is a named pipe",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["ensemble", "report", "export --fused"])
def test_what_is_no_file_is_refused_before_any_work(
    toolkit, home: Path, kind: str, command: str
) -> None:
    path = other_than_file(home, kind)
    option = [] if "--fused" in command else ["--out"]
    told = toolkit(*command.split(), *option, path.name)
    assert told.code == 2
    assert f"'{path.name}' {KINDS[kind]}, not a file." in told.err
    assert not (home / "submission.json").exists()
    assert path.is_symlink() == (kind in ("device", "link to a pipe"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_refuses_it_too(tmp_path: Path, kind: str) -> None:
    path = other_than_file(tmp_path, kind)
    with pytest.raises(ToolkitError, match=f"{path}: {KINDS[kind]}, and no file can be written"):
        write_text(path, "text")


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.csv"
    target.write_text("old", encoding="utf-8")
    for name, leads_to in (("link.csv", target), ("second.csv", tmp_path / "link.csv")):
        (tmp_path / name).symlink_to(leads_to)
        write_text(tmp_path / name, f"by {name}")
        assert (tmp_path / name).is_symlink()
        assert target.read_text(encoding="utf-8") == f"by {name}"
    assert [path.name for path in target.parent.iterdir()] == ["real.csv"]


def test_what_a_killed_process_left_over_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, living = tmp_path / f".a.{ended.pid:06x}01.csv", tmp_path / f".a.{os.getpid():06x}ff.csv"
    foreign = tmp_path / ".a.notahash.csv"
    for path in (left, living, foreign):
        path.write_text("half", encoding="utf-8")
    write_text(tmp_path / "a.csv", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([living, foreign, tmp_path / "a.csv"])


def test_a_link_that_leads_nowhere_yet_gets_its_file(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "new.csv")
    write_text(tmp_path / "link.csv", "text")
    assert (tmp_path / "new.csv").read_text(encoding="utf-8") == "text"
