"""Only regular files of a bounded size are opened as photos; all else is one line, at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from toolkit.data.photo_file import MAX_BYTES, BrokenPhotoError, opened, photo_sha256
from toolkit.data.pixels import decode
from toolkit.data.survey import survey


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def a_link_without_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_a_folder(path: Path) -> None:
    path.symlink_to(path.parent)


def a_socket(path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # Names of sockets are short.
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def a_file_too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def empty(path: Path) -> None:
    path.touch()


KINDS = [
    (a_pipe, "is a named pipe, not a file"),
    (a_link_to_a_pipe, "is a named pipe, not a file"),
    (a_link_without_end, "is a device, not a file"),
    (a_terminal, "is a device, not a file"),
    (a_folder, "is a folder, not a file"),
    (a_link_to_a_folder, "is a folder, not a file"),
    (a_socket, "is a socket, not a file"),
    (a_file_too_large, "the file has 512 MiB, and photos of more than 512 are not read"),
    (a_loop, "cannot be read (Too many levels of symbolic links)"),
    (nothing, "no such file"),
    (empty, "the file is empty"),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the files of Unix")
@pytest.mark.parametrize(("make", "reason"), KINDS, ids=[make.__name__ for make, _ in KINDS])
class TestWhatIsNoPhoto:
    @pytest.fixture
    def path(self, tmp_path: Path, make: Callable[[Path], None]) -> Path:
        make(tmp_path / "photo.jpg")
        return tmp_path / "photo.jpg"

    def test_the_reader_says_what_it_is(self, path: Path, reason: str) -> None:
        with pytest.raises(BrokenPhotoError) as caught:
            decode(path)
        assert caught.value.reason == reason
        assert str(caught.value) == f"{path}: {reason}"

    def test_the_survey_goes_on_past_it(
        self, path: Path, reason: str, draw_photo: Callable[..., Image.Image]
    ) -> None:
        draw_photo(1).save(path.with_name("sound.jpg"))
        broken, sound = survey([path, path.with_name("sound.jpg")])
        assert (broken.broken, sound.broken) == (reason, "")

    def test_it_has_no_hash(self, path: Path, reason: str) -> None:
        assert photo_sha256(path) == ""


def test_a_file_has_the_hash_of_its_bytes_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert photo_sha256(tmp_path / "link.jpg") == hashlib.sha256(b"bytes").hexdigest()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the files of Unix")
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"bytes")
    before = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: before)
    with pytest.raises(BrokenPhotoError, match="is a named pipe"), opened(path):
        pytest.fail("it was opened")
