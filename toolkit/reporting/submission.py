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
from toolkit.errors import UsageError
from toolkit.files import sha256_file, write_json, written_whole
from toolkit.inference.cascade import BROKEN
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.fast import FastOutcome
from toolkit.inference.job import Outcome
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
        plan: A plan that will be read.

    Raises:
        UsageError: A suffix is not known, two files would be written under one name, or one over
            the plan.
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
    if plan and plan.absolute() in absolute:
        raise UsageError(
            f"--plan {plan}: this submission's own files would be written over it. Pass another "
            "--out."
        )
    for path in absolute:
        if absolute.count(path) > 1:
            raise UsageError(
                f"{path}: two files would be written there. Expected other names for --out "
                f"(its manifest has the suffix .json, and {latency_path(out).name} is beside it) "
                "and --probabilities."
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
    path: Path,
    submission: Path,
    ensemble: Ensemble,
    outcome: Outcome,
    options: Mapping[str, Any],
    inputs: Mapping[str, Any],
    answered: AnswerFormat,
) -> None:
    """Write what made a submission: bundle, options, versions, the provider really used.

    Args:
        path: The manifest.
        submission: Its submission, already written, as its latency report is.
        ensemble: What answered.
        outcome: The answers.
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
        "promise": promise_of(outcome),
        "photos": len(outcome.probabilities),
        "answered_with_class_prior": outcome.broken,
        "device": _device(ensemble, outcome),
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


def promise_of(outcome: Outcome) -> str:
    """Say how the labels stand to the exact ensemble's."""
    if isinstance(outcome, FastOutcome):
        return outcome.certificate.promise
    return "every label is the exact ensemble's"


def latency_report(ensemble: Ensemble, outcome: Outcome) -> dict[str, Any]:
    """Return what prediction cost.

    Args:
        ensemble: With its timings.
        outcome: Of the job.

    Returns:
        Percentiles in milliseconds with the number of samples, the raw samples, rate and memory.
    """
    timings = ensemble.timings
    fast = fast_report(outcome) if isinstance(outcome, FastOutcome) else None
    done = len(outcome.probabilities) - outcome.resumed
    return {
        "schema_version": SCHEMA_VERSION,
        **_device(ensemble, outcome),
        "notes": list(ensemble.notes),
        "threads": ensemble.threads,
        "batch": ensemble.sessions.batch,
        "views": ensemble.views,
        "precision": sorted(
            {m.precision for m in ensemble.bundle.members if m.name in ensemble.member_names}
            | (outcome.precisions if isinstance(outcome, FastOutcome) else set())
        ),
        "photos": done,
        "photos_of_an_earlier_sitting": outcome.resumed,
        "end_to_end": {
            "seconds": round(outcome.seconds, 3),
            "photos_per_second": round(rate, 3) if (rate := outcome.photos_per_second) else None,
        },
        "inference": {
            "seconds": round(timings.inference_ms / 1e3, 3),
            "ms_a_photo": round(timings.inference_ms / done, 3) if done else None,
            "runs_a_photo": round(timings.runs / done, 3) if done else None,
        },
        "fast": fast,
        "load_ms": _rounded(timings.load),
        "first_run_ms": _rounded(timings.first),
        "stages": {
            work: {"unit": _unit(work, ensemble, fast=fast is not None), **percentiles(samples)}
            for work, samples in timings.samples.items()
        },
        "peak_memory_bytes": peak_memory_bytes(),
        "samples_ms": {
            work: np.round(samples, 3).tolist() for work, samples in timings.samples.items()
        },
    }


def fast_report(outcome: FastOutcome) -> dict[str, Any]:
    """Return what the fast ensemble did: how many photos left where, and what is promised.

    Args:
        outcome: Of the job.

    Returns:
        `promise` in words, the `certificate`, the `steps` with the runs of each and how many photos
        left after it, and how many were `sampled` and got their `exact` label in the end.
    """
    plan, certificate = outcome.plan, outcome.certificate
    photos = len(outcome.left)
    steps: list[dict[str, Any]] = []
    for number, runs in enumerate(plan.steps if certificate.shipped else ()):
        left = int((outcome.left == number).sum())
        steps.append(
            {
                "runs": [f"{run.member} {run.precision}, {VIEWS[run.view].name}" for run in runs],
                "photos": left,
                "share": left / photos,
            }
        )
    unread = int((outcome.left == BROKEN).sum())
    exact = photos - sum(step["photos"] for step in steps) - outcome.sampled - unread
    return {
        "promise": certificate.promise,
        "plan_sha256": plan.sha256,
        "expected_ms_a_photo": (
            plan.candidates[certificate.shipped - 1].figures["ms"]
            if certificate.shipped
            else plan.settled_ms
        ),
        "exact_ms_a_photo": plan.exact_ms,
        "certificate": asdict(certificate),
        "sampled": outcome.sampled,
        "steps": steps,
        "exact": {"photos": exact, "share": exact / photos},
    }


def _device(ensemble: Ensemble, outcome: Outcome) -> dict[str, str]:
    others = outcome.providers if isinstance(outcome, FastOutcome) else ()
    providers = dict.fromkeys([ensemble.provider, *others])
    return {"provider": ", ".join(providers), "device": ensemble.device.name}


def _unit(work: str, ensemble: Ensemble, *, fast: bool) -> str:
    if work in ("decode", "decode again", "views"):
        return "ms a photo"
    if fast:  # It runs images singly chosen.
        return "ms an image, by runs"
    return f"ms a batch of {ensemble.sessions.batch} photos x {ensemble.views} views"


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
