"""Scores runs, bundles and submissions on labelled photos, and compares two submissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import (
    Dataset,
    Photo,
    class_order,
    load_labelled,
    load_labels,
    read_labels,
)
from toolkit.data.pixels import BrokenPhotoError
from toolkit.errors import ToolkitError, UsageError, listing
from toolkit.inference.bundle import MANIFEST as BUNDLE_MANIFEST
from toolkit.inference.bundle import load_bundle, load_validation
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.job import broken_photos
from toolkit.inference.voting import choose_voting, vote
from toolkit.metrics import (
    Agreement,
    Labels,
    Paired,
    Probabilities,
    Score,
    agreement,
    paired,
    score,
    wilson_interval,
)
from toolkit.progress import SILENT, Reporter, counted
from toolkit.training.predict import predict_run
from toolkit.training.run import MANIFEST as RUN_MANIFEST
from toolkit.training.run import load_run


@dataclass(frozen=True)
class Evaluation:
    """How good a subject is on some labelled photos.

    Attributes:
        subject: What was scored.
        photos: What it was scored on, in words.
        classes: Category values in class order.
        scores: By what voted: each member alone, then all; for a submission only accuracy counts.
        predicted: Shape (photos,), class indices by the last of `scores`.
        labels: Shape (photos,), class indices.
    """

    subject: str
    photos: str
    classes: tuple[str, ...]
    scores: Mapping[str, Score]
    predicted: Labels
    labels: Labels


@dataclass(frozen=True)
class Comparison:
    """Two submissions on the same photos.

    Attributes:
        subject: The first.
        against: The second.
        photos: What they were compared on, in words.
        agreement: How often they say the same.
        paired: Which of them is right how often; None without labels.
    """

    subject: str
    against: str
    photos: str
    agreement: Agreement
    paired: Paired | None


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

    def load(self, classes: tuple[str, ...]) -> Dataset:
        """Read the index, with labels in the given class order.

        Raises:
            ToolkitError: A class is not among `classes`.
        """
        if self.labels is not None:
            return load_labels(self.labels, self.photos or self.labels.parent, classes)
        if self.data is None:
            raise UsageError("Expected --data DIR or --labels FILE.")
        found = load_labelled(self.data)
        unknown = set(found.classes) - set(classes)
        if unknown:
            raise ToolkitError(
                f"{self.data}: class '{min(unknown)}' is not one of the {len(classes)} that the "
                f"model knows: {', '.join(classes)}."
            )
        place = [classes.index(category) for category in found.classes]
        photos = tuple(Photo(each.id, each.path, place[each.label]) for each in found.photos)
        return Dataset(found.root, classes, photos, found.names)


def evaluate(
    subject: Path,
    labelled: LabelledPhotos,
    settings: Mapping[str, Any],
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Score a run folder, a bundle folder or a submission.

    Args:
        subject: The folder, or the submission's CSV.
        labelled: The photos. Where none are named, runs and bundles are scored on the photos that
            were held out from their training.
        settings: For a bundle: `tta`, `voting`, `device`, `batch`.
        reporter: Where progress is told.

    Returns:
        All scores.

    Raises:
        UsageError: A folder of photos was named without their labels.
        ToolkitError: The subject is none of these, or photos cannot be read; the message lists
            all of them.
    """
    if labelled.photos is not None and labelled.labels is None:
        raise UsageError("--photos DIR says where the ids of --labels FILE are. Name both.")
    if (subject / RUN_MANIFEST).is_file():
        return _evaluate_run(subject, labelled, reporter)
    if (subject / BUNDLE_MANIFEST).is_file():
        return _evaluate_bundle(subject, labelled, settings, reporter)
    if subject.suffix.lower() == ".csv" and subject.is_file():
        return _evaluate_submission(subject, labelled)
    if not subject.exists():
        raise ToolkitError(
            f"{subject}: no such file or folder. Name a run folder, a bundle folder or a "
            "submission's CSV."
        )
    raise ToolkitError(f"{subject}: Expected a run folder, a bundle folder or a submission's CSV.")


def compare(subject: Path, against: Path, labelled: LabelledPhotos) -> Comparison:
    """Compare two submissions photo by photo.

    Args:
        subject: The first submission's CSV.
        against: The second's.
        labelled: The CSV of labels, whose ids are compared. Where none is named, all ids are, and
            only how often both say the same is told.

    Returns:
        The first against the second.

    Raises:
        UsageError: One of both is no submission, or photos were named instead of a CSV of labels.
        ToolkitError: A CSV cannot be read or lacks an id.
    """
    for path in (subject, against):
        if path.suffix.lower() != ".csv" or path.is_dir():
            raise UsageError(f"{path}: --against compares the CSVs of two submissions.")
    if labelled.data is not None or labelled.photos is not None:
        raise UsageError(
            "--data and --photos: Expected without --against, which compares by id. Name --labels "
            "FILE, or nothing."
        )
    first, second = read_labels(subject), read_labels(against)
    truth = None if labelled.labels is None else read_labels(labelled.labels)
    _check_rows(subject, first, second if truth is None else truth)
    _check_rows(against, second, first if truth is None else truth)
    ids = list(first if truth is None else truth)
    classes = class_order([*first.values(), *second.values(), *(truth or {}).values()])
    mine, theirs = _indices(first, ids, classes), _indices(second, ids, classes)
    figures, where = None, counted(len(ids), "photo")
    if labelled.labels and truth:
        figures = paired(mine, theirs, _indices(truth, ids, classes))
        where += f" of {labelled.labels}"
        where += _unanswered(labelled.labels, truth, [*first.values(), *second.values()])
    return Comparison(str(subject), str(against), where, agreement(mine, theirs), figures)


def _evaluate_run(folder: Path, labelled: LabelledPhotos, reporter: Reporter) -> Evaluation:
    run = load_run(folder)
    if labelled.given:
        dataset = labelled.load(run.data.classes)
        labels = _labels(dataset)
        paths = [photo.path for photo in dataset.photos]
        try:
            probabilities = predict_run(run, paths, reporter)
        except BrokenPhotoError:
            raise ToolkitError(_complaint(paths, reporter)) from None
        where = _described(dataset, run.data.fingerprint)
    else:
        validation = run.validation
        if validation is None:
            raise ToolkitError(f"{folder}: trained on all photos; name others with --data.")
        labels, probabilities = validation.labels, validation.probabilities
        where = f"{counted(len(labels), 'photo')} held out from training"
    return _evaluation(run.label, where, run.data.classes, {run.label: probabilities}, labels)


def _evaluate_bundle(
    folder: Path, labelled: LabelledPhotos, settings: Mapping[str, Any], reporter: Reporter
) -> Evaluation:
    bundle = load_bundle(folder)
    views = settings["tta"]
    names = [member.name for member in bundle.members]
    if labelled.given:
        dataset = labelled.load(bundle.classes)
        labels = _labels(dataset)
        ensemble = Ensemble.load(bundle, **settings)
        for note in ensemble.notes:
            reporter.say(note)
        for line in ensemble.details:
            reporter.detail(line)
        by_member, mixed = _predicted(ensemble, dataset, reporter)
        where = _described(dataset, bundle.data["fingerprint"])
    else:
        bundle.check_files()
        validation = load_validation(bundle)
        labels = validation.labels
        voting = choose_voting(bundle, views, settings["voting"])
        seen = validation.probabilities[:, :, :views]
        by_member = {
            name: seen[index].mean(axis=1)
            for index, name in enumerate(names)
            if voting.weights[index]
        }
        mixed = vote(list(seen), voting.weights, voting.temperature)
        where = (
            f"{counted(len(labels), 'photo')} held out from training, by what the members said of "
            "them at export (the weights were found on them: 'toolkit compare' gives cross-fitted "
            "figures)"
        )
    scored = {**by_member, f"ensemble of {len(by_member)}": mixed}
    return _evaluation(f"{folder}, {counted(views, 'view')}", where, bundle.classes, scored, labels)


def _predicted(
    ensemble: Ensemble, dataset: Dataset, reporter: Reporter
) -> tuple[dict[str, NDArray[np.floating]], NDArray[np.float64]]:
    paths = [photo.path for photo in dataset.photos]
    parts: dict[str, list[NDArray[np.floating]]] = {name: [] for name in ensemble.member_names}
    mixed: list[NDArray[np.float64]] = []
    with reporter.track("predicting", len(paths)) as advance:
        for answer in ensemble.answers(paths):
            if answer.broken:
                raise ToolkitError(_complaint(paths, reporter))
            for name, probabilities in answer.members.items():
                parts[name].append(probabilities.mean(axis=1))
            mixed.append(answer.probabilities)
            advance(len(answer.probabilities))
    return {name: np.concatenate(rows) for name, rows in parts.items()}, np.concatenate(mixed)


def _evaluate_submission(path: Path, labelled: LabelledPhotos) -> Evaluation:
    if labelled.labels is None:
        raise UsageError("A submission is scored against --labels FILE.")
    truth, answers = read_labels(labelled.labels), read_labels(path)
    _check_rows(path, answers, truth)
    classes = class_order([*truth.values(), *answers.values()])
    labels, predicted = (_indices(each, truth, classes) for each in (truth, answers))
    right = int((predicted == labels).sum())
    figures = Score(
        photos=len(labels),
        accuracy=right / len(labels),
        interval=wilson_interval(right, len(labels)),
        log_loss=float("nan"),
        calibration_error=float("nan"),
    )
    where = f"{counted(len(labels), 'photo')} of {labelled.labels}"
    where += _unanswered(labelled.labels, truth, answers.values())
    return Evaluation(str(path), where, classes, {str(path): figures}, predicted, labels)


def _unanswered(path: Path, truth: Mapping[str, str], answers: Iterable[str]) -> str:
    """Tell of categories that no answer has, which may be another spelling of those that have.

    Raises:
        ToolkitError: No category is among the answers.
    """
    answered = class_order(answers)
    unknown = class_order(set(truth.values()) - set(answered))
    if not unknown:
        return ""
    if set(unknown) == set(truth.values()):
        raise ToolkitError(
            f"{path}: none of its categories ({_first(unknown)}) is among the answers "
            f"({_first(answered)})."
        )
    return f", of whose categories no answer has: {_first(unknown)}"


def _first(categories: Sequence[str], most: int = 5) -> str:
    return ", ".join(categories[:most]) + (", ..." if len(categories) > most else "")


def _check_rows(path: Path, answers: Mapping[str, str], wanted: Iterable[str]) -> None:
    missing = [id for id in wanted if id not in answers]
    if missing:
        others = {1: "", 2: " and 1 other"}.get(len(missing), f" and {len(missing) - 1} others")
        raise ToolkitError(f"{path}: has no row for '{missing[0]}'{others}.")


def _indices(
    categories: Mapping[str, str], ids: Iterable[str], classes: Sequence[str]
) -> NDArray[np.int64]:
    place = {category: index for index, category in enumerate(classes)}
    return np.array([place[categories[id]] for id in ids], dtype=np.int64)


def _evaluation(
    subject: str,
    where: str,
    classes: tuple[str, ...],
    scored: Mapping[str, Probabilities],
    labels: Labels,
) -> Evaluation:
    scores = {name: score(probabilities, labels) for name, probabilities in scored.items()}
    last = list(scored.values())[-1]
    return Evaluation(subject, where, classes, scores, last.argmax(axis=1), labels)


def _labels(dataset: Dataset) -> Labels:
    return np.array([photo.label for photo in dataset.photos], dtype=np.int64)


def _complaint(paths: Sequence[Path], reporter: Reporter) -> str:
    if not any(path.exists() for path in paths):
        return (
            f"None of the {len(paths)} labelled photos is there; the first is looked for at "
            f"{paths[0]}. Name their folder with --photos beside --labels, or all with --data."
        )
    lines = broken_photos(paths, reporter)
    return (
        f"{len(lines)} of {len(paths)} labelled photos cannot be read. Mend or remove them:\n"
        f"{listing(lines, len(lines))}"
    )


def _described(dataset: Dataset, trained_on: str) -> str:
    described = f"{counted(len(dataset.photos), 'photo')} of {dataset.root}"
    if dataset.fingerprint == trained_on:
        described += " - THE TRAINING DATA: these figures say nothing about other photos"
    return described
