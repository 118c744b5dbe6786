"""What a page is made from: everything is optional, and what is missing is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from toolkit.data.labels import read_labels
from toolkit.data.overview import Overview, overview
from toolkit.data.reading import AUTO
from toolkit.errors import ToolkitError, argument
from toolkit.files import sha256_file
from toolkit.inference.bundle import Bundle, BundleValidation, load_bundle, load_validation
from toolkit.inference.plan import CascadePlan, load_plan
from toolkit.metrics import doubt
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.answered import read_answers
from toolkit.reporting.gain import Gain
from toolkit.reporting.latency import LatencyReport
from toolkit.reporting.manifest import Made, SubmissionManifest
from toolkit.reporting.planning import PLAN
from toolkit.reporting.submission import latency_path, manifest_path
from toolkit.training.run import Run, finished_runs

T = TypeVar("T")

DEFAULTS = {
    "data": Path("data"),
    "runs": Path("runs"),
    "bundle": Path("bundle"),
    "submission": Path("submission.csv"),
    "gain": Path("gain.json"),
    "plan": PLAN,
}


@dataclass(frozen=True)
class Sources:
    """Where the parts of a page are; None is the usual place, if something is there.

    Attributes:
        data: The data folder.
        runs: The folder of run folders.
        bundle: The bundle's folder.
        submission: The submission's CSV; its manifest and latency report are beside it.
        labels: A CSV of the true labels of the photos that the submission answers.
        gain: What `Gain.save` wrote.
    """

    data: Path | None = None
    runs: Path | None = None
    bundle: Path | None = None
    submission: Path | None = None
    labels: Path | None = None
    gain: Path | None = None


@dataclass(frozen=True)
class Submission:
    """A submission with what is beside it.

    Attributes:
        path: Its CSV.
        answers: Category by id, in the order of the rows.
        made: Its manifest; None where there is none of it.
        latency: What it cost; None where there is no report of it.
    """

    path: Path
    answers: Mapping[str, str]
    made: Made | None
    latency: LatencyReport | None


@dataclass(frozen=True)
class Artifacts:
    """What was found.

    Attributes:
        overview: What is in the data folder.
        runs: The bundle's runs where it names some that are here, else all finished ones.
        bundle: The bundle.
        validation: What its members say of the held-out photos.
        submission: The submission.
        plan: The plan that the submission followed, where it was searched, else one of this bundle
            that `toolkit plan` wrote.
        truth: The true category by id of photos that the submission answers.
        gain: Of this bundle over its best member, on those photos.
        missing: By section, how to get what is missing.
        remarks: What does not fit together.
    """

    overview: Overview | None = None
    runs: tuple[Run, ...] = ()
    bundle: Bundle | None = None
    validation: BundleValidation | None = None
    submission: Submission | None = None
    plan: CascadePlan | None = None
    truth: Mapping[str, str] | None = None
    gain: Gain | None = None
    missing: Mapping[str, str] | None = None
    remarks: tuple[str, ...] = ()

    @property
    def views(self) -> int:
        """How many views a photo the ensemble looks at: as the submission did, else the plan."""
        if self.manifest:
            return self.manifest.options.tta
        return self.plan.views if self.plan else 1

    @property
    def manifest(self) -> SubmissionManifest | None:
        """What made the submission, where that is known."""
        made = self.submission.made if self.submission else None
        return made.manifest if made else None

    def holds(self, fingerprint: str) -> bool:
        """Whether there is a data folder with ids and labels of that hash, broken ones or not."""
        if self.overview is None:
            return False
        dataset = self.overview.dataset
        pairs = zip(dataset.photos, self.overview.facts, strict=True)
        broken = [photo.id for photo, fact in pairs if fact.broken]
        return fingerprint in (dataset.fingerprint, dataset.without(broken).fingerprint)

    @property
    def classes(self) -> tuple[str, ...]:
        """Category values in class order."""
        if self.bundle:
            return self.bundle.classes
        if self.overview:
            return self.overview.dataset.classes
        return self.runs[0].data.classes if self.runs else ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """How the classes are called on the page."""
        known: Mapping[str, str] = {}
        if self.bundle:
            known = self.bundle.names
        elif self.overview:
            known = self.overview.dataset.names
        names = [known.get(category) or category for category in self.classes]
        if len(set(names)) == len(names):
            return tuple(names)
        pairs = zip(self.classes, names, strict=True)
        return tuple(c if c == name else f"{c} {name}" for c, name in pairs)


def gather(sources: Sources, reporter: Reporter = SILENT) -> Artifacts:
    """Read everything that a page is made from.

    Raises:
        ToolkitError: What was named is not there or is not as expected, or there is nothing.
    """
    missing: dict[str, str] = {}
    remarks: list[str] = []
    bundle = _bundle(sources, missing)
    validation = None
    if bundle and bundle.validation_sha256:
        validation = load_validation(bundle)
    elif bundle:
        missing["ensemble"] = (
            "The members trained on all photos, so none are left to judge them on. Train with "
            "`train()` and export again."
        )
    submission = _submission(sources, missing, remarks)
    runs = _runs(sources, bundle, missing, remarks)
    plan = _plan(bundle, submission)
    truth = _truth(sources, submission, missing)
    folder = _place(sources.data, "data")
    if folder is None:
        missing["data"] = "No data/ here. Name the data folder with `data=DIR`."
    said = runs[0].data.reading if runs else {}
    reading = AUTO.completed(said, folder, reporter) if folder else AUTO
    photos = overview(folder, reading, reporter) if folder else None
    if not (photos or runs or bundle or submission):
        raise ToolkitError(
            "nothing to report on: no data/, runs/, bundle/ or submission.csv here. Name them with "
            "`data`, `runs`, `bundle` and `submission`."
        )
    gain = _gain(sources, bundle, remarks)
    found = Artifacts(photos, runs, bundle, validation, submission, plan, truth, gain, missing)
    return replace(found, remarks=(*remarks, *_doubts(found)))


def _place(named: Path | None, part: str) -> Path | None:
    """Return where a part is; None where nothing was named and nothing is at the usual place."""
    if named is not None and not named.exists():
        raise ToolkitError(f"{argument(part, named)}: no such file or folder.")
    path = named or DEFAULTS[part]
    return path if path.exists() else None


def _bundle(sources: Sources, missing: dict[str, str]) -> Bundle | None:
    folder = _place(sources.bundle, "bundle")
    if folder is None:
        told = "No bundle/ here. Make one with `export()`, or name it with `bundle=DIR`."
        missing.update(dict.fromkeys(("ensemble", "views"), told))
        return None
    return load_bundle(folder)


def _submission(sources: Sources, missing: dict[str, str], remarks: list[str]) -> Submission | None:
    path = _place(sources.submission, "submission")
    if path is None:
        missing["cost"] = (
            "No submission.csv here. Make one with 'toolkit ensemble', or name it with "
            "`submission=FILE`."
        )
        return None
    made = _beside(manifest_path(path), Made.load, remarks)
    latency = _beside(latency_path(path), LatencyReport.load, remarks)
    if latency and made and sha256_file(latency_path(path)) != made.manifest.latency.sha256:
        remarks.append(
            f"{latency_path(path).name} is not of {path.name}: another was written when the "
            "submission was made. It is left out."
        )
        latency = None
    if not latency:
        missing["cost"] = (
            f"No {latency_path(path).name} of {path.name} beside it. 'toolkit ensemble' writes it."
        )
    truth = read_labels(sources.labels) if sources.labels else {}
    answers = read_answers(path, labels=truth.values(), ids=truth)
    return Submission(path, answers.labels, made, latency)


def _beside(file: Path, read: Callable[[Path], T], remarks: list[str]) -> T | None:
    """Read what lies beside a submission; None where there is none, or something else."""
    if not file.is_file():
        return None
    try:
        return read(file)
    except ToolkitError as error:
        remarks.append(f"{error} It is left out.")
        return None


def _gain(sources: Sources, bundle: Bundle | None, remarks: list[str]) -> Gain | None:
    path = _place(sources.gain, "gain")
    if path is None or bundle is None:
        return None
    gain = Gain.load(path)
    labels = sha256_file(sources.labels) if sources.labels else gain.labels
    if gain.bundle == bundle.sha256 and gain.labels == labels:
        return gain
    other = "other labels" if gain.bundle == bundle.sha256 else "another bundle"
    remarks.append(f"{path.name} was written with {other}. It is left out.")
    return None


def _runs(
    sources: Sources, bundle: Bundle | None, missing: dict[str, str], remarks: list[str]
) -> tuple[Run, ...]:
    folder = _place(sources.runs, "runs")
    found = finished_runs(folder) if folder else []
    if not found:
        missing["training"] = (
            "No finished runs here. Train with `train()`, or name their folder with `runs=DIR`."
        )
        return ()
    by_model = {run.model_sha256: run for run in found}
    wanted = [member.model_sha256 for member in bundle.members] if bundle else []
    members = [by_model[sha256] for sha256 in wanted if sha256 in by_model]
    if bundle and len(members) < len(bundle.members):
        remarks.append(
            f"{len(bundle.members) - len(members)} of the bundle's {len(bundle.members)} members "
            "come from runs that are not here."
        )
    return tuple(members or found)


def _plan(bundle: Bundle | None, submission: Submission | None) -> CascadePlan | None:
    if submission and submission.made and submission.made.manifest.plan.search:
        return submission.made.manifest.plan
    if bundle is None or not DEFAULTS["plan"].is_file():
        return None
    plan = load_plan(DEFAULTS["plan"])
    return plan if plan.bundle == bundle.sha256 else None


def _doubts(found: Artifacts) -> list[str]:
    """Say what does not fit together between photos, bundle, submission and its manifest."""
    bundle, submission, doubts = found.bundle, found.submission, _of_figures(found)
    if bundle and found.overview and not found.holds(bundle.data.fingerprint):
        doubts.append(
            "The data folder holds other photos or labels than the bundle was made of: its photos "
            "are not shown beside what the bundle says of held-out ones."
        )
    manifest = found.manifest
    if submission is None or manifest is None:
        return doubts
    if bundle and manifest.bundle.sha256 != bundle.sha256:
        doubts.append(
            "The submission was made with another bundle than the one shown: its own figures do "
            "not belong to these members."
        )
    if manifest.submission.sha256 != sha256_file(submission.path):
        doubts.append(f"{submission.path.name} was changed after it was written.")
    if manifest.options.tta_views != "fixed":
        doubts.append(
            "The submission looked at random views; the figures on held-out photos are of the "
            "fixed ones."
        )
    return doubts


def _truth(
    sources: Sources, submission: Submission | None, missing: dict[str, str]
) -> Mapping[str, str] | None:
    if sources.labels is None:
        if submission:
            missing["test"] = (
                "The true labels of the submission's photos were not named. Where you have them, "
                "pass `labels=FILE`."
            )
        return None
    if submission is None:
        raise ToolkitError(
            f"{argument('labels', sources.labels)}: there is no submission to score."
        )
    truth = read_labels(sources.labels)
    unanswered = [id for id in truth if id not in submission.answers]
    if unanswered:
        raise ToolkitError(
            f"{submission.path}: has no row for '{unanswered[0]}'.", path=submission.path
        )
    return truth


def _of_figures(found: Artifacts) -> list[str]:
    """Say of which figures the held-out photos cannot carry them."""
    reasons = {run.label: run.score.doubt for run in found.runs if run.score}
    if found.bundle and found.validation:
        labels, classes = found.validation.labels, len(found.bundle.classes)
        reasons["the ensemble"] = doubt(len(labels), len(np.unique(labels)), classes)
    named: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if reason:
            named.setdefault(reason, []).append(name)
    return [
        f"Do not rely on the figures of {', '.join(names)}: {reason}."
        for reason, names in named.items()
    ]
