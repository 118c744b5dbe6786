"""The whole way from a bundle and a data folder to the files of a submission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.reading import AUTO, WARN_SHARE, Reading
from toolkit.data.request import Request, load_request
from toolkit.errors import ToolkitError, UsageError, listing
from toolkit.inference.bundle import load_bundle
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.finding import FULL, LABEL_EXACT, Skipping, chosen_plan
from toolkit.inference.journal import Journal
from toolkit.inference.plan import CascadePlan
from toolkit.inference.predict import (
    PredictionJob,
    Predictions,
    columns,
    file_numbers,
    job_identity,
    predict_request,
)
from toolkit.progress import SILENT, Reporter, counted
from toolkit.reporting.answer_files import write_answers
from toolkit.reporting.format_choice import choose_format
from toolkit.reporting.formats import AS_SAMPLED, AnswerFormat, FormatOptions
from toolkit.reporting.latency import LatencyReport, latency_report
from toolkit.reporting.manifest import SETTINGS, Options, SkippingRecord
from toolkit.reporting.provenance import described_request, recorded
from toolkit.reporting.submission import (
    check_paths,
    latency_path,
    manifest_path,
    submission_manifest,
    write_probabilities,
)

ANSWER_SETTINGS = ("tta", "tta_views", "seed", "batch")
"""Settings that change answers and that neither the bundle nor the weights tell."""


@dataclass(frozen=True)
class Submitted:
    """What was written.

    Attributes:
        files: What was written, by what it is: `submission`, `manifest`, `latency` and, where it
            was requested, `probabilities`.
        rows: Of the submission.
        method: `full`, `label-exact` or `cascade`.
        guarantee: How the labels stand to the full ensemble's, in words.
        answer: What the submission holds.
        broken: Ids of photos that were answered with the class prior, with the reason.
        latency: The latency report.
    """

    files: Mapping[str, Path]
    rows: int
    method: str
    guarantee: str
    answer: AnswerFormat
    broken: Mapping[str, str]
    latency: LatencyReport


def submit(
    bundle: Path,
    data: Path,
    out: Path,
    settings: Mapping[str, Any],
    *,
    reading: Reading = AUTO,
    skipping: Skipping = LABEL_EXACT,
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
        skipping: Which model calls may be skipped. Where probabilities are wanted none are.
        probabilities: Write them too, as CSV or Parquet by suffix.
        answer: What the submission shall hold, where the sample does not say so.
        skip_broken: Answer a broken photo with the class prior, instead of refusing.

    Returns:
        What a user should hear of it.

    Raises:
        UsageError: Names of files or settings do not fit together.
        ToolkitError: Bundle, data or device are not as expected, or photos are broken.
    """
    check_paths(out, probabilities, skipping.plan if isinstance(skipping.plan, Path) else None)
    if skipping.allows_differences and settings["tta_views"] != "fixed":
        raise UsageError(
            "`tta_views`: Expected fixed views with `tolerance` or `plan`.", argument="tta_views"
        )
    manifest = load_bundle(bundle)
    reading = reading.completed(manifest.data.reading, data, reporter)
    request = load_request(data, reading, reporter)
    wanted = choose_format(request, manifest.classes, manifest.names, answer)
    why_full = _why_full(wanted, probabilities)
    if why_full and skipping.allows_differences:
        raise UsageError(
            f"{'`tolerance`' if skipping.plan is None else '`plan`'}: a cascade gives the full "
            f"ensemble's labels, not its probabilities, and {why_full}. Leave it out."
        )
    ensemble = _loaded(bundle, request, settings, reporter)
    reporter.say(f"{data}: {request.found.line}")
    for warning in request.found.warnings:
        reporter.warn(warning)
    reporter.say(f"answer: {wanted.said}")
    if wanted.warning:
        reporter.warn(wanted.warning)
    if why_full and skipping != FULL:
        reporter.say(f"every member looks at every view: {why_full}")
        skipping = FULL
    plan = chosen_plan(ensemble, skipping, len(request.ids), reporter)
    job = PredictionJob.of(
        plan,
        len(request.ids),
        certify=skipping.certify,
        seed=settings["seed"],
        budget_ms=skipping.budget_ms,
    )
    identity = job_identity(ensemble, request, **{key: settings[key] for key in ANSWER_SETTINGS})
    at_first = file_numbers(request)
    with Journal.held(
        out, {**identity, **job.identity}, columns(ensemble), at_first[job.order]
    ) as journal:
        if journal.discarded_for:
            reporter.say(
                "discarding the predictions of an interrupted job; settings changed: "
                f"{', '.join(journal.discarded_for)}"
            )
        predictions = predict_request(
            ensemble, request, job, journal, skip_broken=skip_broken, reporter=reporter
        )
        _refuse_unread(predictions, request, reporter)
        predicted = described_request(request)
        _refuse_changed(request, at_first)
        latency = latency_report(ensemble, predictions)
        # Until the new one stands there, an older manifest would speak of other labels.
        manifest_path(out).unlink(missing_ok=True)
        write_answers(out, wanted, request, predictions.probabilities, ensemble.classes)
        if probabilities:
            write_probabilities(probabilities, request, predictions, ensemble.classes)
        latency.save(latency_path(out))
        chosen = Options(
            data=str(data),
            reading=reading.recorded(data),
            skip_broken=skip_broken,
            answer=answer,
            skipping=_recorded(skipping, plan),
            **{name: settings[name] for name in SETTINGS},
        )
        inputs = recorded(manifest_path(out), predicted, predictions, probabilities=probabilities)
        made = submission_manifest(out, ensemble, predictions, chosen, inputs, wanted)
        made.save(manifest_path(out))
        journal.remove()
    files = {"submission": out, "manifest": manifest_path(out), "latency": latency_path(out)}
    if probabilities:
        files["probabilities"] = probabilities
    rows = len(request.sample.ids) if request.sample else len(request.ids)
    return Submitted(
        files, rows, plan.method, predictions.guarantee, wanted, predictions.broken, latency
    )


def _why_full(wanted: AnswerFormat, probabilities: Path | None) -> str:
    """Say why every member has to look at every view; empty where labels are enough."""
    if wanted.needs_probabilities:
        return f"probabilities are wanted ({wanted.said})"
    return "a file of probabilities is wanted" if probabilities else ""


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


def _refuse_unread(predictions: Predictions, request: Request, reporter: Reporter) -> None:
    """Refuse to answer photos none of which could be read; warn where these are many.

    Raises:
        ToolkitError: None could.
    """
    unread, photos = len(predictions.broken), len(request.ids)
    if unread == photos:
        reasons = [f"{id}: {reason}" for id, reason in predictions.broken.items()]
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


def _recorded(skipping: Skipping, plan: CascadePlan) -> SkippingRecord:
    """Return what was chosen of a plan, defaults filled in; the plan itself is recorded apart."""
    return SkippingRecord(
        full=skipping.full,
        plan=str(skipping.plan) if isinstance(skipping.plan, Path) else None,
        certify=skipping.certify,
        budget_ms=skipping.budget_ms,
        tolerance=plan.search.tolerance if plan.search else None,
        confidence=plan.search.confidence if plan.search else None,
    )
