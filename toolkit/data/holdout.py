"""Labelled photos made ready: looked at, grouped by likeness, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset
from toolkit.data.duplicates import joined_groups, near_groups
from toolkit.data.folds import OUTSIDE, concentrated, fold_numbers
from toolkit.data.pixels import PixelDefinition
from toolkit.data.ranges import looks_black
from toolkit.data.reading import WARN_SHARE
from toolkit.data.split import validation_mask
from toolkit.data.survey import PhotoFacts, ranges_among, report_notes, survey
from toolkit.errors import DataError, UsageError, listing
from toolkit.metrics import doubt
from toolkit.progress import SILENT, Reporter, counted

FAR = 0.05
"""How far the share that is held out may be from what was wanted before it is said."""


@dataclass(frozen=True)
class Prepared:
    """Readable labelled photos with what was found out about them.

    Attributes:
        dataset: Without the photos that were left out.
        facts: One entry a photo.
        labels: Shape (photos,), class indices.
        groups: Shape (photos,); near-duplicates share a number, and so do photos of one group of
            the data's own.
        given: Shape (photos,): True where the data itself holds a photo out; None where it does
            not say.
        left_out: Ids of broken photos.
        pixels: How they become pixels: the range of each kind is theirs.
    """

    dataset: Dataset
    facts: tuple[PhotoFacts, ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    left_out: tuple[str, ...]
    pixels: PixelDefinition
    given: NDArray[np.bool_] | None = None

    def held_out(self, fraction: float, split_seed: int) -> NDArray[np.bool_]:
        """Return which photos are for validation, shape (photos,).

        Raises:
            ToolkitError: They are of fewer than two classes, so that no figure of them means
                anything.
        """
        mask = validation_mask(self.labels, self.groups, fraction, split_seed)
        self.refuse_uncovered(mask, f"{fraction:.0%} of {len(mask)} photos")
        return mask

    def folds(
        self, count: int, holdout: float, split_seed: int, reporter: Reporter = SILENT
    ) -> NDArray[np.int64]:
        """Return which fold holds each photo out.

        Photos that the data itself holds out, or a share of them, stay outside all folds.

        Args:
            count: Folds, at least 2.
            holdout: Share of the photos to keep outside; 0 keeps none.
            split_seed: Decides which photos.
            reporter: Receives a warning of classes with fewer photos than folds.

        Returns:
            Shape (photos,), from 0; `toolkit.data.folds.OUTSIDE` where no fold does.

        Raises:
            DataError: There are fewer photos that differ than folds, or a fold would leave a class
                without a training photo.
            UsageError: The data itself holds photos out, and a share was to be held out too.
        """
        if holdout and self.given is not None:
            raise UsageError.of(
                "holdout", holdout, "the data itself holds photos out; they stay outside all folds."
            )
        outside = np.zeros(len(self.labels), dtype=np.bool_) if self.given is None else self.given
        if holdout:
            outside = self.held_out(holdout, split_seed)
        inside = np.flatnonzero(~outside)
        labels, groups, classes = self.labels[inside], self.groups[inside], self.dataset.classes
        different = len(np.unique(groups))
        if different < count:
            raise DataError(
                f"{self.dataset.root}: Expected at least {count} photos that differ for {count} "
                f"folds, received {different}. Make fewer folds.",
                path=self.dataset.root,
            )
        dealt = fold_numbers(labels, groups, count, split_seed)
        if lacking := [classes[label] for label in concentrated(labels, dealt)]:
            raise DataError(
                f"{self.dataset.root}: {count} folds would leave {len(lacking)} of {len(classes)} "
                f"classes without a training photo: {_first(lacking)}. Add photos that differ.",
                path=self.dataset.root,
            )
        sizes = np.bincount(labels, minlength=len(classes))
        if small := [classes[label] for label in np.flatnonzero(sizes < count)]:
            reporter.warn(
                f"{len(small)} of {len(classes)} classes have fewer photos than the {count} folds, "
                f"so that some folds hold none of them out: {_first(small)}"
            )
        numbers = np.full(len(self.labels), OUTSIDE, dtype=np.int64)
        numbers[inside] = dealt
        for number in range(count):
            self.refuse_uncovered(numbers == number, f"those of fold {number}")
        return numbers

    def refuse_uncovered(self, held_out: NDArray[np.bool_], what: str) -> None:
        """Refuse held-out photos of fewer than two classes.

        Args:
            held_out: Shape (photos,), True where a photo is held out.
            what: How they were chosen, for the message.

        Raises:
            ToolkitError: Says which class they are of.
        """
        covered = np.unique(self.labels[held_out])
        if len(covered) < 2:
            only = f"all of '{self.dataset.classes[covered[0]]}'" if len(covered) else "none"
            raise DataError(
                f"{self.dataset.root}: too few photos to hold some out for validation: {what} are "
                f"{int(held_out.sum())}, {only}. Add photos (a class needs two that differ to be "
                "held out), hold out more, or train on all photos without validation.",
                path=self.dataset.root,
            )

    def tell_split(self, held_out: NDArray[np.bool_], wanted: float, reporter: Reporter) -> None:
        """Say how many photos are held out, and which classes are not judged.

        Args:
            held_out: Shape (photos,), True where a photo is held out; some are.
            wanted: The share that was to be held out.
            reporter: Where it is told; what makes figures doubtful, even where a user wants quiet.
        """
        count, classes = int(held_out.sum()), self.dataset.classes
        share = count / len(held_out)
        line = f"held out {count} of {len(held_out)} photos ({share:.1%})"
        counts = np.bincount(self.labels[held_out], minlength=len(classes))
        missing = [classes[number] for number in np.flatnonzero(counts == 0)]
        if missing:
            line += f"; {len(missing)} of {len(classes)} classes have none: {_first(missing)}"
        doubtful = doubt(count, len(classes) - len(missing), len(classes))
        tell = reporter.warn if doubtful else reporter.say
        tell(f"{line}. Do not rely on figures of them: {doubtful}" if doubtful else line)
        if abs(share - wanted) > FAR:
            reporter.warn(
                f"{share:.0%} of the photos are held out, not {wanted:.0%}: groups of photos that "
                "stay together are too large to divide them so"
            )


def prepare(dataset: Dataset, *, skip_broken: bool, reporter: Reporter = SILENT) -> Prepared:
    """Look at every labelled photo and group those that are nearly the same.

    Args:
        dataset: The photos.
        skip_broken: Leave broken photos out, instead of refusing.

    Returns:
        The photos that can be read.

    Raises:
        ToolkitError: There are fewer than two classes, or photos are broken or missing; the
            message lists all of them.
    """
    if len(dataset.classes) < 2:
        raise DataError(
            f"{dataset.root}: Expected photos of at least 2 classes to train on, received "
            f"{len(dataset.classes)}.",
            path=dataset.root,
        )
    facts = survey([photo.path for photo in dataset.photos], reporter)
    looked_at = list(zip(dataset.photos, facts, strict=True))
    broken = [(photo, fact) for photo, fact in looked_at if fact.broken]
    if len(broken) == len(looked_at):
        lines = listing(f"{photo.path}: {fact.broken}" for photo, fact in broken)
        raise DataError(
            f"{dataset.root}: none of the {len(looked_at)} labelled photos can be read:\n{lines}",
            path=dataset.root,
        )
    if broken and not skip_broken:
        lines = listing((f"{photo.path}: {fact.broken}" for photo, fact in broken), len(broken))
        raise DataError(
            f"{len(broken)} of {len(looked_at)} labelled photos cannot be read. Fix or remove "
            f"them, or pass `skip_broken=True`:\n{lines}"
        )
    kept = dataset.without(photo.id for photo, _ in broken)
    if len(broken) > WARN_SHARE * len(looked_at):
        reporter.warn(f"{len(broken)} of {len(looked_at)} labelled photos are left out as broken")
    sound = tuple(fact for fact in facts if not fact.broken)
    report_notes(((photo.path, note) for photo, fact in looked_at for note in fact.notes), reporter)
    counts = np.bincount([photo.label for photo in kept.photos], minlength=len(kept.classes))
    if not counts.all():
        empty = kept.classes[int(np.flatnonzero(counts == 0)[0])]
        raise DataError(
            f"{dataset.root}: class '{empty}' has no readable photo.", path=dataset.root
        )
    labels = np.array([photo.label for photo in kept.photos], dtype=np.int64)
    near = near_groups([fact.perceptual_hash for fact in sound])
    pixels = PixelDefinition(ranges=ranges_among(sound))
    _report_ranges(kept, sound, pixels, reporter)
    return Prepared(
        dataset=kept,
        facts=sound,
        labels=labels,
        groups=joined_groups(near, [photo.group for photo in kept.photos]),
        left_out=tuple(photo.id for photo, _ in broken),
        given=_given(kept, labels, near, reporter) if dataset.has_validation else None,
        pixels=pixels,
    )


def _given(
    dataset: Dataset, labels: NDArray[np.int64], near: NDArray[np.int64], reporter: Reporter
) -> NDArray[np.bool_]:
    """Return which photos the data itself holds out, shape (photos,).

    Raises:
        ToolkitError: None of them can be read, or a class has no others.
    """
    given = np.array([photo.held_out for photo in dataset.photos], dtype=np.bool_)
    if not given.any():
        raise DataError(
            f"{dataset.root}: no photo that the data holds out for validation can be read.",
            path=dataset.root,
        )
    training = np.bincount(labels[~given], minlength=len(dataset.classes))
    if not training.all():
        lacking = [dataset.classes[index] for index in np.flatnonzero(training == 0)]
        raise DataError(
            f"{dataset.root}: the data holds out all photos of {len(lacking)} classes, so that "
            f"nothing can be learnt of them:\n{listing(lacking)}",
            path=dataset.root,
        )
    like = int(np.isin(near[given], near[~given]).sum())
    if like:
        reporter.warn(
            f"{like} of the {int(given.sum())} photos that the data holds out are near-duplicates "
            "of training photos: figures on them are too good"
        )
    return given


def _first(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _report_ranges(
    dataset: Dataset, facts: Sequence[PhotoFacts], pixels: PixelDefinition, reporter: Reporter
) -> None:
    """Report how photos of more than 8 bits are scaled, and where most of a kind look black."""
    for kind, scale in pixels.ranges.items():
        looked_at = zip(dataset.photos, facts, strict=True)
        own = [(photo, fact) for photo, fact in looked_at if fact.kind == kind]
        reporter.say(
            f"{counted(len(own), 'photo')} of {kind}: values from {scale.low:g} to {scale.high:g} "
            "become 0 to 255, here and wherever the networks are used"
        )
        black = sum(looks_black(fact.found, scale) for _, fact in own)
        if 2 * black >= len(own):
            photo, fact = max(own, key=lambda one: one[1].high)
            reporter.say(
                f"{black} of them will look black: {photo.path} has the value {fact.high:g}. "
                "Remove or fix it if that is no real brightness"
            )
