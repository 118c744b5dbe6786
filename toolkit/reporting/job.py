"""The whole way from a bundle and a data folder to the files of a submission."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.reading import AUTO, WARN_SHARE, Reading
from toolkit.data.request import Request, load_request
from toolkit.errors import ToolkitError, UsageError, listing
from toolkit.files import write_json
from toolkit.inference.bundle import load_bundle
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.fast import FastJob, predict_fast
from toolkit.inference.job import Outcome, file_numbers, job_identity, predict_request
from toolkit.inference.journal import Journal
from toolkit.inference.plan import Plan
from toolkit.inference.plans import FastOptions, chosen_plan, kept_path
from toolkit.progress import SILENT, Reporter, counted
from toolkit.reporting.answer_files import write_answers
from toolkit.reporting.format_choice import choose_format
from toolkit.reporting.formats import AS_SAMPLED, AnswerFormat, FormatOptions
from toolkit.reporting.provenance import described_request, recorded
from toolkit.reporting.submission import (
    check_paths,
    latency_path,
    latency_report,
    manifest_path,
    promise_of,
    write_manifest,
    write_probabilities,
)

ANSWER_SETTINGS = ("tta", "tta_views", "seed", "batch")
"""Settings that change answers and that neither the bundle nor the weights tell."""


@dataclass(frozen=True)
class Submitted:
    """What was written.

    Attributes:
        files: What was written, by what it is: `submission`, `manifest`, `latency` and, where it
            was asked for, `probabilities`.
        rows: Of the submission.
        promise: How the labels stand to the exact ensemble's, in words.
        answer: What the submission holds.
        broken: Ids of photos that were answered with the class prior, with the reason.
        latency: The latency report.
    """

    files: Mapping[str, Path]
    rows: int
    promise: str
    answer: AnswerFormat
    broken: Mapping[str, str]
    latency: Mapping[str, Any]


def submit(
    bundle: Path,
    data: Path,
    out: Path,
    settings: Mapping[str, Any],
    *,
    reading: Reading = AUTO,
    fast: FastOptions | None = None,
    probabilities: Path | None = None,
    answer: FormatOptions = AS_SAMPLED,
    skip_broken: bool = False,
    reporter: Reporter = SILENT,
) -> Submitted:
    """Predict a data folder's photos and write submission, manifest and latency report.

    Interrupted, the same call goes on where it stopped and writes the same bytes.

    Args:
        bundle: The bundle's folder.
        data: The data folder.
        out: The submission; its manifest and its latency report are put beside it.
        settings: `tta`, `tta_views`, `voting`, `device`, `batch`, `threads` and `seed`, as
            `Ensemble.load` takes them.
        reading: How the data folder is to be read, where that cannot be found by itself; what is
            not said here is taken as it was said when the bundle's networks were trained.
        fast: How to give the exact ensemble's labels at less cost; None is the exact ensemble.
        probabilities: Write them too, as CSV or Parquet by suffix.
        answer: What the submission shall hold, where the sample does not say so.
        skip_broken: Answer a broken photo with the class prior, instead of refusing.

    Returns:
        What a user should hear of it.

    Raises:
        UsageError: Names of files or settings do not fit together.
        ToolkitError: Bundle, data or device are not as expected, or photos are broken.
    """
    check_paths(out, probabilities, fast.file if fast else None)
    if fast and settings["tta_views"] != "fixed":
        raise UsageError("--plan: a plan is made of fixed views. Leave --tta-views out.")
    manifest = load_bundle(bundle)
    reading = reading.completed(manifest.data.reading, data)
    request = load_request(data, reading, reporter)
    wanted = choose_format(request, manifest.classes, manifest.names, answer)
    if fast and wanted.needs_probabilities:
        raise UsageError(
            f"plan={fast.plan}: gives the exact ensemble's labels, not its probabilities, and "
            f"those are wanted ({wanted.said}). Leave the plan out."
        )
    ensemble = _loaded(bundle, request, settings, reporter)
    reporter.say(f"{data}: {request.found.line}")
    for warning in request.found.warnings:
        reporter.warn(warning)
    reporter.say(f"answer: {wanted.said}")
    photos, classes = len(request.ids), len(ensemble.classes)
    job = job_identity(ensemble, request, **{key: settings[key] for key in ANSWER_SETTINGS})
    at_first = numbers = file_numbers(request)
    columns, plan_job, plan_used = classes, None, None
    if fast:
        plan = chosen_plan(ensemble, fast, photos, reporter)
        plan_used = _plan_file(ensemble, fast, photos), plan.sha256
        plan_job = FastJob.of(
            plan,
            fast.certify,
            photos,
            seed=settings["seed"],
            budget_ms=fast.budget_ms,
        )
        job = {**job, **plan_job.identity}
        numbers, columns = at_first[plan_job.order], 1 + classes
    outcome: Outcome
    with Journal.held(out, job, columns, numbers) as journal:
        if journal.thrown_away_for:
            reporter.say(
                "the answers of an interrupted job are thrown away: it differs in "
                f"{', '.join(journal.thrown_away_for)}"
            )
        if plan_job:
            outcome = predict_fast(
                ensemble, request, plan_job, journal, skip_broken=skip_broken, reporter=reporter
            )
        else:
            outcome = predict_request(
                ensemble, request, journal, skip_broken=skip_broken, reporter=reporter
            )
        _refuse_unread(outcome, request, reporter)
        predicted = described_request(request)
        _refuse_changed(request, at_first)
        latency = latency_report(ensemble, outcome)
        # Until the new one stands there, an older manifest would speak of other labels.
        manifest_path(out).unlink(missing_ok=True)
        write_answers(out, wanted, request, outcome.probabilities, ensemble.classes)
        if probabilities:
            write_probabilities(probabilities, request, outcome, ensemble.classes)
        write_json(latency_path(out), latency)
        asked = {
            "data": str(data),
            "reading": reading.recorded(data),
            "skip_broken": skip_broken,
            **settings,
            "answer": asdict(answer),
        }
        asked["plan"] = _said(fast, plan_job.plan) if fast and plan_job else "exact"
        inputs = recorded(
            manifest_path(out), predicted, outcome, plan=plan_used, probabilities=probabilities
        )
        write_manifest(manifest_path(out), out, ensemble, outcome, asked, inputs, wanted)
        journal.remove()
    files = {"submission": out, "manifest": manifest_path(out), "latency": latency_path(out)}
    if probabilities:
        files["probabilities"] = probabilities
    rows = len(request.sample.ids) if request.sample else len(request.ids)
    return Submitted(files, rows, promise_of(outcome), wanted, outcome.broken, latency)


def _loaded(
    bundle: Path, request: Request, settings: Mapping[str, Any], reporter: Reporter
) -> Ensemble:
    """Load a bundle for a job, and say what it runs on."""
    ensemble = Ensemble.load(bundle, **settings)
    for line in (f"{ensemble.provider} on {ensemble.device.name}", *ensemble.notes):
        reporter.say(line)
    reporter.say(
        f"{counted(len(request.ids), 'photo')}, {counted(settings['tta'], 'view')}, voting "
        f"'{ensemble.voting.name}' of {', '.join(ensemble.member_names)}"
    )
    for line in ensemble.details:
        reporter.detail(line)
    return ensemble


def _refuse_unread(outcome: Outcome, request: Request, reporter: Reporter) -> None:
    """Refuse to answer photos none of which could be read; warn where these are many.

    Raises:
        ToolkitError: None could.
    """
    unread, photos = len(outcome.broken), len(request.ids)
    if unread == photos:
        reasons = [f"{id}: {reason}" for id, reason in outcome.broken.items()]
        raise ToolkitError(
            f"none of the {counted(photos, 'photo')} to predict can be read, so that nothing is "
            f"answered:\n{listing(reasons)}"
        )
    if unread > WARN_SHARE * photos:
        reporter.warn(
            f"{unread:,} of {counted(photos, 'photo')} could not be read and "
            f"{'has' if unread == 1 else 'have'} the class prior for an answer"
        )


def _refuse_changed(request: Request, at_first: NDArray[np.float64]) -> None:
    """Refuse to answer photos that changed after the job had begun.

    Raises:
        ToolkitError: Names them.
    """
    changed = np.flatnonzero(file_numbers(request) != at_first)
    if len(changed):
        raise ToolkitError(
            f"{counted(len(changed), 'photo')} changed while the job ran. Run the same command "
            "again, which predicts them anew:\n"
            f"{listing([str(request.paths[number]) for number in changed])}"
        )


def _plan_file(ensemble: Ensemble, fast: FastOptions, photos: int) -> Path:
    """Return the file of the plan that was taken, relative where the bundle was named so."""
    if fast.file:
        return fast.file
    kept = kept_path(ensemble, fast, photos)
    return kept if ensemble.bundle.folder.is_absolute() else Path(os.path.relpath(kept))


def _said(fast: FastOptions, plan: Plan) -> dict[str, Any]:
    """Return what was asked of a plan, defaults filled in."""
    if not plan.photos:
        return {"plan": fast.plan}
    said = {
        "plan": fast.plan,
        "certify": fast.certify,
        "tolerance": plan.tolerance,
        "confidence": plan.confidence,
    }
    if fast.budget_ms is not None:
        said["budget_ms"] = fast.budget_ms
    return said
