"""The submission, what made it, and what it cost."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import toolkit
from toolkit.data.dataset import Request
from toolkit.data.pixels import DECODER_VERSION
from toolkit.errors import UsageError
from toolkit.files import sha256_file, write_json, written_whole
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.job import Outcome
from toolkit.inference.timing import percentiles
from toolkit.machine import package_versions, peak_memory_bytes

SCHEMA_VERSION = 1
PROBABILITY_SUFFIXES = (".csv", ".parquet")

_VERSIONED = ("onnxruntime-gpu", "onnxruntime", "numpy", "albumentations")


def write_submission(
    path: Path, request: Request, outcome: Outcome, classes: tuple[str, ...]
) -> None:
    """Write ids in the request's order with the original category values."""
    labels = [classes[index] for index in outcome.probabilities.argmax(axis=1)]
    table = pd.DataFrame(dict(zip(request.columns, (request.ids, labels), strict=True)))
    with written_whole(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def check_paths(out: Path, probabilities: Path | None) -> None:
    """Refuse file names that do not fit together, before any photo is predicted.

    Raises:
        UsageError: A suffix is not known, or two files would be written under one name.
    """
    if probabilities and probabilities.suffix.lower() not in PROBABILITY_SUFFIXES:
        raise UsageError(
            f"--probabilities {probabilities}: Expected a name that ends in "
            f"{' or '.join(PROBABILITY_SUFFIXES)}."
        )
    written = [
        out,
        manifest_path(out),
        latency_path(out),
        *([probabilities] if probabilities else []),
    ]
    absolute = [path.absolute() for path in written]
    for path in absolute:
        if absolute.count(path) > 1:
            raise UsageError(
                f"{path}: two files would be written there. Expected other names for --out "
                "(its manifest has the suffix .json, and latency.json is beside it) and "
                "--probabilities."
            )


def manifest_path(out: Path) -> Path:
    """Return where the manifest of a submission stands."""
    return out.with_suffix(".json")


def latency_path(out: Path) -> Path:
    """Return where the latency report of a submission stands."""
    return out.with_name("latency.json")


def write_probabilities(
    path: Path, request: Request, outcome: Outcome, classes: tuple[str, ...]
) -> None:
    """Write one row a photo and one column a class, as CSV or Parquet by suffix."""
    table = pd.DataFrame(outcome.probabilities, columns=list(classes))
    table.insert(0, request.columns[0], list(request.ids))
    with written_whole(path) as temporary:
        if path.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False)


def write_manifest(
    path: Path, submission: Path, ensemble: Ensemble, outcome: Outcome, options: Mapping[str, Any]
) -> None:
    """Write what made a submission: bundle, options, versions, the provider really used."""
    bundle = ensemble.bundle
    content = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "submission": {"file": submission.name, "sha256": sha256_file(submission)},
        "bundle": {"folder": str(bundle.folder), "sha256": bundle.sha256},
        "options": dict(options),
        "voting": {
            "name": ensemble.voting.name,
            "weights": dict(
                zip((m.name for m in bundle.members), ensemble.voting.weights, strict=True)
            ),
            "temperature": ensemble.voting.temperature,
        },
        "photos": len(outcome.probabilities),
        "answered_with_class_prior": outcome.broken,
        "device": _device(ensemble),
        "notes": list(ensemble.notes),
        "versions": {
            "toolkit": toolkit.__version__,
            "decoder": DECODER_VERSION,
            **package_versions(_VERSIONED),
        },
    }
    write_json(path, content)


def latency_report(
    ensemble: Ensemble, outcome: Outcome, *, batch: int, views: int, threads: int
) -> dict[str, Any]:
    """Return what prediction cost.

    Args:
        ensemble: With its timings.
        outcome: Of the job.
        batch: Photos a batch.
        views: Views a photo.
        threads: Of a session on the CPU.

    Returns:
        Percentiles in milliseconds with the number of samples, the raw samples, rate and memory.
    """
    timings = ensemble.timings
    done = len(outcome.probabilities) - outcome.resumed
    return {
        "schema_version": SCHEMA_VERSION,
        **_device(ensemble),
        "notes": list(ensemble.notes),
        "threads": threads,
        "batch": batch,
        "views": views,
        "precision": sorted(
            {m.precision for m in ensemble.bundle.members if m.name in ensemble.member_names}
        ),
        "photos": done,
        "photos_of_an_earlier_sitting": outcome.resumed,
        "end_to_end": {
            "seconds": round(outcome.seconds, 3),
            "photos_per_second": round(rate, 3) if (rate := outcome.photos_per_second) else None,
        },
        "load_ms": _rounded(timings.load),
        "first_run_ms": _rounded(timings.first),
        "stages": {
            work: {"unit": _unit(work, batch, views), **percentiles(samples)}
            for work, samples in timings.samples.items()
        },
        "peak_memory_bytes": peak_memory_bytes(),
        "samples_ms": {
            work: np.round(samples, 3).tolist() for work, samples in timings.samples.items()
        },
    }


def _device(ensemble: Ensemble) -> dict[str, str]:
    return {"provider": ensemble.provider, "device": ensemble.device.name}


def _unit(work: str, batch: int, views: int) -> str:
    if work in ("decode", "views"):
        return "ms a photo"
    return f"ms a batch of {batch} photos x {views} views"


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
