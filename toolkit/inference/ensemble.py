"""The ensemble for people who write Python."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.errors import UsageError
from toolkit.inference.bundle import Bundle, load_bundle
from toolkit.inference.devices import Device, on_device
from toolkit.inference.executor import (
    WINDOWS,
    Executor,
    Opener,
    Source,
    Window,
    Windows,
    open_photo,
)
from toolkit.inference.plan import CascadePlan
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import Timings
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import Voting, choose_voting, voting_on_random_views
from toolkit.machine import usable_cores

MOST_THREADS_A_CORE = 4
"""More would only wait for one another."""


class PhotoWarning(UserWarning):
    """Something about a photo that was read is remarkable."""


class Ensemble:
    """The members of a bundle, voting.

    Attributes:
        bundle: The manifest.
        voting: The weights.
        device: Where it computes.
        sessions: Its networks, and those that a plan loads beside them.
        views: Views a photo.
        plan: Of all members and views: the full ensemble's.

    Example:
        >>> ensemble = Ensemble.load("bundle", tta=4)
        >>> probabilities = ensemble.predict(["a.jpg", "b.jpg"])
        >>> ensemble.labels(probabilities)
        ['3', '7']
    """

    def __init__(
        self,
        sessions: Sessions,
        voting: Voting,
        *,
        views: int,
        random_seed: int | None = None,
        windows: Windows = WINDOWS,
        opener: Opener = open_photo,
    ) -> None:
        """Load the members that have a vote; use `Ensemble.load`, which checks its arguments.

        Args:
            sessions: Of the bundle.
            voting: The weights.
            views: Views a photo.
            random_seed: See `Executor`.
            windows: See `Executor`.
            opener: See `Executor`.
        """
        self.bundle, self.voting, self.device = sessions.bundle, voting, sessions.device
        self.sessions, self.views = sessions, views
        self.plan = CascadePlan.full(sessions.bundle, voting, views)
        self._random_seed, self._windows, self._opener = random_seed, windows, opener
        self._full = self.executor(self.plan)

    @classmethod
    def load(
        cls,
        bundle: Path | str | Bundle,
        *,
        tta: int = 1,
        tta_views: str = "fixed",
        voting: str = "auto",
        device: str = "auto",
        batch: int = 16,
        threads: int | None = None,
        seed: int = 0,
    ) -> Ensemble:
        """Load a bundle.

        Args:
            bundle: Its folder, or its manifest already read.
            tta: Views a photo, 1 to 8.
            tta_views: `fixed` for the first views of the list, `augmentor` for random ones.
            voting: `auto`, an alternative's name, or `NAME=W,NAME=W,...`. For random views `auto`
                is uniform with temperature 1: the export's figures were found on the fixed ones.
            device: `auto`, `cpu`, `cuda` or `tensorrt`; `auto` takes the CPU where a GPU cannot
                run the members, and `notes` say why.
            batch: Photos a batch.
            threads: Threads of a session on the CPU, where one member runs at a time. None takes
                all usable cores.
            seed: For random views.

        Returns:
            The ensemble, with its members loaded.

        Raises:
            UsageError: An option is not one of those above.
            ToolkitError: The bundle is not whole or of another pixel definition, or the device is
                unavailable.
        """
        if tta not in range(1, len(VIEWS) + 1):
            raise UsageError(f"tta: Expected 1 to {len(VIEWS)}, received {tta!r}.")
        if tta_views not in ("fixed", "augmentor"):
            raise UsageError(f"tta_views: Expected fixed or augmentor, received '{tta_views}'.")
        used = usable_cores() if threads is None else threads
        for name, number in (("batch", batch), ("threads", used)):
            if number < 1:
                raise UsageError(f"{name}: Expected at least 1, received {number}.")
        if used > MOST_THREADS_A_CORE * usable_cores():
            raise UsageError(
                f"threads: Expected at most {MOST_THREADS_A_CORE} for each of the "
                f"{usable_cores()} cores there are, received {used}."
            )
        manifest = bundle if isinstance(bundle, Bundle) else load_bundle(Path(bundle))
        manifest.check_pixels()
        random_views = tta_views == "augmentor"
        choose = voting_on_random_views if random_views else choose_voting
        chosen = choose(manifest, tta, voting)

        def start(where: Device) -> Ensemble:
            sessions = Sessions(
                manifest, device=where, threads=used, batch=batch, timings=Timings()
            )
            return cls(sessions, chosen, views=tta, random_seed=seed if random_views else None)

        return on_device(device, start)

    @property
    def classes(self) -> tuple[str, ...]:
        """Category values in the order of the probabilities' columns."""
        return self.bundle.classes

    @property
    def provider(self) -> str:
        """The onnxruntime provider that the members really run on."""
        return self.sessions[next(iter(self.plan.weights))].provider

    @property
    def threads(self) -> int:
        """Threads of a session on the CPU."""
        return self.sessions.threads

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should hear: why this is no GPU, and of another decoder than at export."""
        return tuple(note for note in (self.device.note, self.bundle.decoder_note) if note)

    @property
    def details(self) -> list[str]:
        """What only a user who asks for details wants to hear: weights, threads, loading."""
        weights = self.plan.weights
        loaded = (
            f"{key}: weight {weights[key]:.4f}, loaded in {load:.0f} ms"
            for key, load in self.timings.load.items()
            if key in weights
        )
        return [
            f"threads: {self.threads}",
            *loaded,
            f"temperature {self.voting.temperature:.4f}",
        ]

    @property
    def looks_at_random_views(self) -> bool:
        """Whether views are drawn by the members' augmentors."""
        return self._random_seed is not None

    @property
    def member_names(self) -> list[str]:
        """The members that have a vote."""
        return [key.member for key in self.plan.weights]

    @property
    def timings(self) -> Timings:
        """What took how long, since the ensemble was loaded."""
        return self.sessions.timings

    def executor(self, plan: CascadePlan, *, accepted: int = 0, tried: bool = False) -> Executor:
        """Prepare to carry out a plan of this ensemble.

        Args:
            plan: The plan.
            accepted: Number of its threshold set that photos exit by, from 1; 0 for none.
            tried: Try all of its threshold sets; see `Executor`.
        """
        return Executor(
            self.sessions,
            plan,
            plan.threshold_sets[accepted - 1] if accepted else None,
            tried=tried,
            random_seed=self._random_seed,
            windows=self._windows,
            opener=self._opener,
        )

    def predict(self, photos: Sequence[Path | str | Pixels]) -> NDArray[np.float64]:
        """Predict photos.

        Args:
            photos: Paths, or arrays of shape (height, width, 3), uint8, RGB.

        Returns:
            Probabilities, shape (photos, classes), columns in the order of `classes`.

        Raises:
            BrokenPhotoError: A photo cannot be read.

        Warns:
            PhotoWarning: Something about a photo is remarkable, such as values that are clipped.
        """
        rows = [np.empty((0, len(self.classes)))]
        for answer in self.answers(photos):
            for error in answer.broken.values():
                raise error
            for number, notes in answer.notes.items():
                for note in notes:
                    photo = photos[sum(map(len, rows)) + number]
                    warnings.warn(f"{photo}: {note}", PhotoWarning, stacklevel=2)
            rows.append(answer.probabilities)
        return np.concatenate(rows)

    def answers(self, photos: Sequence[Path | str | Pixels], first: int = 0) -> Iterator[Window]:
        """Predict photos batch by batch, in memory that does not grow with their number.

        Args:
            photos: As for `predict`.
            first: Number of the first photo, which seeds random views.

        Yields:
            One window a batch. Broken photos are reported in it, not raised.
        """
        if isinstance(photos, str | Path):
            raise UsageError(f"Expected a list of photos, received the single path '{photos}'.")
        sources: list[Source] = [
            Path(photo) if isinstance(photo, str) else photo for photo in photos
        ]
        return self._full.predict(sources, first)

    def labels(self, probabilities: NDArray[np.floating]) -> list[str]:
        """Return the category value of each row's largest probability."""
        return [self.classes[index] for index in probabilities.argmax(axis=1)]
