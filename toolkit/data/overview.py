"""What is in a data folder, for a person to look at before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from toolkit.data.dataset import Dataset
from toolkit.data.duplicates import near_groups, near_matches
from toolkit.data.holdout import prepare
from toolkit.data.labelled import load_labelled
from toolkit.data.ranges import Range
from toolkit.data.reading import AUTO, Found, Reading
from toolkit.data.request import NoPhotosError, NothingToPredictError, Request, load_request
from toolkit.data.survey import PhotoFacts, ranges_among, survey
from toolkit.errors import DataError
from toolkit.progress import SILENT, Reporter


@dataclass(frozen=True)
class Overview:
    """What was found.

    Attributes:
        dataset: The labelled photos.
        request: The photos to predict, or None where there are none.
        counts: Labelled photos a class, in class order.
        facts: One entry a labelled photo.
        broken: Path and reason of every photo that cannot be read, test photos too.
        duplicates: Groups of near-duplicate labelled photos, by path.
        conflicts: Those groups whose photos have different labels.
        overlap: For each test photo that is a near-duplicate of labelled ones, the most like of
            them, and itself.
        found: How labels, photos and the photos to predict were found.
        notes: Path and warning of the decoder for photos that it could read, test photos too.
    """

    dataset: Dataset
    request: Request | None
    counts: dict[str, int]
    facts: list[PhotoFacts]
    broken: list[tuple[Path, str]]
    duplicates: list[list[Path]]
    conflicts: list[list[Path]]
    overlap: list[tuple[Path, Path]]
    found: Found = field(default=Found())
    notes: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def ranges(self) -> dict[str, Range]:
        """Of labelled photos of more than 8 bits, by kind; see `toolkit.data.ranges`."""
        return ranges_among(self.facts)


def overview(root: Path, reading: Reading = AUTO, reporter: Reporter = SILENT) -> Overview:
    """Look at every photo of a data folder.

    Args:
        root: The data folder.
        reading: What cannot be found by itself; its `photos` are the labelled ones.
        reporter: Where progress is told.

    Raises:
        ToolkitError: The folder or a CSV is not as expected. Broken photos are reported, not
            raised.
    """
    dataset = load_labelled(root, reading, reporter)
    try:
        request = load_request(root, reading.for_test, reporter)
    except NothingToPredictError:
        request = None  # A folder to train on only is complete without test photos.
    except NoPhotosError as error:
        request = None
        found = dataset.found.joined(Found(warnings=(f"cannot be predicted as it is: {error}",)))
        dataset = replace(dataset, found=found)
    paths = [photo.path for photo in dataset.photos]
    test_paths = list(request.paths) if request else []
    facts = survey([*paths, *test_paths], reporter)
    train, test = facts[: len(paths)], facts[len(paths) :]
    sound = [index for index, fact in enumerate(train) if not fact.broken]
    test_sound = [index for index, fact in enumerate(test) if not fact.broken]
    hashes = [train[index].perceptual_hash for index in sound]
    members: dict[int, list[int]] = {}
    for index, group in zip(sound, near_groups(hashes).tolist(), strict=True):
        members.setdefault(group, []).append(index)
    groups = [group for group in members.values() if len(group) > 1]
    conflicting = [g for g in groups if len({dataset.photos[index].label for index in g}) > 1]
    pairs = near_matches([test[index].perceptual_hash for index in test_sound], hashes)
    labels = Counter(photo.label for photo in dataset.photos)
    return Overview(
        dataset=dataset,
        request=request,
        counts={name: labels[index] for index, name in enumerate(dataset.classes)},
        facts=train,
        broken=[
            (path, fact.broken)
            for path, fact in zip([*paths, *test_paths], facts, strict=True)
            if fact.broken
        ],
        duplicates=[[paths[index] for index in group] for group in groups],
        conflicts=[[paths[index] for index in group] for group in conflicting],
        overlap=[(paths[sound[b]], test_paths[test_sound[a]]) for a, b in pairs.tolist()],
        found=_found(dataset, train, request),
        notes=[
            (path, note)
            for path, fact in zip([*paths, *test_paths], facts, strict=True)
            for note in fact.notes
        ],
    )


def _found(dataset: Dataset, facts: Sequence[PhotoFacts], request: Request | None) -> Found:
    """Return what was found, with a warning where training would refuse it."""
    found = dataset.found.joined(request.found) if request else dataset.found
    photos = zip(dataset.photos, facts, strict=True)
    broken = [photo.id for photo, fact in photos if fact.broken]
    sound = dataset.without(broken) if len(broken) < len(facts) else dataset
    try:
        prepare(sound, skip_broken=True)
    except DataError as error:
        return found.joined(Found(warnings=(f"cannot be trained on as it is: {error}",)))
    return found
