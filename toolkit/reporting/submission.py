"""The files of a submission: their names, the probabilities, and what made it."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import pandas as pd

import toolkit
from toolkit.data.pixels import DECODER_VERSION
from toolkit.data.request import Request
from toolkit.errors import UsageError, argument
from toolkit.files import refuse_other_than_file, refuse_undecodable, sha256_file, written_whole
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.predict import Predictions
from toolkit.machine import package_versions
from toolkit.reporting.formats import AnswerFormat
from toolkit.reporting.latency import providers
from toolkit.reporting.manifest import (
    Options,
    SubmissionManifest,
    UsedBundle,
    UsedDevice,
    VotingRecord,
    WrittenFile,
)
from toolkit.reporting.provenance import Inputs

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
        ToolkitError: A folder, device, named pipe or socket stands under one of the names.
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
    for path in written:
        refuse_undecodable(path)
        refuse_other_than_file(path)
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


def submission_manifest(
    submission: Path,
    ensemble: Ensemble,
    predictions: Predictions,
    options: Options,
    inputs: Inputs,
    answered: AnswerFormat,
) -> SubmissionManifest:
    """Return what made a submission: bundle, options, versions, the provider really used.

    Args:
        submission: It, already written, as its latency report is.
        ensemble: What answered.
        predictions: The answers.
        options: What was requested.
        inputs: What was predicted.
        answered: The submission's format.
    """
    bundle, latency, voting = ensemble.bundle, latency_path(submission), ensemble.voting
    names = (member.name for member in bundle.members)
    return SubmissionManifest(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        submission=WrittenFile(submission.name, sha256_file(submission)),
        format=answered,
        classes=tuple(ensemble.classes),
        latency=WrittenFile(latency.name, sha256_file(latency)),
        bundle=UsedBundle(str(bundle.folder), bundle.sha256),
        options=options,
        typed_in=inputs.typed_in,
        request=inputs.request,
        plan=predictions.plan,
        probabilities=inputs.probabilities,
        voting=VotingRecord(
            voting.name, dict(zip(names, voting.weights, strict=True)), voting.temperature
        ),
        method=predictions.plan.method,
        guarantee=predictions.guarantee,
        photos=len(predictions.probabilities),
        answered_with_class_prior=predictions.broken,
        device=UsedDevice(providers(ensemble, predictions), ensemble.device.name),
        threads=ensemble.threads,
        notes=tuple(ensemble.notes),
        versions={
            "toolkit": toolkit.__version__,
            "python": platform.python_version(),
            "decoder": DECODER_VERSION,
            **package_versions(_VERSIONED),
        },
    )
