"""Labelled photos made ready: looked at, grouped by likeness, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset
from toolkit.data.duplicates import near_groups
from toolkit.data.pixels import PixelDefinition
from toolkit.data.ranges import looks_black
from toolkit.data.split import validation_mask
from toolkit.data.survey import PhotoFacts, ranges_among, report_notes, survey
from toolkit.errors import ToolkitError, listing
from toolkit.progress import SILENT, Reporter, counted


@dataclass(frozen=True)
class Prepared:
    """Readable labelled photos with what was found out about them.

    Attributes:
        dataset: Without the photos that were left out.
        facts: One entry a photo.
        labels: Shape (photos,), class indices.
        groups: Shape (photos,); near-duplicates share a number.
        left_out: Ids of broken photos.
        pixels: How they become pixels: the range of each kind is theirs.
    """

    dataset: Dataset
    facts: tuple[PhotoFacts, ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    left_out: tuple[str, ...]
    pixels: PixelDefinition

    def held_out(self, fraction: float, split_seed: int) -> NDArray[np.bool_]:
        """Return which photos are for validation, shape (photos,)."""
        return validation_mask(self.labels, self.groups, fraction, split_seed)


def prepare(dataset: Dataset, *, skip_broken: bool, reporter: Reporter = SILENT) -> Prepared:
    """Look at every labelled photo and group those that are nearly the same.

    Args:
        dataset: The photos.
        skip_broken: Leave broken photos out, instead of refusing.
        reporter: Where progress is told.

    Returns:
        The photos that can be read.

    Raises:
        ToolkitError: There are fewer than two classes, or photos are broken or missing; the
            message lists all of them.
    """
    if len(dataset.classes) < 2:
        raise ToolkitError(
            f"{dataset.root}: Expected photos of at least 2 classes to train on, received "
            f"{len(dataset.classes)}."
        )
    facts = survey([photo.path for photo in dataset.photos], reporter)
    looked_at = list(zip(dataset.photos, facts, strict=True))
    broken = [(photo, fact) for photo, fact in looked_at if fact.broken]
    if broken and not skip_broken:
        lines = listing((f"{photo.path}: {fact.broken}" for photo, fact in broken), len(broken))
        raise ToolkitError(
            f"{len(broken)} of {len(looked_at)} labelled photos cannot be read. Mend or remove "
            f"them, or pass --skip-broken:\n{lines}"
        )
    kept = dataset.without(photo.id for photo, _ in broken)
    sound = tuple(fact for fact in facts if not fact.broken)
    report_notes(((photo.path, note) for photo, fact in looked_at for note in fact.notes), reporter)
    counts = np.bincount([photo.label for photo in kept.photos], minlength=len(kept.classes))
    if not counts.all():
        empty = kept.classes[int(np.flatnonzero(counts == 0)[0])]
        raise ToolkitError(f"{dataset.root}: class '{empty}' has no readable photo.")
    pixels = PixelDefinition(ranges=ranges_among(sound))
    _report_ranges(kept, sound, pixels, reporter)
    return Prepared(
        dataset=kept,
        facts=sound,
        labels=np.array([photo.label for photo in kept.photos], dtype=np.int64),
        groups=near_groups([fact.perceptual_hash for fact in sound]),
        left_out=tuple(photo.id for photo, _ in broken),
        pixels=pixels,
    )


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
