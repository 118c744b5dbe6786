"""Predicts photos: decoding in threads ahead of inference, in memory that does not grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import BrokenPhotoError, Pixels, decode, from_array, resize
from toolkit.errors import ToolkitError
from toolkit.files import sha256_json
from toolkit.inference.bundle import Bundle, Member
from toolkit.inference.devices import Device
from toolkit.inference.sessions import MemberSession, Threads
from toolkit.inference.timing import Timings, milliseconds_since
from toolkit.inference.views import FixedViews, RandomViews
from toolkit.inference.voting import Voting, vote

Result = TypeVar("Result")

Source = Path | Pixels
"""A photo's file, or its decoded pixels: shape (height, width, 3), uint8, RGB."""

BATCHES_AHEAD = 2
"""Batches that are decoded before they are needed."""

RUN_PIXELS = 16 * 150**2
"""Pixels a run where threads share an operation and a batch has as many.

Such threads wait for one another after each operation, less often in larger runs: at 48 to 75
pixels a side, runs of 64 images took a tenth less time than runs of 16. From 150 pixels on they
gain nothing and only need memory, and one thread is as fast with few images.
"""

Input = tuple[int, str]
"""What members share: image size, and hash of the augmentor where it makes the views."""


@dataclass(frozen=True)
class Answer:
    """What is known of one batch of photos.

    Attributes:
        probabilities: Shape (photos, classes); a broken photo's row is NaN.
        members: By member name, shape (photos, views, classes); broken photos are NaN.
        broken: Why a photo could not be read, by its number in the batch.
    """

    probabilities: NDArray[np.float64]
    members: Mapping[str, NDArray[np.float32]]
    broken: Mapping[int, BrokenPhotoError]


@dataclass(frozen=True)
class _Seen:
    """One photo as the members will see it: by input, shape (views, size, size, 3)."""

    views: dict[Input, Pixels]
    decode_ms: float
    views_ms: float


class Engine:
    """The loaded members of a bundle, ready to predict."""

    def __init__(
        self,
        bundle: Bundle,
        voting: Voting,
        *,
        views: int,
        random_views: bool,
        device: Device,
        batch: int,
        threads: Threads,
        decoders: int,
        seed: int,
    ) -> None:
        """Check and load the members that have a vote.

        Args:
            bundle: The bundle.
            voting: The weights.
            views: Views a photo.
            random_views: Make them with the members' augmentor instead of the fixed list.
            device: Where to compute.
            batch: Photos a batch.
            threads: How sessions on the CPU use the cores.
            decoders: Threads that decode photos and make views.
            seed: For random views.

        Raises:
            ToolkitError: A file of the bundle was changed, or cannot be loaded.
        """
        chosen = [
            (member, weight)
            for member, weight in zip(bundle.members, voting.weights, strict=True)
            if weight > 0
        ]
        self.members: list[Member] = [member for member, _ in chosen]
        self.threads = threads
        self.timings = Timings()
        self._weights = [weight for _, weight in chosen]
        self._temperature = voting.temperature
        self._classes, self.views, self._batch = len(bundle.classes), views, batch
        self._decoders = decoders
        bundle.check_files(self.members)
        shared = threads.intra_op > 1 and not device.is_gpu
        self._sessions: list[MemberSession] = []
        self._inputs: list[Input] = []
        self._makers: dict[Input, FixedViews | RandomViews] = {}
        for member in self.members:
            started = perf_counter()
            path = bundle.folder / member.file
            # On the CPU answers do not depend on how many images a run has.
            fitting = RUN_PIXELS // member.image_size**2 if shared else batch
            run_images = max(batch, min(batch * views, fitting))
            self._sessions.append(MemberSession(path, device, threads, run_images))
            self.timings.load[member.name] = milliseconds_since(started)
            augmentor = sha256_json(member.augmentor) if random_views else ""
            key = (member.image_size, augmentor)
            self._inputs.append(key)
            if key not in self._makers:
                self._makers[key] = (
                    RandomViews(views, member.augmentor, seed)
                    if random_views
                    else FixedViews(views)
                )

        self.provider = self._sessions[0].provider  # What the sessions say they run on.

    def release(self) -> None:
        """Let go of the networks and their memory; nothing can be predicted any more."""
        self._sessions.clear()

    def predict(self, photos: Sequence[Source], first: int = 0) -> Iterator[Answer]:
        """Predict photos batch by batch.

        Args:
            photos: Files or decoded pixels.
            first: Number of the first one, which seeds random views.

        Yields:
            One answer a batch, in order. A broken photo is reported there, not raised.

        Raises:
            ToolkitError: A member's answer is not finite, or the networks were let go of.
        """
        if not self._sessions:
            raise ToolkitError("the ensemble let go of its networks. Load it again.")
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
        image = decode(photo) if isinstance(photo, Path) else from_array(photo)
        sizes = {size: resize(image, size) for size in {size for size, _ in self._makers}}
        decoded = perf_counter()
        views = {key: maker(sizes[key[0]], number) for key, maker in self._makers.items()}
        return _Seen(views, 1e3 * (decoded - started), milliseconds_since(decoded))

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
        return Answer(probabilities, answers, broken)

    def _run(self, seen: list[_Seen]) -> Iterator[NDArray[np.float32]]:
        placed = {}
        for key, session in zip(self._inputs, self._sessions, strict=True):
            if key not in placed:
                images = np.concatenate([photo.views[key] for photo in seen])
                placed[key] = session.place(images)
        count = len(seen) * self.views

        def run(number: int) -> tuple[NDArray[np.float32], float]:
            started = perf_counter()
            answer = self._sessions[number].run(placed[self._inputs[number]], count)
            return answer, milliseconds_since(started)

        for member, (answer, milliseconds) in zip(self.members, self._each(run), strict=True):
            # Of members that run at once each has its own time on the clock, so that together
            # they have more than the batch takes.
            self._keep_time(member.name, milliseconds)
            if not np.isfinite(answer).all():
                raise ToolkitError(
                    f"'{member.name}' gave probabilities that are not finite. Export it again, or "
                    "leave it out with --voting NAME=WEIGHT,..."
                )
            yield answer.reshape(len(seen), self.views, -1)

    def _each(self, run: Callable[[int], Result]) -> Iterator[Result]:
        """Call a function with the number of every member; give what it returns in their order."""
        numbers = range(len(self.members))
        if self.threads.parallel == 1:
            yield from map(run, numbers)
            return
        # The longest first: begun last, it would run alone while other cores wait.
        first = self.timings.first
        longest = sorted(numbers, key=lambda number: -first.get(self.members[number].name, 0.0))
        with ThreadPoolExecutor(self.threads.parallel, "member") as pool:
            running = {number: pool.submit(run, number) for number in longest}
            for number in numbers:
                yield running[number].result()

    def _keep_time(self, member: str, milliseconds: float) -> None:
        if member not in self.timings.first:
            self.timings.first[member] = milliseconds
        else:
            self.timings.add(f"model {member}", milliseconds)
