"""Scores runs, bundles and submissions on labelled photos."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.bootstrap import Estimate, estimate
from toolkit.data.dataset import Dataset, Photo
from toolkit.data.labelled import load_labelled, load_labels
from toolkit.data.photo_file import photo_sha256
from toolkit.data.pixels import BrokenPhotoError
from toolkit.data.ranges import Ranges
from toolkit.data.reading import AUTO, Reading, ReadingRecord
from toolkit.data.survey import report_notes
from toolkit.errors import DataError, ToolkitError, UsageError, listing
from toolkit.files import sha256_file
from toolkit.inference.bundle import MANIFEST as BUNDLE_MANIFEST
from toolkit.inference.bundle import Bundle, load_bundle, load_outside, load_validation
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.manifest import OUT_OF_FOLD
from toolkit.inference.unread import broken_photos
from toolkit.inference.voting import Voting, choose_voting, vote
from toolkit.intervals import Labels
from toolkit.metrics import (
    Answers,
    ClassScore,
    Metric,
    Probabilities,
    Score,
    class_scores,
    confusion,
    find_metric,
    have_order,
    score_answers,
    undefined,
)
from toolkit.progress import SILENT, Reporter, counted
from toolkit.reporting.answers import hold_to_labels
from toolkit.reporting.gain import Gain
from toolkit.reporting.ranking import Ranking, ranking
from toolkit.training.predict import predict_run
from toolkit.training.run import MANIFEST as RUN_MANIFEST
from toolkit.training.run import PHOTO_DIGITS, load_run


@dataclass(frozen=True)
class Evaluation:
    """How good a subject is on some labelled photos.

    Attributes:
        subject: What was scored.
        photos: What it was scored on, in words.
        classes: Category values in class order.
        scores: By what voted: each member alone, then all.
        metric: What they are judged by.
        estimates: The same of each, with its interval.
        predicted: Shape (photos,), class indices by the last of `scores`.
        labels: Shape (photos,), class indices.
        ranking: How good lists of labels are; None but for a submission of such.
        gain: The ensemble against its best member; None for a run, a submission, or where a single
            member votes.
    """

    subject: str
    photos: str
    classes: tuple[str, ...]
    scores: Mapping[str, Score]
    metric: Metric
    estimates: Mapping[str, Estimate]
    predicted: Labels
    labels: Labels
    ranking: Ranking | None = None
    gain: Gain | None = None

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Photos by label and prediction, shape (classes, classes): rows are the true labels."""
        return confusion(self.predicted, self.labels, len(self.classes))

    @property
    def class_scores(self) -> tuple[ClassScore, ...]:
        """Precision, recall and F1 of each class, in class order."""
        return tuple(class_scores(self.predicted, self.labels, len(self.classes)))


@dataclass(frozen=True)
class LabelledPhotos:
    """Where labelled photos are found: a data folder, or a CSV with a folder of photos."""

    data: Path | None = None
    labels: Path | None = None
    photos: Path | None = None

    @property
    def given(self) -> bool:
        """Whether any were named."""
        return self.data is not None or self.labels is not None

    def load(self, classes: tuple[str, ...], said: ReadingRecord, reporter: Reporter) -> Dataset:
        """Read the index, with labels in the given class order.

        Args:
            classes: The class order.
            said: How the data was read for training, as `Reading.recorded` returned it; a data
                folder without the table that it names is read by itself.
            reporter: Where a user is warned of the latter.

        Raises:
            ToolkitError: A class is not among `classes`.
        """
        if self.labels is not None:
            return load_labels(self.labels, self.photos or self.labels.parent, classes)
        if self.data is None:
            raise UsageError("Expected `data=DIR` or `labels=FILE`.")
        reading = Reading.of_record(said, self.data)
        lost = reading.absent(said, self.data).get("labels")
        found = load_labelled(self.data, AUTO if lost else reading, reporter)
        if lost:
            how = "; ".join(f"{what}: {how}" for what, how in found.found.rows[:2])
            reporter.warn(f"{lost}. Read instead: {how}")
        unknown = set(found.classes) - set(classes)
        if unknown:
            raise DataError(
                f"{self.data}: class '{min(unknown)}' is not one of the {len(classes)} that the "
                f"model knows: {', '.join(classes)}.",
                path=self.data,
            )
        place = [classes.index(category) for category in found.classes]
        photos = tuple(Photo(each.id, each.path, place[each.label]) for each in found.photos)
        return Dataset(found.root, classes, photos, found.names)


def evaluate(
    subject: Path | str = "bundle",
    *,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    photos: Path | str | None = None,
    tta: int | None = None,
    voting: str | None = None,
    device: str | None = None,
    batch: int | None = None,
    metric: str = "accuracy",
    positive: str | None = None,
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Score a run folder, a bundle folder or a submission on labelled photos.

    Without `data` and `labels`, runs and bundles are scored on the photos that were held out from
    their training.

    Args:
        subject: The folder, or the submission's CSV.
        data: A labelled data folder, or one with a folder for each class.
        labels: Instead, a table of ids and categories.
        photos: Where the ids of `labels` are; None takes the folder of the table.
        tta: Of a bundle: views per photo, 1 to 8; None takes 1.
        voting: Of a bundle: as for `Ensemble.load`; None takes `auto`.
        device: Of a bundle: as for `Ensemble.load`; None takes `auto`.
        batch: Of a bundle: photos a batch; None takes 16.
        metric: One of `toolkit.metrics.METRICS`, which is given a confidence interval.
        positive: Of a submission for two classes: the one whose probability it holds.
        reporter: Where progress is shown.

    Returns:
        All scores, with predictions and labels by class index.

    Raises:
        UsageError: A folder of photos was named without their labels, or an argument has no
            meaning for the subject.
        DataError: Photos cannot be read; the message lists all of them.
        ToolkitError: The metric is undefined here, or the subject is none of the three.

    Example:
        >>> found = evaluate("bundle", data="more", tta=4)
        >>> list(found.scores.values())[-1].accuracy
        0.9164
    """
    subject, chosen = Path(subject), find_metric(metric)
    labelled = LabelledPhotos(
        *(None if each is None else Path(each) for each in (data, labels, photos))
    )
    settings = {"tta": tta, "voting": voting, "device": device, "batch": batch}
    given = {name: value for name, value in settings.items() if value is not None}
    if labelled.photos is not None and labelled.labels is None:
        raise UsageError(
            "`photos=DIR` says where the ids of `labels=FILE` are. Name both.", argument="photos"
        )
    if (subject / RUN_MANIFEST).is_file():
        _refuse(given, f"Expected for a bundle. {subject} is a run: one view, by Keras.")
        return _evaluate_run(subject, labelled, chosen, reporter)
    if (subject / BUNDLE_MANIFEST).is_file():
        if not labelled.given:
            _refuse(
                [name for name in given if name in ("device", "batch")],
                "Expected with `data` or `labels`. The held-out photos were answered at export.",
            )
        return _evaluate_bundle(subject, labelled, {**BUNDLE_SETTINGS, **given}, chosen, reporter)
    if subject.suffix.lower() == ".csv" and subject.is_file():
        _refuse(given, f"Expected for a bundle. {subject} is a submission: its answers are given.")
        return _evaluate_submission(subject, labelled, chosen, positive)
    if not subject.exists():
        raise ToolkitError(
            f"{subject}: no such file or folder. Name a run folder, a bundle folder or a "
            "submission's CSV.",
            path=subject,
        )
    raise ToolkitError(
        f"{subject}: Expected a run folder, a bundle folder or a submission's CSV.", path=subject
    )


BUNDLE_SETTINGS: Mapping[str, Any] = {"tta": 1, "voting": "auto", "device": "auto", "batch": 16}
"""How the ensemble of a bundle is loaded where nothing else is requested."""


def _refuse(names: Collection[str], expected: str) -> None:
    if names:
        raise UsageError(
            f"{', '.join(f'`{name}`' for name in names)}: {expected}", argument=next(iter(names))
        )


def _evaluate_run(
    folder: Path, labelled: LabelledPhotos, metric: Metric, reporter: Reporter
) -> Evaluation:
    run = load_run(folder)
    # What it said of the held-out photos is kept, also where its network was removed since.
    if labelled.given or run.model_path.exists():
        run.check_model()
    if labelled.given:
        dataset = labelled.load(run.data.classes, run.data.reading, reporter)
        labels = _labels(dataset)
        paths = [photo.path for photo in dataset.photos]
        try:
            probabilities = predict_run(run, paths, reporter)
        except BrokenPhotoError:
            raise DataError(_complaint(paths, run.data.pixels.ranges, reporter)) from None
        where = _described(dataset, run.trained_on)
    else:
        validation = run.validation
        if validation is None:
            raise ToolkitError(
                f"{folder}: trained on all photos; name others with `data=DIR`.", path=folder
            )
        labels, probabilities = validation.labels, validation.probabilities
        where = f"{counted(len(labels), 'photo')} held out from training"
    subject = f"{run.label}, one view, by Keras"
    answers = {run.label: _answers(probabilities, labels, run.data.classes)}
    return _evaluation(subject, where, run.data.classes, answers, metric)


def _evaluate_bundle(
    folder: Path,
    labelled: LabelledPhotos,
    settings: Mapping[str, Any],
    metric: Metric,
    reporter: Reporter,
) -> Evaluation:
    bundle = load_bundle(folder)
    views = settings["tta"]
    if labelled.given:
        dataset = labelled.load(bundle.classes, bundle.data.reading, reporter)
        labels = _labels(dataset)
        ensemble = Ensemble.load(bundle, **settings)
        for note in ensemble.notes:
            reporter.say(note)
        for line in ensemble.details:
            reporter.detail(line)
        by_member, mixed = _predicted(ensemble, dataset, reporter)
        if bundle.has_bags:
            by_member = _by_voter(bundle, ensemble.voting, by_member)
        where = _described(dataset, bundle.data.trained_on)
    else:
        bundle.check_files()
        voting = choose_voting(bundle, views, settings["voting"])
        kept = _kept(bundle, voting, views)
        labels, by_member, mixed, where = kept.labels, kept.by_voter, kept.mixed, kept.photos
    scored = {**by_member, f"ensemble of {len(by_member)}": mixed}
    answers = {name: _answers(each, labels, bundle.classes) for name, each in scored.items()}
    subject = f"{folder}, {counted(views, 'view')}"
    found = _evaluation(subject, where, bundle.classes, answers, metric)
    if len(by_member) < 2:
        return found
    gain = Gain.of(
        by_member,
        mixed,
        labels,
        bundle=bundle.sha256,
        labels_sha256=sha256_file(labelled.labels) if labelled.labels else "",
        views=views,
    )
    return replace(found, gain=gain)


@dataclass(frozen=True)
class _Kept:
    """What a bundle said of photos at export.

    Attributes:
        labels: Shape (photos,), true class indices.
        by_voter: By name of what has a vote, shape (photos, classes).
        mixed: The ensemble's, of that shape.
        photos: Which photos they are, and what their figures do not tell.
    """

    labels: Labels
    by_voter: dict[str, NDArray[np.floating]]
    mixed: NDArray[np.float64]
    photos: str


def _kept(bundle: Bundle, voting: Voting, views: int) -> _Kept:
    outside = load_outside(bundle)
    if outside is not None:
        said, weights = outside, voting.weights
        names = [member.name for member in bundle.members]
        where = "outside all folds, by what the networks said of them at export"
    else:
        said, weights = load_validation(bundle), bundle.by_voter(voting.weights)
        names = [voter.name for voter in bundle.voters]
        where = (
            "held out from training, by what the members said of them at export (the weights were "
            "found on them: 'toolkit compare' gives cross-fitted figures)"
        )
        where += f". {OUT_OF_FOLD}" if bundle.has_bags else ""
    named = zip(names, said.averaged(views), weights, strict=True)
    each = {name: probabilities for name, probabilities, weight in named if weight}
    if outside is not None:
        each = _by_voter(bundle, voting, each)
    mixed = vote(list(said.probabilities[:, :, :views]), weights, voting.temperature)
    return _Kept(said.labels, each, mixed, f"{counted(len(said.labels), 'photo')} {where}")


def _by_voter(
    bundle: Bundle, voting: Voting, by_member: Mapping[str, NDArray[np.floating]]
) -> dict[str, NDArray[np.floating]]:
    """Return the mean of each bag's networks by their weights, given those that have a vote."""
    names = [member.name for member in bundle.members]
    return {
        voter.name: np.average(
            [by_member[names[index]] for index in voter.members if voting.weights[index]],
            axis=0,
            weights=[voting.weights[index] for index in voter.members if voting.weights[index]],
        )
        for voter in bundle.voters
        if any(voting.weights[index] for index in voter.members)
    }


def _predicted(
    ensemble: Ensemble, dataset: Dataset, reporter: Reporter
) -> tuple[dict[str, NDArray[np.floating]], NDArray[np.float64]]:
    paths = [photo.path for photo in dataset.photos]
    parts: dict[str, list[NDArray[np.floating]]] = {name: [] for name in ensemble.member_names}
    mixed: list[NDArray[np.float64]] = []
    notes: list[tuple[Path, str]] = []
    done = 0
    with reporter.track("predicting", len(paths)) as advance:
        for answer in ensemble.answers(paths):
            if answer.broken:
                ranges = ensemble.bundle.pixels.ranges
                raise DataError(_complaint(paths, ranges, reporter))
            notes += [
                (paths[done + number], note)
                for number, each in answer.notes.items()
                for note in each
            ]
            for name, probabilities in answer.members.items():
                parts[name].append(probabilities.mean(axis=1, dtype=np.float64))
            mixed.append(answer.probabilities)
            done += len(answer.probabilities)
            advance(len(answer.probabilities))
    report_notes(notes, reporter)
    return {name: np.concatenate(rows) for name, rows in parts.items()}, np.concatenate(mixed)


def _evaluate_submission(
    path: Path, labelled: LabelledPhotos, metric: Metric, positive: str | None
) -> Evaluation:
    if labelled.labels is None:
        raise UsageError("A submission is scored against `labels=FILE`.")
    held = hold_to_labels(path, labelled.labels, positive)
    found = _evaluation(str(path), held.photos, held.classes, {str(path): held.answers}, metric)
    if held.ranked is None:
        return found
    return replace(found, ranking=ranking(held.ranked, held.answers.labels))


def _answers(probabilities: Probabilities, labels: Labels, classes: Sequence[str]) -> Answers:
    return Answers.of(probabilities, labels, ordered=have_order(classes))


def _evaluation(
    subject: str,
    where: str,
    classes: tuple[str, ...],
    answers: Mapping[str, Answers],
    metric: Metric,
) -> Evaluation:
    last = list(answers.values())[-1]
    if reason := undefined(metric, last):
        raise ToolkitError(f"{subject}: no {metric.title}: {reason}.")
    return Evaluation(
        subject=subject,
        photos=where,
        classes=classes,
        scores={name: score_answers(each, len(classes)) for name, each in answers.items()},
        metric=metric,
        estimates={name: estimate(metric, each) for name, each in answers.items()},
        predicted=last.predicted,
        labels=last.labels,
    )


def _labels(dataset: Dataset) -> Labels:
    return np.array([photo.label for photo in dataset.photos], dtype=np.int64)


def _complaint(paths: Sequence[Path], ranges: Ranges, reporter: Reporter) -> str:
    if not any(path.exists() for path in paths):
        return (
            f"None of the {len(paths)} labelled photos is there; the first is looked for at "
            f"{paths[0]}. Name their folder with `photos=DIR` beside `labels=FILE`, or all with "
            "`data=DIR`."
        )
    lines = broken_photos(paths, ranges, reporter)
    return (
        f"{len(lines)} of {len(paths)} labelled photos cannot be read. Fix or remove them:\n"
        f"{listing(lines, len(lines))}"
    )


def _described(dataset: Dataset, trained_on: str) -> str:
    described = f"{counted(len(dataset.photos), 'photo')} of {dataset.root}"
    starts = range(0, len(trained_on), PHOTO_DIGITS)
    known = {trained_on[start : start + PHOTO_DIGITS] for start in starts}
    count = sum(photo_sha256(photo.path)[:PHOTO_DIGITS] in known for photo in dataset.photos)
    if count:
        described += f" - TRAINED ON {count} OF THEM: these figures are too good for other photos"
    return described
