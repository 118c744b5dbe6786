"""Small files that would become large, or are no text: refused in a line, before they are read."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from pathlib import Path

import pytest

from toolkit.data import archives, tables
from toolkit.data.archives import extract
from toolkit.data.tables import read_table
from toolkit.data.unpacking import unpacked
from toolkit.errors import DataError, ToolkitError

MEGABYTE = bytes(10**6)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as told:
        read_table(path)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(f"{path}: ")
    return str(told.value)


def packed(path: Path, files: int, megabytes: int) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
            for number in range(files):
                with opened.open(f"train/{number}.bmp", "w") as entry:
                    for _ in range(megabytes):
                        entry.write(MEGABYTE)
        return
    content = path.with_name("content")
    with content.open("wb") as file:
        file.truncate(megabytes * 10**6)
    with tarfile.open(path, f"w:{path.suffix[1:]}", compresslevel=1) as tar:
        for number in range(files):
            tar.add(content, f"train/{number}.bmp")


class TestArchives:
    @pytest.mark.parametrize(
        ("name", "files", "megabytes"),
        [("a.zip", 11, 100), ("a.zip", 1, 1100), ("a.tar.gz", 4, 300)],
    )
    def test_one_that_becomes_hundreds_of_times_as_large_is_refused(
        self, tmp_path: Path, name: str, files: int, megabytes: int
    ) -> None:
        packed(tmp_path / name, files, megabytes)
        with pytest.raises(DataError, match=r"its .* MB become 1\.\d GB, more than 200"):
            extract(tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_small_one_may_pack_well(self, tmp_path: Path) -> None:
        packed(tmp_path / "a.zip", 3, 2)
        extract(tmp_path / "a.zip", tmp_path / "out")
        assert len(list((tmp_path / "out" / "train").iterdir())) == 3

    @pytest.mark.parametrize("content", [b"", b"text", b"\x1f\x8b\x08\x00rest"])
    def test_what_is_no_tar_is_told_in_one_line(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.tar: not a readable archive") as told:
            extract(tmp_path / "a.tar", tmp_path / "out")
        assert "\n" not in str(told.value)

    @pytest.mark.parametrize("place", ["one/train.zip", "a/b/train.zip", "train.zip"])
    def test_archives_in_an_archive_count_with_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        monkeypatch.setattr(archives, "RATIO_FROM", 5 * 10**6)
        packed(tmp_path / "inner.zip", 1, 3)
        (tmp_path / "data").mkdir()
        with zipfile.ZipFile(tmp_path / "data" / "all.zip", "w") as outer:
            for number in range(3):
                outer.write(tmp_path / "inner.zip", f"{number}/{place}")
        with pytest.raises(DataError, match="with the archives in it, the outermost's"):
            unpacked(tmp_path / "data")
        # Nor does what was extracted before count for nothing.
        with pytest.raises(DataError, match="more than 200 times as many"):
            unpacked(tmp_path / "data")

    def test_a_pipe_among_the_entries_is_refused(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            entry = tarfile.TarInfo("train/1.jpg")
            entry.type = tarfile.FIFOTYPE
            tar.addfile(entry)
        with pytest.raises(DataError, match="is a link, or no regular file"):
            extract(tmp_path / "a.tar", tmp_path / "a")


class TestTables:
    @pytest.mark.parametrize("suffix", [".gz", ".zip"])
    def test_a_packed_one_that_becomes_hundreds_of_times_as_large_is_refused(
        self, tmp_path: Path, suffix: str
    ) -> None:
        path, content = tmp_path / f"train.csv{suffix}", b"Id,Category\n" + 70 * MEGABYTE
        if suffix == ".gz":
            path.write_bytes(gzip.compress(content, 1))
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
                opened.writestr("train.csv", content)
        assert "larger tables are not read" in refusal(path)

    def test_a_file_too_large_is_not_read(self, tmp_path: Path) -> None:
        with (tmp_path / "train.csv").open("wb") as file:
            file.truncate(tables.LARGEST_TABLE + 1)  # A sparse file: it takes no room.
        with pytest.raises(
            ToolkitError, match=r"train\.csv: has 2,048 MiB; at most 2,048 are read"
        ):
            read_table(tmp_path / "train.csv")

    def test_a_packed_one_that_says_how_large_it_is_is_not_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / "train.csv.zip"
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr("train.csv", b"x")
        content = path.read_bytes()
        at = content.rindex(b"PK\x01\x02") + 24  # Size unpacked, in the directory.
        path.write_bytes(content[:at] + (2**32 - 2).to_bytes(4, "little") + content[at + 4 :])
        assert "unpack to more than 64, and larger tables are not read" in refusal(path)

    @pytest.mark.parametrize("separator", [",", ";", "|"])
    def test_too_many_columns(self, tmp_path: Path, separator: str) -> None:
        (tmp_path / "train.csv").write_text(separator * tables.MOST_COLUMNS + "\n1\n")
        assert "has more than 100,000 columns" in refusal(tmp_path / "train.csv")

    def test_a_value_too_long(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text('id,label\n"' + "x" * 200_000 + '",1\n')
        assert "cannot be read as CSV (field larger" in refusal(tmp_path / "train.csv")

    @pytest.mark.parametrize(
        ("text", "line"), [("id,label\na,Käfer\n", 2), ("é,x\n", 1), ("id,label\n1,a\n2,ñ\n", 3)]
    )
    def test_what_windows_wrote_names_line_and_way_out(
        self, tmp_path: Path, text: str, line: int
    ) -> None:
        (tmp_path / "train.csv").write_bytes(text.encode("cp1252"))
        told = refusal(tmp_path / "train.csv")
        assert f"line {line}: is not UTF-8. Save it in UTF-8" in told
        assert "iconv -f CP1252 -t UTF-8" in told

    @pytest.mark.parametrize(
        "content", [b"", b"\x1f\x8b\x08", gzip.compress(b"a,b\n", mtime=0)[:-6]]
    )
    def test_a_packed_one_that_is_cut_off(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "train.csv.gz").write_bytes(content)
        assert "cannot be read" in refusal(tmp_path / "train.csv.gz")
