"""The submission, what made it, and what it cost."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import toolkit
from toolkit.data.pixels import DECODER_VERSION
from toolkit.data.request import Request
from toolkit.errors import UsageError, argument
from toolkit.files import sha256_file, write_json, written_whole
from toolkit.inference.calls import ModelKey
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.executor import BROKEN
from toolkit.inference.predict import Predictions
from toolkit.inference.timing import percentiles
from toolkit.inference.views import VIEWS
from toolkit.machine import package_versions, peak_memory_bytes
from toolkit.reporting.formats import AnswerFormat

SCHEMA_VERSION = 1
LATENCY, DEFAULT_STEM = "latency.json", "submission"
PROBABILITY_SUFFIXES = (".csv", ".parquet")

_VERSIONED = (
    *("onnxruntime-gpu", "onnxruntime", "openvino"),
    *("numpy", "opencv-python-headless", "albumentations"),
)


def check_paths(out: Path, probabilities: Path | None, plan: Path | None = None) -> None:
    """Refuse file names that do not fit together, before any photo is predicted.

    Args:
        out: The submission that will be written, with other files beside it.
        probabilities: Likewise.
        plan: The file of a plan that will be read.

    Raises:
        UsageError: A suffix is not known, two files would be written under one name, or one over
            the plan.
    """
    if probabilities and probabilities.suffix.lower() not in PROBABILITY_SUFFIXES:
        raise UsageError(
            f"{argument('probabilities', probabilities)}: Expected a name that ends in "
            f"{' or '.join(PROBABILITY_SUFFIXES)}."
        )
    written = [
        out,
        manifest_path(out),
        latency_path(out),
        *([probabilities] if probabilities else []),
    ]
    absolute = [path.absolute() for path in written]
    if plan and plan.absolute() in absolute:
        raise UsageError(
            f"{argument('plan', plan)}: this submission's own files would be written over it. "
            "Choose another name for the submission."
        )
    for path in absolute:
        if absolute.count(path) > 1:
            raise UsageError(
                f"{path}: two files would be written there. Expected other names for the "
                f"submission (its manifest has the suffix .json, and {latency_path(out).name} is "
                "beside it) and the probabilities."
            )


def manifest_path(out: Path) -> Path:
    """Return where the manifest of a submission stands."""
    return out.with_suffix(".json")


def latency_path(out: Path) -> Path:
    """Return where the latency report of a submission stands.

    Beside `submission.csv` it is `latency.json`; those of other names in the same folder carry
    theirs: `mine-latency.json`.
    """
    return out.with_name(LATENCY if out.stem == DEFAULT_STEM else f"{out.stem}-{LATENCY}")


def write_probabilities(
    path: Path, request: Request, predictions: Predictions, classes: tuple[str, ...]
) -> None:
    """Write one row a photo and one column a class, as CSV or Parquet by suffix."""
    table = pd.DataFrame(predictions.probabilities, columns=list(classes))
    table.insert(0, request.columns[0], list(request.ids))
    with written_whole(path) as temporary:
        if path.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False)


def write_manifest(
    path: Path,
    submission: Path,
    ensemble: Ensemble,
    predictions: Predictions,
    options: Mapping[str, Any],
    inputs: Mapping[str, Any],
    answered: AnswerFormat,
) -> None:
    """Write what made a submission: bundle, options, versions, the provider really used.

    Args:
        path: The manifest.
        submission: Its submission, already written, as its latency report is.
        ensemble: What answered.
        predictions: The answers.
        options: What was asked for.
        inputs: As `toolkit.reporting.provenance.recorded` gives them.
        answered: The submission's format.
    """
    bundle, latency = ensemble.bundle, latency_path(submission)
    content = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "submission": {"file": submission.name, "sha256": sha256_file(submission)},
        "format": answered.record(ensemble.classes),
        "latency": {"file": latency.name, "sha256": sha256_file(latency)},
        "bundle": {"folder": str(bundle.folder), "sha256": bundle.sha256},
        "options": dict(options),
        **inputs,
        "voting": {
            "name": ensemble.voting.name,
            "weights": dict(
                zip((m.name for m in bundle.members), ensemble.voting.weights, strict=True)
            ),
            "temperature": ensemble.voting.temperature,
        },
        "method": predictions.plan.method,
        "guarantee": predictions.guarantee,
        "photos": len(predictions.probabilities),
        "answered_with_class_prior": predictions.broken,
        "device": _device(ensemble, predictions),
        "threads": ensemble.threads,
        "notes": list(ensemble.notes),
        "versions": {
            "toolkit": toolkit.__version__,
            "python": platform.python_version(),
            "decoder": DECODER_VERSION,
            **package_versions(_VERSIONED),
        },
    }
    write_json(path, content)


def latency_report(ensemble: Ensemble, predictions: Predictions) -> dict[str, Any]:
    """Return what prediction cost.

    Args:
        ensemble: With its timings.
        predictions: Of the job.

    Returns:
        Percentiles in milliseconds with the number of samples, the raw samples, rate and memory.
    """
    timings = ensemble.timings
    done = len(predictions.probabilities) - predictions.resumed
    rate = predictions.photos_per_second
    return {
        "schema_version": SCHEMA_VERSION,
        **_device(ensemble, predictions),
        "notes": list(ensemble.notes),
        "threads": ensemble.threads,
        "batch": ensemble.sessions.batch,
        "views": ensemble.views,
        "precision": predictions.precisions,
        "photos": done,
        "resumed_photos": predictions.resumed,
        "end_to_end": {
            "seconds": round(predictions.seconds, 3),
            "photos_per_second": round(rate, 3) if rate else None,
        },
        "inference": {
            "seconds": round(timings.inference_ms / 1e3, 3),
            "ms_a_photo": round(timings.inference_ms / done, 3) if done else None,
            "calls_a_photo": round(timings.calls / done, 3) if done else None,
            "full_calls_a_photo": len(predictions.plan.weights) * ensemble.views,
        },
        "method": predictions.plan.method,
        "guarantee": predictions.guarantee,
        "cascade": cascade_report(predictions),
        "load_ms": _rounded(timings.load),
        "first_run_ms": _rounded(timings.first),
        "stages": {
            work: {"unit": _unit(work), **percentiles(samples)}
            for work, samples in timings.samples.items()
        },
        "peak_memory_bytes": peak_memory_bytes(),
        "samples_ms": {
            work: np.round(samples, 3).tolist() for work, samples in timings.samples.items()
        },
    }


def cascade_report(predictions: Predictions) -> dict[str, Any] | None:
    """Return what a cascade did: how many photos exited where, and what is guaranteed.

    Args:
        predictions: Of the job.

    Returns:
        The `certificate`, the `steps` with the calls of each and how many photos exited after it,
        how many were `sampled`, and how many others got the `full` ensemble's label in the end.
        None where no plan was searched.
    """
    plan, certificate = predictions.plan, predictions.certificate
    if plan.search is None:
        return None
    photos = len(predictions.exit_step)
    steps: list[dict[str, Any]] = []
    for number, calls in enumerate(plan.steps if certificate.accepted else ()):
        exited = int((predictions.exit_step == number).sum())
        steps.append(
            {
                "calls": [f"{call.key}, {VIEWS[call.view].name}" for call in calls],
                "photos": exited,
                "share": exited / photos,
            }
        )
    unread = int((predictions.exit_step == BROKEN).sum())
    full = photos - sum(step["photos"] for step in steps) - predictions.sampled - unread
    accepted = plan.threshold_sets[certificate.accepted - 1] if certificate.accepted else None
    return {
        "plan_sha256": plan.sha256,
        "expected_ms_a_photo": accepted.ms if accepted else plan.search.settled_ms,
        "full_ms_a_photo": plan.search.full_ms,
        "certificate": asdict(certificate),
        "sampled": predictions.sampled,
        "steps": steps,
        "full": {"photos": full, "share": full / photos},
    }


def _device(ensemble: Ensemble, predictions: Predictions) -> dict[str, str]:
    providers = dict.fromkeys([ensemble.provider, *predictions.providers])
    return {"provider": ", ".join(providers), "device": ensemble.device.name}


def _unit(work: str) -> str:
    return {
        "decode": "ms a photo",
        "views": "ms a photo and step",
        "voting": "ms a window of photos",
    }.get(work, "ms an image, by runs")


def _rounded(values: Mapping[ModelKey, float]) -> dict[str, float]:
    return {str(key): round(value, 2) for key, value in values.items()}
