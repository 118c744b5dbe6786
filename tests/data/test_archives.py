"""Archives: extracted once, whole, and never outside the data folder."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import filelock
import pytest

from toolkit.data.archives import extract
from toolkit.errors import ToolkitError


def make_zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_an_archive_is_extracted_with_its_folders(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "train.zip", {"1/a.jpg": b"A", "2/b.jpg": b"B"})
    extract(archive, tmp_path / "train")
    assert files(tmp_path / "train") == ["1/a.jpg", "2/b.jpg"]
    assert (tmp_path / "train" / "2" / "b.jpg").read_bytes() == b"B"


@pytest.mark.parametrize("wrapper", ["train"])
def test_what_the_system_adds_is_left_out(tmp_path: Path, wrapper: str) -> None:
    archive = make_zip(
        tmp_path / "x.zip",
        {f"{wrapper}/1/a.jpg": b"A", f"{wrapper}/2/b.jpg": b"B", "__MACOSX/._a.jpg": b"junk"},
    )
    extract(archive, tmp_path / "photos")
    assert files(tmp_path / "photos") == [f"{wrapper}/1/a.jpg", f"{wrapper}/2/b.jpg"]


def test_a_class_folder_that_stands_alone_is_kept(tmp_path: Path) -> None:
    extract(make_zip(tmp_path / "x.zip", {"sedan/a.jpg": b"A"}), tmp_path / "photos")
    assert files(tmp_path / "photos") == ["sedan/a.jpg"]


def test_a_class_named_like_a_wrapper_is_kept_beside_others(tmp_path: Path) -> None:
    entries = {"train/a.jpg": b"A", "bus/b.jpg": b"B"}
    extract(make_zip(tmp_path / "x.zip", entries), tmp_path / "photos")
    assert files(tmp_path / "photos") == ["bus/b.jpg", "train/a.jpg"]


@pytest.mark.parametrize(
    "name",
    ["../evil.jpg", "a/../../evil.jpg", "/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg", "//evil.jpg"],
)
def test_an_entry_that_leads_outside_is_refused_and_named(tmp_path: Path, name: str) -> None:
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    archive = make_zip(home / "train.zip", {"1/good.jpg": b"G", name: b"E"})
    with pytest.raises(ToolkitError, match=r"train\.zip: .*evil\.jpg.* outside"):
        extract(archive, home / "train")
    assert files(tmp_path) == ["a/b/train.zip"]


def test_a_colon_leads_nowhere_and_a_backslash_at_the_end_is_a_folder(tmp_path: Path) -> None:
    entries = {".\\": b"", "bus\\": b"", "bus\\12:30.jpg": b"A", "": b""}
    extract(make_zip(tmp_path / "train.zip", entries), tmp_path / "train")
    assert files(tmp_path / "train") == ["bus/12:30.jpg"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("1/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ToolkitError, match=r"link\.jpg' is a link"):
        extract(tmp_path / "train.zip", tmp_path / "train")
    assert files(tmp_path) == ["train.zip"]


def broken_content(tmp_path: Path) -> bytes:
    """An archive whose directory is whole and whose second file is not."""
    make_zip(tmp_path / "x", {"1/a.jpg": b"A" * 99, "1/b.jpg": bytes(range(256)) * 9})
    with zipfile.ZipFile(tmp_path / "x") as archive:
        second = archive.infolist()[1]
    content = bytearray((tmp_path / "x").read_bytes())
    (tmp_path / "x").unlink()
    start = second.header_offset + 30 + len(second.filename)
    content[start : start + second.compress_size] = b"\xff" * second.compress_size
    return bytes(content)


def no_archive(tmp_path: Path) -> bytes:
    return b"This is no archive."


def half_an_archive(tmp_path: Path) -> bytes:
    content = make_zip(tmp_path / "x", {"1/a.jpg": b"A" * 999}).read_bytes()
    (tmp_path / "x").unlink()
    return content[: len(content) // 2]


def name_in_no_encoding(tmp_path: Path) -> bytes:
    content = make_zip(tmp_path / "x", {"1/ä.jpg": b"A"}).read_bytes()
    (tmp_path / "x").unlink()
    return content.replace("ä".encode(), b"\xff\xff")


@pytest.mark.parametrize(
    "content", [no_archive, half_an_archive, broken_content, name_in_no_encoding]
)
def test_a_broken_archive_is_named_and_leaves_nothing_behind(tmp_path: Path, content) -> None:
    (tmp_path / "train.zip").write_bytes(content(tmp_path))
    with pytest.raises(ToolkitError, match=r"train\.zip: not a readable archive"):
        extract(tmp_path / "train.zip", tmp_path / "train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.zip"]


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(make_zip(tmp_path / "train.zip", {"1/a.jpg": b"A"}).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / "train.zip").write_bytes(content)
    with pytest.raises(ToolkitError, match="encrypted"):
        extract(tmp_path / "train.zip", tmp_path / "train")


def test_a_file_that_is_also_a_folder_is_the_users_to_mend(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "train.zip", {"1": b"A", "1/a.jpg": b"B"})
    with pytest.raises(ToolkitError, match=r"train\.zip: cannot be extracted"):
        extract(archive, tmp_path / "train")
    assert files(tmp_path) == ["train.zip"]


def test_an_extraction_that_was_broken_off_does_not_disturb_the_next(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "train.zip", {"1/a.jpg": b"A"})
    (tmp_path / ".train.extracting").mkdir()
    (tmp_path / ".train.extracting" / "half.jpg").write_bytes(b"H")
    extract(archive, tmp_path / "train")
    assert files(tmp_path) == ["train.zip", "train/1/a.jpg"]


def test_two_processes_do_not_extract_the_same(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "train.zip", {"1/a.jpg": b"A"})
    with (
        filelock.FileLock(tmp_path / ".train.lock"),
        pytest.raises(ToolkitError, match=r"train\.zip: another process is extracting it"),
    ):
        extract(archive, tmp_path / "train")
    extract(archive, tmp_path / "train")
    extract(archive, tmp_path / "train")  # As one that waited for it.
    assert files(tmp_path) == ["train.zip", "train/1/a.jpg"]
