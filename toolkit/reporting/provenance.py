"""What a submission was made of, recorded so that it can be made again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.data.photo_file import photo_sha256
from toolkit.data.request import Request
from toolkit.files import sha256_file, sha256_json
from toolkit.inference.predict import Predictions
from toolkit.machine import usable_cores
from toolkit.reporting.manifest import ProbabilitiesRecord, RequestRecord

DIGITS = 8
"""Of each photo's hash that are kept: enough to name a photo that changed, and short."""

MISSING = "-" * DIGITS
"""In place of the hash of a photo that is not there."""


@dataclass(frozen=True)
class Inputs:
    """What a submission was made of, apart from options and bundle.

    Attributes:
        typed_in: The folder of the command, relative to the manifest.
        request: Hashes of ids and photos.
        probabilities: The hash of their values, and the file where one was written.
    """

    typed_in: str
    request: RequestRecord
    probabilities: ProbabilitiesRecord


def recorded(
    manifest: Path,
    request: RequestRecord,
    predictions: Predictions,
    *,
    probabilities: Path | None,
) -> Inputs:
    """Return what a manifest has to say for the submission to be made again.

    Args:
        manifest: Where it will stand.
        request: What was predicted, as `described_request` gives it.
        predictions: The answers.
        probabilities: The file of probabilities, where one was written.
    """
    values = np.ascontiguousarray(predictions.probabilities, dtype="<f8").tobytes()
    return Inputs(
        _relative(Path.cwd(), manifest.resolve().parent),
        request,
        ProbabilitiesRecord(
            values_sha256=hashlib.sha256(values).hexdigest(),
            file=str(probabilities) if probabilities else None,
            sha256=sha256_file(probabilities) if probabilities else None,
        ),
    )


def described_request(request: Request) -> RequestRecord:
    """Return hashes of what is requested; every photo is read."""
    each = _photo_hashes(request.paths)
    rows: list[Any] = [request.columns, request.ids]
    if request.sample:
        sample = request.sample
        rows = [sample.columns, sample.ids, sample.values.to_numpy().tolist(), sample.separator]
    return RequestRecord(
        ids_sha256=sha256_json(rows),
        photos_sha256=sha256_json(each),
        photos="".join(one[:DIGITS] or MISSING for one in each),
    )


def changed_photos(request: Request, then: RequestRecord, now: RequestRecord) -> list[str]:
    """Say which photos are not those that were predicted, a line each.

    Args:
        request: What is asked for now, of the same ids.
        then: As `described_request` described it.
        now: As it describes it now.
    """
    if then.photos_sha256 == now.photos_sha256:
        return []
    lines = []
    for number, path in enumerate(request.paths):
        was, is_now = (each.photos[DIGITS * number :][:DIGITS] for each in (then, now))
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
