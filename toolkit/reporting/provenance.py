"""What a submission was made of, recorded so that it can be made again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.data.photo_file import photo_sha256
from toolkit.data.request import Request
from toolkit.errors import ToolkitError
from toolkit.files import read_json, sha256_file, sha256_json
from toolkit.inference.predict import Predictions
from toolkit.machine import usable_cores

DIGITS = 8
"""Of each photo's hash that are kept: enough to name a photo that changed, and short."""

MISSING = "-" * DIGITS
"""In place of the hash of a photo that is not there."""


@dataclass(frozen=True)
class Made:
    """A submission's manifest, as far as it is needed to make the submission again.

    Attributes:
        path: Of the manifest.
        content: All of it.
    """

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> Made:
        """Read a manifest.

        Raises:
            ToolkitError: It is none, or one of an older version that says too little.
        """
        content = read_json(path)
        if "submission" not in content or "options" not in content:
            raise ToolkitError(f"{path}: is no manifest of a submission by 'toolkit ensemble'.")
        if any(key not in content for key in _RECORDED):
            raise ToolkitError(
                f"{path}: an older version wrote it, which recorded too little to make the "
                "submission again. Make it with 'toolkit ensemble'."
            )
        hole = next(holes(content, {**MANIFEST_KEYS, **_RECORDED}), None)
        if hole:
            raise ToolkitError(f"{path}: is no whole manifest: '{hole}' is missing.")
        return cls(path, content)

    @property
    def options(self) -> Mapping[str, Any]:
        """What was asked for."""
        options: Mapping[str, Any] = self.content["options"]
        return options

    @property
    def submission(self) -> Path:
        """The submission that it describes."""
        return self.path.with_name(Path(self.content["submission"]["file"]).name)

    def found(self, path: str) -> Path:
        """Return where a path leads that was typed when the submission was made.

        Relative ones go on from the folder that the command was typed in, and that is known
        relative to the manifest: the whole project may have moved.
        """
        return Path(os.path.normpath(self.path.resolve().parent / self.content["typed_in"] / path))


SETTINGS = ("tta", "tta_views", "voting", "device", "batch", "threads", "seed")
"""Options that the ensemble is loaded with."""

MANIFEST_KEYS: Mapping[str, tuple[str, ...]] = {
    "created": (),
    "typed_in": (),
    "latency": ("file", "sha256"),
    "submission": ("file", "sha256"),
    "bundle": ("folder", "sha256"),
    "options": ("data", "reading", "skip_broken", "skipping", "answer", *SETTINGS),
    "format": ("kind", "columns", "id_column", "answers", "classes", "all_classes"),
    "voting": ("name", "weights", "temperature"),
    "method": (),
    "guarantee": (),
    "photos": (),
    "answered_with_class_prior": (),
    "device": ("provider", "device"),
    "versions": (),
}
"""Keys that every manifest has, with the keys in them."""

_RECORDED: Mapping[str, tuple[str, ...]] = {
    "request": ("ids_sha256", "photos_sha256", "photos"),
    "plan": ("steps", "rest"),
    "probabilities": ("values_sha256", "file", "sha256"),
    "threads": (),
}
"""Likewise; older versions had none of these."""


def holes(content: Mapping[str, Any], keys: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Return what is missing in a JSON object, as `key` or `key.part`."""
    for key, parts in keys.items():
        if key not in content:
            yield key
        else:
            there = content[key] if isinstance(content[key], dict) else {}
            yield from (f"{key}.{part}" for part in parts if part not in there)


def recorded(
    manifest: Path,
    request: Mapping[str, Any],
    predictions: Predictions,
    *,
    probabilities: Path | None,
) -> dict[str, Any]:
    """Return what a manifest has to say for the submission to be made again.

    Args:
        manifest: Where it will stand.
        request: What was predicted, as `described_request` gives it.
        predictions: The answers.
        probabilities: The file of probabilities, where one was written.

    Returns:
        `typed_in`, the folder of the command, relative to the manifest; `request`, hashes of ids
        and photos; `plan`, all of it; and `probabilities`, the hash of their values and the file.
    """
    return {
        "typed_in": _relative(Path.cwd(), manifest.resolve().parent),
        "request": request,
        "plan": predictions.plan.content,
        "probabilities": {
            "values_sha256": hashlib.sha256(
                np.ascontiguousarray(predictions.probabilities, dtype="<f8").tobytes()
            ).hexdigest(),
            "file": str(probabilities) if probabilities else None,
            "sha256": sha256_file(probabilities) if probabilities else None,
        },
    }


def described_request(request: Request) -> dict[str, Any]:
    """Return hashes of what is asked for; every photo is read.

    Returns:
        `ids_sha256` of columns and ids in their order, with all the sample's rows, `photos_sha256`
        of the bytes of all photos, and `photos`, the first `DIGITS` of each photo's hash, one after
        another.
    """
    each = _photo_hashes(request.paths)
    rows: list[Any] = [request.columns, request.ids]
    if request.sample:
        sample = request.sample
        rows = [sample.columns, sample.ids, sample.values.to_numpy().tolist(), sample.separator]
    return {
        "ids_sha256": sha256_json(rows),
        "photos_sha256": sha256_json(each),
        "photos": "".join(one[:DIGITS] or MISSING for one in each),
    }


def changed_photos(request: Request, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which photos are not those that were predicted, a line each.

    Args:
        request: What is asked for now, of the same ids.
        then: As `described_request` described it.
        now: As it describes it now.
    """
    if then["photos_sha256"] == now["photos_sha256"]:
        return []
    lines = []
    for number, path in enumerate(request.paths):
        was, is_now = (each["photos"][DIGITS * number :][:DIGITS] for each in (then, now))
        if was != is_now:
            state = {MISSING: "is missing"}.get(is_now, "was changed")
            lines.append(f"{path}: {'was missing then' if was == MISSING else state}")
    return lines or ["some photo was changed"]


def _photo_hashes(paths: Sequence[Path]) -> list[str]:
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(photo_sha256, paths))


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), start)).as_posix()
    except ValueError:  # On Windows there is no way from one drive to another.
        return str(path.resolve())
