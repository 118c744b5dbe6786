"""What an ensemble gains over the best of its members, on labelled photos, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from toolkit.artifacts import Count, Share, artifact, dump_artifact, read_artifact
from toolkit.files import read_json, write_json
from toolkit.intervals import Labels, Paired, paired
from toolkit.metrics import Probabilities
from toolkit.progress import counted


@artifact
class Gain:
    """The ensemble against its best member, photo by photo.

    The member is chosen by its accuracy on these very photos, which favours it: the ensemble's real
    gain over a member that was chosen before is rather larger.

    Attributes:
        bundle: SHA-256 of the bundle.
        labels: SHA-256 of the CSV of true labels; empty where a data folder had them.
        views: Views a photo.
        photos: Number of photos.
        members: Accuracy of each member that voted, alone, 0 to 1.
        best: The most accurate of them.
        paired: The ensemble, first, against that member.
    """

    bundle: str
    labels: str
    views: Annotated[int, Field(ge=1)]
    photos: Count
    members: Mapping[str, Share]
    best: str
    paired: Paired

    @classmethod
    def of(
        cls,
        members: Mapping[str, Probabilities],
        ensemble: Probabilities,
        labels: Labels,
        *,
        bundle: str,
        labels_sha256: str,
        views: int,
    ) -> Gain:
        """Compare.

        Args:
            members: By name, probabilities of shape (photos, classes).
            ensemble: The same of all together.
            labels: Shape (photos,), class indices.
            bundle: SHA-256 of the bundle.
            labels_sha256: Of the CSV of labels, or empty.
            views: Views a photo.
        """
        predicted = {name: rows.argmax(axis=1) for name, rows in members.items()}
        accuracies = {name: float((rows == labels).mean()) for name, rows in predicted.items()}
        best = max(accuracies, key=lambda name: accuracies[name])
        figures = paired(ensemble.argmax(axis=1), predicted[best], labels)
        return cls(bundle, labels_sha256, views, len(labels), accuracies, best, figures)

    @property
    def sentence(self) -> str:
        """The gain in plain words."""
        pair, count = self.paired, len(self.members)
        low, high = (100 * bound for bound in pair.difference_interval)
        return (
            f"With {counted(self.views, 'view')} per photo the ensemble of {count} is right on "
            f"{100 * pair.accuracies[0]:.1f} % of {self.photos:,} photos, the best single network, "
            f"{self.best}, on "
            f"{100 * pair.accuracies[1]:.1f} %: {100 * pair.difference:+.1f} points "
            f"(95 % interval {low:+.1f} to {high:+.1f}, {self._verdict})."
        )

    @property
    def _verdict(self) -> str:
        low, high = self.paired.difference_interval
        if low > 0:
            return "the ensemble is better"
        return "the ensemble is worse" if high < 0 else "which leaves open which is better"

    def save(self, path: Path) -> None:
        """Write the figures as JSON."""
        write_json(path, dump_artifact(self))

    @classmethod
    def load(cls, path: Path) -> Gain:
        """Read what `save` wrote.

        Raises:
            ToolkitError: The file is missing or is something else.
        """
        remedy = "Write it again with 'toolkit evaluate'."
        return read_artifact(cls, read_json(path), path, remedy)
