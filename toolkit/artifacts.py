"""Files that the toolkit writes and reads back: each by one schema, checked whole.

A file that was edited, cut off, or made by a stranger ends in one line that names the file and the
key. A hash in it excuses nothing: whoever changes a file can compute the hash anew.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from toolkit.console import printable
from toolkit.errors import ToolkitError
from toolkit.files import regular_file

T = TypeVar("T")

LARGEST_ARRAYS = 8 * 2**30
"""Bytes that the arrays of one file may have, unpacked."""

SHOWN_INPUT = 60
"""Characters of a refused value that an error message shows."""


def _is_bare(name: str) -> str:
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0:") or name.startswith("."):
        raise ValueError("Expected a bare file name, without folders and not hidden")
    return name


BareName = Annotated[str, Field(max_length=255), AfterValidator(_is_bare)]
"""The name of a file in the folder itself."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Temperature = Annotated[float, Field(ge=0.01, le=100)]
Json = pydantic.JsonValue


@dataclass_transform(frozen_default=True)
def artifact(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked, also when it is made in Python.

    Unknown keys and numbers that are not finite are refused.
    """
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    return cast("type[T]", pydantic_dataclass(frozen=True, config=config)(cls))


def dump_artifact(made: Any) -> dict[str, Any]:
    """Return an artifact as JSON can hold it; `read_artifact` reads it back."""
    content: dict[str, Any] = pydantic.TypeAdapter(type(made)).dump_python(made, mode="json")
    return content


def read_artifact(
    cls: type[T],
    content: Mapping[str, Any],
    path: Path,
    remedy: str,
    kind: type[ToolkitError] = ToolkitError,
) -> T:
    """Make an artifact of what `toolkit.files.read_json` read.

    Args:
        cls: What it is.
        content: Of the file.
        path: The file, for the error message.
        remedy: What to do, as a sentence.
        kind: Of the error.

    Raises:
        ToolkitError: It does not fit; names file, key and value.
    """
    try:
        # As JSON, for which pydantic's strict mode takes a list for a tuple and nothing else.
        return pydantic.TypeAdapter(cls).validate_json(json.dumps(content), strict=True)
    except pydantic.ValidationError as error:
        raise kind(f"{path}: {explain(error)} {remedy}", path=path) from None


def explain(error: pydantic.ValidationError) -> str:
    """Return the first thing that is wrong with an artifact, as one sentence."""
    first = error.errors(include_url=False)[0]
    # A key may be a stranger's text: no line ends, and nothing that steers a terminal.
    key = printable(".".join(str(part) for part in first["loc"])).replace("\n", "\\n")
    where = f"{key}: " if key else ""
    match first["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{where}unknown key."
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return f"{where}the key is missing."
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    if not isinstance(first["input"], str | int | float | bool | None):
        return f"{where}{message}."
    shown = repr(first["input"])
    shown = shown if len(shown) <= SHOWN_INPUT else f"{shown[:SHOWN_INPUT]}..."
    return f"{where}{message}, received {shown}."


def read_arrays(
    path: Path,
    remedy: str,
    keys: Sequence[str],
    kind: type[ToolkitError] = ToolkitError,
    most_bytes: int = LARGEST_ARRAYS,
) -> dict[str, NDArray[Any]]:
    """Read a `.npz` file without pickle, and only where it unpacks to a bounded size.

    Args:
        path: The file.
        remedy: What to do where it is damaged, as a sentence.
        keys: Arrays that it must hold; it may hold others.
        kind: Of the error.
        most_bytes: What all its arrays may take.

    Returns:
        All arrays by name.

    Raises:
        ToolkitError: It is missing or damaged, lacks a key, or is too large.
    """
    try:
        regular_file(path)
        # Opened here, because NumPy leaves a file open whose zip is damaged.
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as packed:
                total = sum(each.file_size for each in packed.infolist())
            if total > most_bytes:
                raise kind(
                    f"{path}: unpacks to {total / 2**20:,.0f} MiB, and at most "
                    f"{most_bytes / 2**20:,.0f} are read. {remedy}",
                    path=path,
                )
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                found = {key: arrays[key] for key in arrays.files}
    except MemoryError:
        raise kind(f"{path}: its arrays do not fit into memory. {remedy}", path=path) from None
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise kind(f"{path}: cannot be read ({reason}). {remedy}", path=path) from None
    for key in keys:
        if key not in found:
            raise kind(f"{path}: {key}: the array is missing. {remedy}", path=path)
    for key, array in found.items():
        # NumPy hands out the bytes of an entry that does not begin as an array does.
        if not isinstance(array, np.ndarray):
            raise kind(f"{path}: {key}: is no array. {remedy}", path=path)
    return found


UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,  # NumPy parses the header of an array as Python.
    RuntimeError,  # An encrypted entry.
    NotImplementedError,  # An unknown compression.
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What damaged `.npz` files raise."""


def check_predictions(
    ids: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any], classes: int
) -> str:
    """Return what is wrong with the photos of held-out predictions; empty where nothing is.

    Args:
        ids: Expected of shape (photos,), text, each once.
        labels: Expected of shape (photos,), class indices.
        groups: Expected of shape (photos,), whole numbers.
        classes: How many there are.
    """
    if ids.ndim != 1 or ids.dtype.kind != "U" or not len(ids):
        return f"ids: Expected text of shape (photos,), received {described(ids)}"
    for key, array in (("labels", labels), ("groups", groups)):
        if array.shape != ids.shape or array.dtype.kind not in "iu":
            return f"{key}: Expected {len(ids)} whole numbers, received {described(array)}"
    if len(set(ids.tolist())) < len(ids):
        return "ids: Expected each once"
    if labels.min() < 0 or labels.max() >= classes:
        return f"labels: Expected 0 to {classes - 1}, received {labels.min()} to {labels.max()}"
    return ""


SHARES_TOLERANCE = 1e-6
"""By how much weights and priors may miss a sum of 1."""


def check_sum(key: str, shares: Sequence[float]) -> None:
    """Refuse shares that do not sum to 1.

    Raises:
        ValueError: They do not; names `key`.
    """
    if abs(sum(shares) - 1) > SHARES_TOLERANCE:
        raise ValueError(f"{key}: Expected numbers that sum to 1, received a sum of {sum(shares)}")


ROW_SUM_TOLERANCE = 0.01
"""By how much the sum of a network's probabilities may miss 1: bf16 has three digits."""


def check_probabilities(rows: NDArray[Any], shape: tuple[int | None, ...]) -> str:
    """Return what is wrong with probabilities; empty where nothing is.

    Args:
        rows: Expected of dtype float32, finite, at least 0, the last axis summing to 1.
        shape: What it has to be; None stands for any length.
    """
    fits = len(shape) == rows.ndim and all(
        wanted in (None, length) for wanted, length in zip(shape, rows.shape, strict=True)
    )
    if rows.dtype != np.float32 or not fits:
        wanted = ", ".join("any" if each is None else str(each) for each in shape)
        return f"Expected float32 of shape ({wanted}), received {described(rows)}"
    if not rows.size:
        return ""
    # Sums and extremes of what is not finite are not finite either.
    smallest, sums = float(rows.min()), rows.sum(axis=-1, dtype=np.float64)
    if not np.isfinite(smallest) or not np.isfinite(sums).all():
        return "are not finite"
    if smallest < 0:
        return f"are below 0 ({smallest:.3g})"
    furthest = float(sums.flat[int(np.abs(sums - 1).argmax())])
    if abs(furthest - 1) > ROW_SUM_TOLERANCE:
        return f"do not sum to 1 ({furthest:.3g})"
    return ""


def described(array: NDArray[Any]) -> str:
    """Return dtype and shape of an array, for people."""
    return f"{array.dtype} of shape {array.shape}"
