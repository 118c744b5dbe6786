"""Carries out a plan: photos are decoded once, looked at in steps, and exit when they are clear.

    photos -> squares -> views -> model calls, a step at a time -> exits -> votes

Photos go through the steps in windows, so that those that stay fill the batches of later steps, and
memory does not grow with the number of photos. What is computed for a photo depends on no other
photo: on the CPU the result is the same to the last bit for any batch and number of threads.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field
from itertools import accumulate, chain, compress, islice, pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.pixels import BrokenPhotoError, Pixels, Square, from_array, read_photo
from toolkit.data.ranges import Ranges
from toolkit.files import sha256_json
from toolkit.inference.bundle import Member
from toolkit.inference.calls import ModelCall, ModelKey, Weights, full_calls
from toolkit.inference.exits import settled
from toolkit.inference.plan import CascadePlan, ThresholdSet
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import milliseconds_since
from toolkit.inference.views import FixedViews, RandomViews
from toolkit.inference.voting import Mixture, margins, soften, vote
from toolkit.machine import usable_cores

Source = Path | Pixels
"""A photo's file, or its decoded pixels: shape (height, width, 3), uint8, RGB."""

Opener = Callable[[Source, Ranges], tuple[Image.Image, tuple[str, ...]]]
"""As `open_photo`."""

BROKEN = -1
"""In place of a step where a photo could not be read."""

Step = tuple[ModelCall, ...]


def open_photo(photo: Source, ranges: Ranges) -> tuple[Image.Image, tuple[str, ...]]:
    """Return a photo as an RGB image, and what was remarkable about it.

    Raises:
        BrokenPhotoError: It cannot be read.
    """
    if not isinstance(photo, Path):
        return from_array(photo), ()
    decoded = read_photo(photo, ranges)
    return decoded.image, decoded.notes


@dataclass(frozen=True)
class Windows:
    """How many photos go through the steps together.

    More fill later steps' batches better, and take more memory. The first window is one batch, and
    each later one some times longer, so that calls begin early. Where no photo exits there is
    nothing to fill: then each is one batch.

    Attributes:
        batches: Photos of a window at most, in batches.
        bytes: Decoded pixels of a window at most, unless one batch has more.
        growth: How many times longer than the last one a window may be.
        ahead: Batches that are decoded before they are needed, where no photo exits; else it is
            one window.
    """

    batches: int = 32
    bytes: int = 256 << 20
    growth: int = 4
    ahead: int = 2

    def lengths(self, photos: int, batch: int, bytes_a_photo: int, may_exit: bool) -> Iterator[int]:
        """Yield how many photos each window has."""
        most = max(1, min(self.batches, self.bytes // (bytes_a_photo * batch))) if may_exit else 1
        done, batches = 0, 1
        while done < photos:
            length = min(batches * batch, photos - done)
            yield length
            done += length
            batches = min(self.growth * batches, most)


WINDOWS = Windows()


@dataclass(frozen=True)
class Window:
    """What is known of the photos of one window.

    Attributes:
        probabilities: Shape (photos, classes); a broken photo's row is NaN.
        exit_step: Step after which each photo exited, shape (photos,); the number of steps where
            its label is the full ensemble's, `BROKEN` where it could not be read.
        differs: Of photos that the plan is tried on, with which threshold sets they get another
            label than the full ensemble's, shape (photos,): bit n tells of set n. Else 0.
        broken: Why a photo could not be read, by its number in the window.
        notes: What was remarkable about a photo that was read, likewise.
        members: Where every call of the full ensemble was made, by member name, shape (photos,
            views, classes), broken photos NaN; else empty.
    """

    probabilities: NDArray[np.float64]
    exit_step: NDArray[np.int64]
    differs: NDArray[np.int64]
    broken: Mapping[int, BrokenPhotoError]
    notes: Mapping[int, tuple[str, ...]]
    members: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many photos it has."""
        return len(self.exit_step)


@dataclass(frozen=True)
class _Input:
    """What members share: the square that views are made from, their size, the augmentor's hash.

    The hash is empty where the views are the fixed ones.
    """

    square: Square
    size: int
    augmentor: str


@dataclass(frozen=True)
class _Photo:
    """One decoded photo: squares, views that were made at once, and what was remarkable."""

    number: int
    squares: Mapping[Square, Pixels]
    views: Mapping[_Input, Pixels]
    notes: tuple[str, ...]


class Executor:
    """A plan and the networks it needs, ready to predict."""

    def __init__(
        self,
        sessions: Sessions,
        plan: CascadePlan,
        threshold_set: ThresholdSet | None = None,
        *,
        tried: bool = False,
        random_seed: int | None = None,
        decoders: int | None = None,
        windows: Windows = WINDOWS,
        opener: Opener = open_photo,
    ) -> None:
        """Load the networks of the plan's calls that are not loaded yet.

        Args:
            sessions: Of the bundle.
            plan: What is carried out.
            threshold_set: That photos exit by; None makes none of the plan's steps, so that all
                labels are the full ensemble's.
            tried: Give the full ensemble's probabilities, by all of its calls, and say for each
                threshold set of the plan whether the label it would write differs.
            random_seed: Look at random views by the members' augmentors, drawn with this seed; for
                the full ensemble's plan only.
            decoders: Threads that decode, and as many that make views; None takes all usable cores.
            windows: How many photos go together.
            opener: Decodes a photo.

        Raises:
            ToolkitError: A file of the bundle was changed, or cannot be loaded here.
        """
        sets = plan.threshold_sets if tried else (threshold_set,) if threshold_set else ()
        carried = plan if sets else plan.without_steps
        self._sessions, self._timings = sessions, sessions.timings
        self._steps, self._rest, self._stayed = carried.steps, carried.rest, len(plan.steps)
        self._thresholds = [each.thresholds for each in sets] or [()]
        self._tried, self._windows = tried, windows
        self._weights, self._views = plan.weights, plan.views
        self._temperature, self._classes = plan.voting.temperature, len(sessions.bundle.classes)
        self._ranges = sessions.bundle.pixels.ranges
        self._decoders, self._open = decoders or usable_cores(), opener
        keys = dict.fromkeys([*self._weights, *(call.key for call in carried.calls)])
        sessions.load(keys)
        members = {member.name: member for member in sessions.bundle.members}
        self._inputs: dict[ModelKey, _Input] = {}
        self._makers: dict[_Input, FixedViews | RandomViews] = {}
        for key in keys:
            member = members[key.member]
            self._inputs[key] = seen = _input_of(member, random_seed)
            if seen not in self._makers:
                self._makers[seen] = (
                    FixedViews()
                    if random_seed is None
                    else RandomViews(member.augmentor, random_seed, member.image_size)
                )

    def predict(self, photos: Sequence[Source], first: int = 0) -> Iterator[Window]:
        """Predict photos window by window, in memory that does not grow with their number.

        Args:
            photos: Files or decoded pixels.
            first: Number of the first one, which seeds random views.

        Yields:
            One answer a window, in order. A broken photo is reported there, not raised.

        Raises:
            BundleError: What a network gives are no probabilities.
        """
        squares = frozenset(seen.square for seen in self._inputs.values())
        a_photo = sum(3 * square.size**2 for square in squares)
        lengths = self._windows.lengths(len(photos), self._sessions.batch, a_photo, self._exits)
        ahead = 1 if self._exits else self._windows.ahead
        # Views have threads of their own: they would wait until all of the next window is decoded.
        with (
            ThreadPoolExecutor(self._decoders, "decode") as pool,
            ThreadPoolExecutor(self._decoders, "view") as viewers,
        ):
            done = accumulate(lengths)
            windows = (
                [
                    pool.submit(self._look, photo, first + start + number, squares)
                    for number, photo in enumerate(photos[start:end])
                ]
                for start, end in pairwise(chain([0], done))
            )
            waiting: deque[list[Future[_Photo]]] = deque()
            try:
                while True:
                    waiting.extend(islice(windows, 1 + ahead - len(waiting)))
                    if not waiting:
                        return
                    yield self._answer(waiting.popleft(), viewers)
            finally:
                for future in chain.from_iterable(waiting):
                    future.cancel()

    @property
    def _exits(self) -> bool:
        """Whether a photo may exit before the last call."""
        return bool(self._steps) or len(self._rest) > 1

    def _look(self, photo: Source, number: int, squares: frozenset[Square]) -> _Photo:
        """Decode a photo, and make its views where it needs all of them whatever happens."""
        started = perf_counter()
        image, notes = self._open(photo, self._ranges)
        seen = {square: square(image) for square in squares}
        self._timings.add("decode", milliseconds_since(started))
        made: dict[_Input, Pixels] = {}
        if not self._exits:
            started = perf_counter()
            every = range(self._views)
            made = {
                key: make(seen[key.square], number, every) for key, make in self._makers.items()
            }
            self._timings.add("views", milliseconds_since(started))
        return _Photo(number, seen, made, notes)

    def _answer(self, waiting: list[Future[_Photo]], pool: ThreadPoolExecutor) -> Window:
        photos: dict[int, _Photo] = {}
        broken: dict[int, BrokenPhotoError] = {}
        for place, future in enumerate(waiting):
            try:
                photos[place] = future.result()
            except BrokenPhotoError as error:
                broken[place] = error
        places, count = np.array(list(photos), dtype=np.int64), len(waiting)
        answers = _Answers(len(self._thresholds), count, self._classes)
        answers.exit_step[:, places] = self._stayed
        staying = _Staying(self._weights, self._views, photos, self._classes)
        full = np.full((count, self._classes), np.nan)
        if self._tried and photos:
            staying.outputs = self._run(full_calls(self._weights, self._views), staying, pool)
            full[places] = self._vote(staying)
        self._take_steps(staying, answers, pool)
        self._settle(staying, answers, pool)
        notes = {place: photo.notes for place, photo in photos.items() if photo.notes}
        if not self._tried:
            members = {} if self._exits else self._by_member(staying, places, count)
            nothing = np.zeros(count, dtype=np.int64)
            probabilities, exit_step = answers.probabilities[0], answers.exit_step[0]
            return Window(probabilities, exit_step, nothing, broken, notes, members)
        labels = np.nan_to_num(answers.probabilities, nan=-1.0).argmax(axis=2)
        other = labels != np.nan_to_num(full, nan=-1.0).argmax(axis=1)
        bits = 1 << np.arange(len(labels), dtype=np.int64)
        exit_step = np.full(count, BROKEN)
        exit_step[places] = self._stayed
        return Window(full, exit_step, bits @ other, broken, notes)

    def _take_steps(self, staying: _Staying, answers: _Answers, pool: ThreadPoolExecutor) -> None:
        """Take the plan's steps; with several threshold sets photos stay until they exit by all."""
        for number, step in enumerate(self._steps):
            if not len(staying):
                return
            staying.add(step, self._run(step, staying, pool))
            mean = staying.mixture.mean()
            clear = margins(mean)
            stays = np.zeros(len(staying), dtype=bool)
            for index, thresholds in enumerate(self._thresholds):
                undecided = answers.exit_step[index, staying.places] == self._stayed
                exiting = undecided & (clear >= thresholds[number])
                answers.exit_step[index, staying.places[exiting]] = number
                answers.probabilities[index, staying.places[exiting]] = soften(
                    mean[exiting], self._temperature
                )
                stays |= undecided & ~exiting
            staying.keep(stays)

    def _settle(self, staying: _Staying, answers: _Answers, pool: ThreadPoolExecutor) -> None:
        """Make the other calls of the full ensemble until no label can change.

        A photo whose label is settled gets the mean of the calls that were made; where all were, it
        is the full ensemble's answer to the last bit.
        """
        for step in self._rest:
            if not len(staying):
                return
            certain = settled(staying.votes, staying.to_come)
            if certain.any():
                mean = staying.votes[certain] / (1 - staying.to_come)
                places = staying.places[certain]
                answers.fill(places, soften(mean, self._temperature), self._stayed)
                staying.keep(~certain)
            if len(staying):
                staying.add(step, self._run(step, staying, pool))
        if len(staying):
            with self._timings.measured("voting"):
                answers.fill(staying.places, self._vote(staying), self._stayed)

    def _run(
        self, calls: Iterable[ModelCall], staying: _Staying, pool: ThreadPoolExecutor
    ) -> dict[ModelCall, NDArray[np.float32]]:
        """Make calls for all photos that stay: all views of a member in one run of its session.

        Members that see the same views share them. The next run's views are made during a run.

        Returns:
            By call that was not made before, shape (photos, classes).
        """
        views: dict[ModelKey, tuple[int, ...]] = {}
        for call in calls:
            if call not in staying.outputs:
                views[call.key] = (*views.get(call.key, ()), call.view)
        alike: dict[tuple[_Input, tuple[int, ...], int], list[ModelKey]] = {}
        for key, seen in views.items():
            alike.setdefault((self._inputs[key], seen, self._sessions[key].batch), []).append(key)
        photos, tasks = list(staying.photos), []
        for group in alike:
            # So many photos that their views fill whole batches.
            length = group[2] // math.gcd(group[2], len(group[1]))
            tasks += [(group, photos[at : at + length]) for at in range(0, len(photos), length)]
        parts: dict[ModelKey, list[NDArray[np.float32]]] = {key: [] for key in views}
        coming: deque[list[Future[Pixels]]] = deque()
        for number, (group, some) in enumerate(tasks):
            for (shared, wanted, _), others in tasks[number + len(coming) : number + 2]:
                coming.append([self._views_of(photo, shared, wanted, pool) for photo in others])
            images = np.concatenate([future.result() for future in coming.popleft()])
            for key, part in self._probabilities(alike[group], images).items():
                parts[key].append(part.reshape(len(some), len(group[1]), -1))
        found: dict[ModelCall, NDArray[np.float32]] = {}
        for key, seen in views.items():
            whole = np.concatenate(parts[key])
            for place, view in enumerate(seen):
                found[ModelCall(key.member, key.precision, view)] = whole[:, place]
        return found

    def _views_of(
        self, photo: _Photo, seen: _Input, views: tuple[int, ...], pool: ThreadPoolExecutor
    ) -> Future[Pixels]:
        if seen in photo.views:
            made: Future[Pixels] = Future()
            made.set_result(photo.views[seen])
            return made
        return pool.submit(self._make, photo, seen, views)

    def _make(self, photo: _Photo, seen: _Input, views: tuple[int, ...]) -> Pixels:
        started = perf_counter()
        made = self._makers[seen](photo.squares[seen.square], photo.number, views)
        self._timings.add("views", milliseconds_since(started))
        return made

    def _probabilities(
        self, keys: list[ModelKey], images: Pixels
    ) -> dict[ModelKey, NDArray[np.float32]]:
        """Run members on the same images.

        Returns:
            By member, shape (images, classes).

        Raises:
            BundleError: They are no probabilities; see `CheckedSession`.
        """
        found = {}
        started = perf_counter()
        placed = self._sessions[keys[0]].place(images)
        for key in keys:
            answer = self._sessions[key].run(placed, len(images))
            taken = milliseconds_since(started)
            self._timings.add_run(key, taken, len(images))
            found[key] = answer
            started = perf_counter()
        return found

    def _vote(self, staying: _Staying) -> NDArray[np.float64]:
        """Vote over all calls of the full ensemble."""
        seen = [staying.of(key) for key in self._weights]
        return vote(seen, list(self._weights.values()), self._temperature)

    def _by_member(
        self, staying: _Staying, places: NDArray[np.int64], count: int
    ) -> dict[str, NDArray[np.float32]]:
        shape = (count, self._views, self._classes)
        members = {}
        for key in self._weights:
            members[key.member] = np.full(shape, np.nan, dtype=np.float32)
            if len(places):
                members[key.member][places] = staying.of(key)
        return members


@dataclass
class _Answers:
    """What photos of a window get by each threshold set."""

    sets: InitVar[int]
    photos: InitVar[int]
    classes: InitVar[int]
    probabilities: NDArray[np.float64] = field(init=False)
    exit_step: NDArray[np.int64] = field(init=False)

    def __post_init__(self, sets: int, photos: int, classes: int) -> None:
        self.probabilities = np.full((sets, photos, classes), np.nan)
        self.exit_step = np.full((sets, photos), BROKEN, dtype=np.int64)

    def fill(self, places: NDArray[np.int64], answer: NDArray[np.float64], stayed: int) -> None:
        """Give the full ensemble's labels where photos stayed."""
        for index, exits in enumerate(self.exit_step):
            open_ones = exits[places] == stayed
            self.probabilities[index, places[open_ones]] = answer[open_ones]


class _Staying:
    """The photos of a window that have not exited, and what the networks said of them."""

    def __init__(
        self, weights: Weights, views: int, photos: Mapping[int, _Photo], classes: int
    ) -> None:
        self.photos = list(photos.values())
        self.places = np.array(list(photos), dtype=np.int64)
        self.mixture = Mixture(weights, len(photos), classes)
        self.outputs: dict[ModelCall, NDArray[np.float32]] = {}
        self.votes = np.zeros((len(photos), classes))
        self.to_come = 1.0
        self._shares = {key: weight / views for key, weight in weights.items()}
        self._views = views

    def __len__(self) -> int:
        return len(self.photos)

    def add(self, step: Step, outputs: Mapping[ModelCall, NDArray[np.float32]]) -> None:
        """Count the calls of a step, whose outputs may have been there before."""
        self.outputs.update(outputs)
        for call in step:
            output = self.outputs[call]
            self.mixture.add(call, output)
            if call.key in self._shares:
                self.votes += self._shares[call.key] * output.astype(np.float64)
                self.to_come -= self._shares[call.key]

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        self.photos = list(compress(self.photos, chosen))
        self.places, self.votes = self.places[chosen], self.votes[chosen]
        self.mixture.keep(chosen)
        self.outputs = {call: output[chosen] for call, output in self.outputs.items()}

    def of(self, key: ModelKey) -> NDArray[np.float32]:
        """Return what a member said of every view, shape (photos, views, classes)."""
        calls = (ModelCall(key.member, key.precision, view) for view in range(self._views))
        return np.stack([self.outputs[call] for call in calls], axis=1)


def _input_of(member: Member, random_seed: int | None) -> _Input:
    if random_seed is None:
        return _Input(member.square, member.image_size, "")
    return _Input(member.stored_square, member.image_size, sha256_json(member.augmentor))
