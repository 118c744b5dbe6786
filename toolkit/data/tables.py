"""Tables of any kind that people keep ids and labels in, as text and with the line of each row."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolkit.data.other_formats import other_format
from toolkit.data.tree import PHOTO_SUFFIXES
from toolkit.errors import DataError
from toolkit.files import regular_file

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
PACKED_SUFFIXES = (".zip", ".gz")

LARGEST_TABLE = 2 * 2**30
"""Bytes of a table that are read, unpacked: ten million rows have some hundred million."""

LARGEST_RATIO, RATIO_FROM = 200, 64 * 2**20
"""Of a packed table's bytes to those of its file, where it unpacks to at least so many bytes."""

MOST_COLUMNS = 100_000
"""Of a table: a sample file has one for each class."""

SEPARATORS = (",", ";", "\t", "|")
_SNIFFED_LINES = 20

_EXCEL = re.compile(r'"?sep=([,;|\t ])"?[,;]*', re.IGNORECASE)
"""A first line that names the separator to Excel."""

_UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error)


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        path: Its file; the archive where the table is packed.
        frame: The rows under their line numbers in the file (of Parquet, under row numbers from
            1), all text without spaces around it. An index column without a name is not among the
            columns, and neither are blank lines among the rows.
        first_line: As it stands in the file, for messages.
        separator: Between the values of a row of text.
    """

    path: Path
    frame: pd.DataFrame = field(compare=False)
    first_line: str = ""
    separator: str = ","

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.frame.columns)


def is_table(path: Path) -> bool:
    """Return whether a file's name is one of a table, packed or not."""
    return unpacked_name(path).lower().endswith(TABLE_SUFFIXES)


def unpacked_name(path: Path) -> str:
    """Return a file's name without what says that it is packed: `train.csv` of `train.csv.zip`."""
    return path.stem if path.suffix.lower() in PACKED_SUFFIXES else path.name


def stem(path: Path) -> str:
    """Return a table's name without any suffix: `train` of `train.csv.zip`."""
    return Path(unpacked_name(path)).stem


def letters(path: Path) -> str:
    """Return a table's name as people mean it: its letters, in lower case, without any suffix."""
    return re.sub(r"[^a-z]", "", stem(path).lower())


def read_table(path: Path) -> Table:
    """Read a table: CSV of any usual separator and encoding, or Parquet, also packed.

    Args:
        path: A file; `.zip` and `.gz` may hold the table.

    Returns:
        Its rows.

    Raises:
        ToolkitError: It cannot be read, or its rows are longer than its header.
    """
    if path.is_file() and other_format(path.name):
        raise DataError(f"{path}: {other_format(path.name)}.", path=path)
    regular_file(path, LARGEST_TABLE)
    if path.name.lower().endswith(PHOTO_SUFFIXES):
        raise DataError(f"{path}: is a photo, not a table.", path=path)
    try:
        name, content = _content(path)
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}).", path=path) from None
    if name.lower().endswith(".parquet"):
        return _from_parquet(path, content)
    return _from_text(path, name, content)


def _content(path: Path) -> tuple[str, bytes]:
    """Return the name and the bytes of a table, unpacked."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        with gzip.open(path) as packed:
            content = packed.read(_most_unpacked(path) + 1)
        _check_unpacked(path, len(content))
        return path.stem, content
    if suffix != ".zip":
        return path.name, path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [
            name
            for name in archive.namelist()
            if name.lower().endswith(TABLE_SUFFIXES) and not name.startswith("__MACOSX")
        ]
        if len(names) != 1:
            raise DataError(f"{path}: Expected one table in it, received {len(names)}.", path=path)
        _check_unpacked(path, archive.getinfo(names[0]).file_size)
        return names[0], archive.read(names[0])


def _check_unpacked(path: Path, size: int) -> None:
    if size > _most_unpacked(path):
        packed, most = path.stat().st_size / 2**20, _most_unpacked(path) / 2**20
        raise DataError(
            f"{path}: its {packed:.1f} MiB unpack to more than {most:,.0f}, and larger tables are "
            "not read. Unpack it yourself if you trust it.",
            path=path,
        )


def _most_unpacked(path: Path) -> int:
    """Return how many bytes a packed table may have: text shrinks to a twentieth, zeros more."""
    return min(LARGEST_TABLE, max(RATIO_FROM, LARGEST_RATIO * path.stat().st_size))


def _from_parquet(path: Path, content: bytes) -> Table:
    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: cannot be read as Parquet ({reason}).", path=path) from None
    if frame.index.name is not None:
        frame = frame.reset_index()
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    if any(_holds_photos(frame[name]) for name in frame.columns):
        raise DataError(
            f"{path}: holds the photos themselves; save them as files, and their labels as a CSV "
            "'id,label'.",
            path=path,
        )
    # A column of pixels or structures names nothing.
    plain = [name for name in frame.columns if not _holds_objects(frame[name])]
    texts = {str(name).strip(): [_as_text(value) for value in frame[name]] for name in plain}
    named = pd.DataFrame(texts, index=frame.index, dtype=object)
    return Table(path, _without_index_column(named), ",".join(named.columns))


def _holds_photos(column: pd.Series) -> bool:
    values = column.dropna()
    first = values.iloc[0] if len(values) else None
    return isinstance(first, bytes) or (isinstance(first, dict) and "bytes" in first)


def _holds_objects(column: pd.Series) -> bool:
    values = column.dropna()
    return len(values) > 0 and isinstance(values.iloc[0], bytes | dict | list | tuple | np.ndarray)


def _as_text(value: Any) -> str:
    return "" if pd.isna(value) else str(value).strip()


def _from_text(path: Path, name: str, content: bytes) -> Table:
    try:
        text = _decoded(content)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line}: is not {error.encoding.upper()}. Save it in UTF-8, as with "
            "'iconv -f CP1252 -t UTF-8' if a spreadsheet of Windows wrote it.",
            path=path,
        ) from None
    _refuse_other_text(path, text)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {line}: holds a zero byte. The file is damaged.", path=path)
    lines = text.splitlines()
    blank = _above_header(lines)
    if blank == len(lines):
        raise DataError(f"{path}: cannot be read as CSV (the file is empty).", path=path)
    # Lists for older tools are lines such as 'images/1.jpg 3'.
    known = (*SEPARATORS, " ") if name.lower().endswith(".txt") else SEPARATORS
    declared = _EXCEL.fullmatch(lines[blank].strip())
    blank += 1 if declared else 0
    if blank == len(lines):
        raise DataError(f"{path}: the file has no rows.", path=path)
    try:
        between = separator(lines[blank : blank + _SNIFFED_LINES], known)
        between = declared.group(1) if declared else between
        if lines[blank].count(between) >= MOST_COLUMNS:
            raise DataError(f"{path}: has more than {MOST_COLUMNS:,} columns.")
        # Everything stays text: '007.jpg' and the label '01' must come out as they went in.
        frame = pd.read_csv(
            io.StringIO(text),
            sep=between,
            dtype=str,
            keep_default_na=False,
            skiprows=blank,
            skip_blank_lines=False,
        )
    except (ValueError, csv.Error) as error:
        reason = str(error).strip().splitlines()[0]
        if "EOF inside string" in reason:
            reason = 'a quote " is opened and never closed'
        raise DataError(f"{path}: cannot be read as CSV ({reason}).", path=path) from None
    if len(frame) and not isinstance(frame.index, pd.RangeIndex):
        # pandas takes the first column for row names where all rows have a value too many.
        raise DataError(
            f"{path}: Expected {len(frame.columns)} values in a row, received more: "
            f"{','.join(map(str, frame.index[:1]))},{','.join(map(str, frame.iloc[0]))}.",
            path=path,
        )
    frame = frame.fillna("").astype(object)
    frame.columns = pd.Index([str(name).strip() for name in frame.columns], dtype=object)
    frame.index = pd.RangeIndex(blank + 2, blank + 2 + len(frame))
    frame = frame.apply(lambda column: column.str.strip())
    is_blank = (frame == "").all(axis=1)
    frame = frame.loc[~is_blank]
    return Table(path, _without_index_column(frame), lines[blank].strip(), between)


def _refuse_other_text(path: Path, text: str) -> None:
    """Refuse what stands in place of a table where a download went wrong.

    Raises:
        ToolkitError: Says what it is.
    """
    start = text[:100].lstrip().lower()
    if start.startswith(("<!doctype html", "<html", "<?xml")):
        raise DataError(
            f"{path}: is a web page or XML, not a table. Download the table again, signed in where "
            "its site wants that.",
            path=path,
        )
    if start.startswith("version https://git-lfs"):
        raise DataError(
            f"{path}: is a pointer of Git LFS, not the table itself. Fetch it with 'git lfs pull'.",
            path=path,
        )


def _above_header(lines: Sequence[str]) -> int:
    """Return how many lines are above the header: blank ones, and remarks that begin with '#'."""
    above = len(list(takewhile(lambda line: not line.strip() or line.startswith("#"), lines)))
    remarks = [number for number in range(above) if lines[number].startswith("#")]
    if not remarks:
        return above
    # A header may begin with '#' too; then it has as many columns as the line below.
    below = lines[above : above + _SNIFFED_LINES]
    between = separator(below)
    widths = next(csv.reader(below[:1], delimiter=between), [])
    last = next(csv.reader([lines[remarks[-1]]], delimiter=between))
    return remarks[-1] if len(last) == len(widths) else above


def separator(lines: Sequence[str], known: Sequence[str] = SEPARATORS) -> str:
    """Return what separates the values of a CSV: what cuts all its lines into as many.

    Args:
        lines: The first lines, header first.
        known: What may separate them, the likeliest first.
    """
    filled = [line for line in lines if line.strip()]
    best, most = ",", 1
    for candidate in known:
        widths = [len(row) for row in csv.reader(filled, delimiter=candidate)]
        # The last line may be one that was cut within quotes.
        if widths and widths[0] > most and set(widths[:-1] or widths) == {widths[0]}:
            best, most = candidate, widths[0]
    if most > 1:
        return best
    # Rows of unequal length are told with what the header is cut by.
    return max(known, key=filled[0].count) if filled else ","


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    head = content[:200]
    if head[1::2].count(0) > len(head) // 4:
        return content.decode("utf-16-le")
    if head[::2].count(0) > len(head) // 4:
        return content.decode("utf-16-be")
    return content.decode("utf-8-sig")


def _without_index_column(frame: pd.DataFrame) -> pd.DataFrame:
    """Take off the row numbers that pandas and R write before the first column."""
    if frame.shape[1] < 2 or not str(frame.columns[0]).startswith("Unnamed: 0"):
        return frame
    numbers = pd.to_numeric(frame.iloc[:, 0], errors="coerce")
    steps = np.diff(numbers.to_numpy(dtype=np.float64))
    return frame.iloc[:, 1:] if np.all(steps > 0) or len(frame) == 1 else frame
