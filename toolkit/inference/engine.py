"""Predicts photos: decoding in threads ahead of inference, in memory that does not grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.pixels import BrokenPhotoError, Pixels, Square, from_array, read_photo
from toolkit.data.ranges import Ranges
from toolkit.errors import ToolkitError
from toolkit.files import sha256_json
from toolkit.inference.bundle import Member
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import milliseconds_since
from toolkit.inference.views import FixedViews, RandomViews
from toolkit.inference.voting import Voting, vote

Source = Path | Pixels
"""A photo's file, or its decoded pixels: shape (height, width, 3), uint8, RGB."""

BATCHES_AHEAD = 2
"""Batches that are decoded before they are needed."""

Input = tuple[Square, int, str]
"""What members share: the square that views are made from, their size, and the augmentor's hash.

The hash is empty where the views are the fixed ones.
"""


@dataclass(frozen=True)
class Answer:
    """What is known of one batch of photos.

    Attributes:
        probabilities: Shape (photos, classes); a broken photo's row is NaN.
        members: By member name, shape (photos, views, classes); broken photos are NaN.
        broken: Why a photo could not be read, by its number in the batch.
        notes: What was remarkable about a photo that was read, likewise.
    """

    probabilities: NDArray[np.float64]
    members: Mapping[str, NDArray[np.float32]]
    broken: Mapping[int, BrokenPhotoError]
    notes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """One photo as the members will see it: by input, shape (views, size, size, 3)."""

    views: dict[Input, Pixels]
    notes: tuple[str, ...]
    decode_ms: float
    views_ms: float


def seen_as(photo: Source, ranges: Ranges) -> tuple[Image.Image, tuple[str, ...]]:
    """Return a photo as an RGB image, and what was remarkable about it.

    Raises:
        BrokenPhotoError: It cannot be read.
    """
    if not isinstance(photo, Path):
        return from_array(photo), ()
    decoded = read_photo(photo, ranges)
    return decoded.image, decoded.notes


class Engine:
    """The loaded members of a bundle, ready to predict."""

    def __init__(
        self,
        sessions: Sessions,
        voting: Voting,
        *,
        views: int,
        random_views: bool,
        decoders: int,
        seed: int,
    ) -> None:
        """Check and load the members that have a vote.

        Args:
            sessions: Of the bundle; a batch is as many photos as a run has images there.
            voting: The weights.
            views: Views a photo.
            random_views: Make them with the members' augmentor instead of the fixed list.
            decoders: Threads that decode photos and make views.
            seed: For random views.

        Raises:
            ToolkitError: A file of the bundle was changed, or cannot be loaded.
        """
        chosen = [
            (member, weight)
            for member, weight in zip(sessions.bundle.members, voting.weights, strict=True)
            if weight > 0
        ]
        self.members: list[Member] = [member for member, _ in chosen]
        self.views, self.timings = views, sessions.timings
        self._weights = [weight for _, weight in chosen]
        self._temperature = voting.temperature
        self._classes, self._batch = len(sessions.bundle.classes), sessions.batch
        self._decoders, self._ranges = decoders, sessions.bundle.pixels.ranges
        networks = [(member.name, member.precision) for member in self.members]
        sessions.load(networks)
        self._names = [" ".join(network) for network in networks]
        self._sessions = [sessions[network] for network in networks]
        self._inputs: list[Input] = []
        self._makers: dict[Input, FixedViews | RandomViews] = {}
        for member in self.members:
            augmentor = sha256_json(member.augmentor) if random_views else ""
            square = member.stored_square if random_views else member.square
            key = (square, member.image_size, augmentor)
            self._inputs.append(key)
            if key not in self._makers:
                self._makers[key] = (
                    RandomViews(views, member.augmentor, seed, member.image_size)
                    if random_views
                    else FixedViews(views)
                )

        self.provider = self._sessions[0].provider  # What the sessions say they run on.

    def predict(self, photos: Sequence[Source], first: int = 0) -> Iterator[Answer]:
        """Predict photos batch by batch.

        Args:
            photos: Files or decoded pixels.
            first: Number of the first one, which seeds random views.

        Yields:
            One answer a batch, in order. A broken photo is reported there, not raised.

        Raises:
            ToolkitError: A member's answer is not finite.
        """
        with ThreadPoolExecutor(self._decoders, "decode") as pool:
            numbered = enumerate(photos, start=first)
            ahead: deque[Future[_Seen]] = deque(
                pool.submit(self._look, photo, number)
                for number, photo in islice(numbered, (1 + BATCHES_AHEAD) * self._batch)
            )
            try:
                while ahead:
                    batch = [ahead.popleft() for _ in range(min(self._batch, len(ahead)))]
                    answer, answered = self._answer(batch), len(batch)
                    del batch  # Else these photos would stay in memory beside the next ones.
                    ahead.extend(
                        pool.submit(self._look, photo, number)
                        for number, photo in islice(numbered, answered)
                    )
                    yield answer
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def _look(self, photo: Source, number: int) -> _Seen:
        started = perf_counter()
        image, notes = seen_as(photo, self._ranges)
        squares = {square: square(image) for square in {square for square, _, _ in self._makers}}
        decoded = perf_counter()
        views = {key: maker(squares[key[0]], number) for key, maker in self._makers.items()}
        return _Seen(views, notes, 1e3 * (decoded - started), milliseconds_since(decoded))

    def _answer(self, batch: list[Future[_Seen]]) -> Answer:
        seen: list[_Seen] = []
        sound: list[int] = []
        broken: dict[int, BrokenPhotoError] = {}
        for number, waiting in enumerate(batch):
            try:
                seen.append(waiting.result())
                sound.append(number)
            except BrokenPhotoError as error:
                broken[number] = error
        for photo in seen:
            self.timings.add("decode", photo.decode_ms)
            self.timings.add("views", photo.views_ms)
        shape = (len(batch), self.views, self._classes)
        answers = {member.name: np.full(shape, np.nan, dtype=np.float32) for member in self.members}
        if seen:
            started = perf_counter()
            for member, answer in zip(self.members, self._run(seen), strict=True):
                answers[member.name][sound] = answer
            self.timings.inference_ms += milliseconds_since(started)
            self.timings.runs += len(seen) * self.views * len(self.members)
        with self.timings.measured("voting"):
            probabilities = vote(list(answers.values()), self._weights, self._temperature)
        notes = {
            number: photo.notes for number, photo in zip(sound, seen, strict=True) if photo.notes
        }
        return Answer(probabilities, answers, broken, notes)

    def _run(self, seen: list[_Seen]) -> Iterator[NDArray[np.float32]]:
        placed = {}
        for key, session in zip(self._inputs, self._sessions, strict=True):
            if key not in placed:
                images = np.concatenate([photo.views[key] for photo in seen])
                placed[key] = session.place(images)
        count = len(seen) * self.views
        for number, member in enumerate(self.members):
            started = perf_counter()
            answer = self._sessions[number].run(placed[self._inputs[number]], count)
            self.timings.add_run(self._names[number], milliseconds_since(started))
            if not np.isfinite(answer).all():
                raise ToolkitError(
                    f"'{member.name}' gave probabilities that are not finite. Export it again, or "
                    "leave it out with --voting NAME=WEIGHT,..."
                )
            yield answer.reshape(len(seen), self.views, -1)
