"""What an ONNX file refers to, found without loading it: nothing but itself is allowed.

An ONNX file may name other files that hold its weights ("external data"), which onnxruntime would
then open. Such a file is refused before that: the names may lead anywhere, and the hashes of a
bundle would not cover what they lead to.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from toolkit.errors import ToolkitError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}

# Fields of the messages of onnx.proto that lead to tensors: field number -> message.
_INSIDE: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_DEEPEST = 64


def refuse_external_data(path: Path) -> None:
    """Refuse an ONNX file that refers to other files, or that is no protobuf message.

    Raises:
        ToolkitError: It does; names the file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            external = _is_external(data, 0, len(data), "Model", 0)
    except (ValueError, IndexError) as error:
        raise ToolkitError(f"{path}: is no ONNX file ({error}). Export the bundle again.") from None
    if external:
        raise ToolkitError(
            f"{path}: refers to other files that hold its weights (ONNX external data), which are "
            "not read. Export the bundle again, or store the weights in the file."
        )


def _is_external(data: mmap.mmap, start: int, end: int, message: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    inside = _INSIDE[message]
    for field, first, last in _fields(data, start, end):
        if message == "Tensor" and field in (_EXTERNAL_DATA, _DATA_LOCATION):
            # The location is a number: 0 is the default, the file itself.
            if field == _EXTERNAL_DATA or data[first:last] != b"\0":
                return True
        elif field in inside and _is_external(data, first, last, inside[field], depth + 1):
            return True
    return False


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield field number, first and last position of the value of each field of a message."""
    while start < end:
        tag, start = _varint(data, start, end)
        kind = tag & 7
        if kind == _VARINT:
            _, last = _varint(data, start, end)
        elif kind == _BYTES:
            length, start = _varint(data, start, end)
            last = start + length
        elif kind in _FIXED:
            last = start + _FIXED[kind]
        else:
            raise ValueError("its fields cannot be told apart")
        if last > end:
            raise ValueError("it ends too early")
        yield tag >> 3, start, last
        start = last


def _varint(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if start >= end:
            raise ValueError("it ends too early")
        byte = data[start]
        start += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, start
    raise ValueError("a number in it has too many digits")
