"""Formats that data comes in and that are not read: their names, and the way out."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.data.tree import Folder
from toolkit.errors import listing

_OTHERS = {
    (".xlsx", ".xls", ".xlsm", ".ods", ".numbers"): "a spreadsheet; save it as CSV",
    (
        ".json",
        ".jsonl",
        ".ndjson",
    ): ("JSON, as of COCO; write its ids and labels as a CSV 'id,label'"),
    (".xml",): "XML, as of Pascal VOC; write its ids and labels as a CSV 'id,label'",
    (
        *(".npz", ".npy", ".h5", ".hdf5", ".pkl", ".pickle", ".mat", ".tfrecord", ".tfrecords"),
        *("-ubyte", "-ubyte.gz", "batches.meta", ".lmdb", ".mdb", ".pt", ".pth"),
    ): ("a file of arrays; save the photos in it as files, and their labels as a CSV 'id,label'"),
    (".rar", ".001"): "a RAR archive, or a part of a split one; extract it",
    (".zst", ".lz4", ".lzma", ".lz", ".z", ".ace", ".arj"): (
        "an archive of a kind that is not extracted; extract it"
    ),
    (".csv.bz2", ".csv.xz", ".tsv.bz2", ".tsv.xz"): "a table that is packed otherwise; unpack it",
    (".feather", ".arrow", ".orc", ".avro"): "a table in a format of its own; save it as CSV",
    (".sqlite", ".sqlite3", ".db"): "a database; save its table as CSV",
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg"): (
        "a video; save frames of it as photos"
    ),
    (".svg", ".eps", ".pdf"): "a drawing or a document; save it as PNG",
    (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf"): (
        "a camera's raw photo; convert it to JPEG"
    ),
    ("data.yaml", "data.yml"): "YOLO, whose boxes are no labels; write a CSV 'id,label'",
    (".dcm", ".dicom", ".nii", ".svs"): "a medical image; convert it to PNG",
}
"""Formats that data comes in and that are not read, by suffix, each with the way out."""


def other_format(name: str) -> str:
    """Say what a file is whose format is not read, and the way out; empty for all others.

    Args:
        name: Of the file.
    """
    found = (said for suffixes, said in _OTHERS.items() if name.lower().endswith(suffixes))
    return next(found, "")


def unread_formats(tree: Folder, tables: Mapping[str, str]) -> str:
    """Name a file of each format that is there and not read, with the way out.

    Args:
        tree: The data folder.
        tables: Why tables are not read, by name.

    Returns:
        Lines that begin with a line break; empty where there are no such files.
    """
    by_format: dict[str, str] = {}
    for folder in tree.walk():
        for name in folder.others:
            said = other_format(name)
            if said:
                by_format.setdefault(said, f"{folder.place}/{name}".lstrip("/"))
    by_format |= {said: name for name, said in tables.items()}
    lines = [f"'{name}' is not read: {said}" for said, name in by_format.items()]
    return f"\n{listing(lines)}" if lines else ""
