"""Carries out a plan: photos in windows, the undecided ones regrouped into full batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import BrokenPhotoError, Pixels, Square
from toolkit.errors import ToolkitError
from toolkit.inference.engine import Source, seen_as
from toolkit.inference.exits import settled, settling_order
from toolkit.inference.plan import (
    BATCHES_A_WINDOW,
    EXACT,
    Mixture,
    Plan,
    Run,
    exact_runs,
    margins,
)
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import milliseconds_since
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import soften, vote
from toolkit.machine import usable_cores

BROKEN = -1

_Look = tuple[dict[Square, Pixels], tuple[str, ...]]
"""A photo's squares, and what was remarkable about it."""

MOST_PHOTOS_A_WINDOW = 2048
"""Whatever the batch: two windows are in memory, decoded, 350 kB a photo at two sizes of 240."""

GROWTH = 4
"""The first window is one batch, each later one as many times longer, so that runs begin early."""


@dataclass(frozen=True)
class Window:
    """What is known of the photos of one window.

    Attributes:
        probabilities: By candidate plan, shape (candidates, photos, classes); a broken photo's rows
            are NaN.
        left: Step after which each photo left, shape (candidates, photos); the number of steps
            where the exact ensemble's label was settled, `BROKEN` where it could not be read.
        broken: Why a photo could not be read, by its number in the window.
        notes: What was remarkable about a photo that was read, likewise.
    """

    probabilities: NDArray[np.float64]
    left: NDArray[np.int64]
    broken: Mapping[int, BrokenPhotoError]
    notes: Mapping[int, tuple[str, ...]]

    def __len__(self) -> int:
        """Return how many photos it has."""
        return len(self.left[0])


class Cascade:
    """The members of a bundle, ready to carry out a plan."""

    def __init__(
        self,
        sessions: Sessions,
        plan: Plan,
        thresholds: Sequence[Sequence[float]],
        *,
        exact: bool,
    ) -> None:
        """Load the networks of all steps that are not loaded yet.

        Args:
            sessions: Of the bundle.
            plan: Its steps are carried out.
            thresholds: By candidate, one a step. With several, photos go on until they have left
                under each.
            exact: Whether photos that never leave get the exact ensemble's label; else their rows
                stay NaN.

        Raises:
            ToolkitError: A file of the bundle was changed, or cannot be loaded here.
        """
        self._plan, self._thresholds, self._exact = plan, np.array(thresholds), exact
        self._settled = len(plan.steps)
        self._sessions, self._timings = sessions, sessions.timings
        self._classes = len(sessions.bundle.classes)
        self._weights = {name: w for name, w in plan.voting["weights"].items() if w > 0}
        self._squares = {member.name: member.square for member in sessions.bundle.members}
        self._ranges = sessions.bundle.pixels.ranges
        seen = {run for step in plan.steps for run in step}
        self._rest = settling_order(
            (run for run in exact_runs(self._weights, plan.views) if run not in seen),
            self._weights,
            plan.costs,
        )
        runs = [run for step in plan.steps for run in step] + (self._rest if exact else [])
        sessions.load((run.member, run.precision) for run in runs)

    @classmethod
    def of_exact_labels(cls, sessions: Sessions, plan: Plan) -> Cascade:
        """Load what gives every photo its exact label, by as few runs as make it certain.

        Args:
            sessions: Of the bundle.
            plan: None of its steps is carried out; all photos are said to stay after the last.

        Raises:
            ToolkitError: A file of the bundle was changed, or cannot be loaded here.
        """
        cascade = cls(sessions, replace(plan, steps=()), [()], exact=True)
        cascade._settled = len(plan.steps)
        return cascade

    def predict(self, photos: Sequence[Source]) -> Iterator[Window]:
        """Predict photos window by window, in memory that does not grow with their number.

        Args:
            photos: Files or decoded pixels.

        Yields:
            One answer a window, in order.
        """
        if not photos:
            return
        first = self._squares_of(self._plan.steps[:1] or [self._rest])
        windows = _windows(photos, self._sessions.batch)
        # Views have threads of their own: they would wait until all of the next window is decoded.
        with (
            ThreadPoolExecutor(usable_cores(), "decode") as pool,
            ThreadPoolExecutor(usable_cores(), "view") as viewers,
        ):

            def submitted(window: Sequence[Source]) -> list[Future[_Look]]:
                return [pool.submit(self._look, photo, first, "decode") for photo in window]

            ahead: list[Future[_Look]] = []
            try:
                window = next(windows)
                waiting = submitted(window)
                while window:
                    following = next(windows, ())
                    ahead = submitted(following)
                    yield self._answer(window, waiting, viewers)
                    window, waiting = following, ahead
            finally:
                for left in ahead:
                    left.cancel()

    def _look(self, photo: Source, squares: frozenset[Square], work: str) -> _Look:
        started = perf_counter()
        image, notes = seen_as(photo, self._ranges)
        seen = {square: square(image) for square in squares}
        self._timings.add(work, milliseconds_since(started))
        return seen, notes

    def _squares_of(self, steps: Sequence[Sequence[Run]]) -> frozenset[Square]:
        return frozenset(self._squares[run.member] for step in steps for run in step)

    def _answer(
        self,
        photos: Sequence[Source],
        waiting: Sequence[Future[_Look]],
        pool: ThreadPoolExecutor,
    ) -> Window:
        seen: list[dict[Square, Pixels]] = []
        broken: dict[int, BrokenPhotoError] = {}
        notes: dict[int, tuple[str, ...]] = {}
        for number, future in enumerate(waiting):
            try:
                squares, remarkable = future.result()
                seen.append(squares)
                if remarkable:
                    notes[number] = remarkable
            except BrokenPhotoError as error:
                broken[number] = error
        sound = np.array([number for number in range(len(photos)) if number not in broken], int)
        shape = (len(self._thresholds), len(photos))
        left = np.full(shape, BROKEN, dtype=np.int64)
        left[:, sound] = self._settled
        probabilities = np.full((*shape, self._classes), np.nan)
        staying, kept = sound, _Seen(self._weights, self._plan.views, seen, self._classes)
        for number, step in enumerate(self._plan.steps):
            if not len(staying):
                break
            self._complete(kept, [photos[index] for index in staying], number, pool)
            for run in step:
                kept.add(run, self._run(run, kept, pool))
            mean = kept.mixture.mean()
            clear = margins(mean)
            stays = np.zeros(len(staying), dtype=bool)
            for candidate, thresholds in enumerate(self._thresholds):
                undecided = left[candidate, staying] == self._settled
                leaves = undecided & (clear >= thresholds[number])
                left[candidate, staying[leaves]] = number
                probabilities[candidate, staying[leaves]] = soften(
                    mean[leaves], self._plan.voting["temperature"]
                )
                stays |= undecided & ~leaves
            kept.keep(stays)
            staying = staying[stays]
        if self._exact and len(staying):
            self._complete(kept, [photos[index] for index in staying], len(self._plan.steps), pool)
            exact = self._settle(kept, pool)
            for candidate in range(len(self._thresholds)):
                undecided = left[candidate, staying] == self._settled
                probabilities[candidate, staying[undecided]] = exact[undecided]
        return Window(probabilities, left, broken, notes)

    def _settle(self, kept: _Seen, pool: ThreadPoolExecutor) -> NDArray[np.float64]:
        """Run what remains until each photo's label is certain.

        Returns:
            Mean of the exact ensemble's runs that were made, shape (photos, classes); where all
            were, its answer to the last bit.
        """
        places = np.arange(len(kept.photos))
        answers = np.empty((len(places), self._classes))
        for run in self._rest:
            certain = settled(kept.votes, kept.to_come)
            mean = kept.votes[certain] / (1 - kept.to_come)
            answers[places[certain]] = soften(mean, self._plan.voting["temperature"])
            kept.keep(~certain)
            places = places[~certain]
            if not len(places):
                return answers
            kept.add(run, self._run(run, kept, pool))
        answers[places] = self._vote(kept)
        return answers

    def _complete(
        self, kept: _Seen, photos: Sequence[Source], number: int, pool: ThreadPoolExecutor
    ) -> None:
        """Make the squares of all steps to come, when photos come to the second one.

        Decoding again the few that are left costs less than making every square of all.
        """
        here = [*self._plan.steps, self._rest][number]
        if self._squares_of([here]) <= kept.squares:
            return
        last = [self._rest] if self._exact else []
        rest = self._squares_of([*self._plan.steps[number:], *last])
        missing = rest - kept.squares
        for known, more in zip(
            kept.photos,
            pool.map(lambda photo: self._look(photo, missing, "decode again"), photos),
            strict=True,
        ):
            known.update(more[0])

    def _run(self, run: Run, kept: _Seen, pool: ThreadPoolExecutor) -> NDArray[np.float32]:
        square, session = self._squares[run.member], self._sessions[run.member, run.precision]
        answers: list[NDArray[np.float32]] = []
        for start in range(0, len(kept.photos), session.batch):
            started = perf_counter()
            seen = [photo[square] for photo in kept.photos[start : start + session.batch]]
            images = np.stack(list(pool.map(VIEWS[run.view], seen)))
            self._timings.add("view", milliseconds_since(started) / len(images))
            started = perf_counter()
            answers.append(session.run(session.place(images), len(images)))
            taken = milliseconds_since(started)
            self._timings.add_run(f"{run.member} {run.precision}", taken, len(images))
            self._timings.inference_ms += taken
            self._timings.runs += len(images)
        answer = np.concatenate(answers)
        if not np.isfinite(answer).all():
            raise ToolkitError(
                f"'{run.member}' in {run.precision} gave probabilities that are not finite. Pass "
                "--plan exact, or export it again."
            )
        return answer

    def _vote(self, kept: _Seen) -> NDArray[np.float64]:
        """Vote as the exact ensemble does, to the last bit."""
        members = [
            np.stack(
                [kept.exact[Run(name, EXACT, view)] for view in range(self._plan.views)], axis=1
            )
            for name in self._weights
        ]
        return vote(members, list(self._weights.values()), self._plan.voting["temperature"])


def _windows(photos: Sequence[Source], batch: int) -> Iterator[Sequence[Source]]:
    most = max(1, min(BATCHES_A_WINDOW, MOST_PHOTOS_A_WINDOW // batch))
    start, batches = 0, 1
    while start < len(photos):
        yield photos[start : start + batches * batch]
        start += batches * batch
        batches = min(GROWTH * batches, most)


class _Seen:
    """The photos of a window that are still undecided, and what was said of them."""

    def __init__(
        self,
        weights: Mapping[str, float],
        views: int,
        photos: list[dict[Square, Pixels]],
        classes: int,
    ) -> None:
        self.photos = photos
        self.mixture = Mixture(weights, len(photos), classes)
        self.exact: dict[Run, NDArray[np.float32]] = {}
        self.votes = np.zeros((len(photos), classes))
        self.to_come = 1.0
        self._shares = {name: weight / views for name, weight in weights.items()}

    @property
    def squares(self) -> frozenset[Square]:
        return frozenset(self.photos[0])

    def add(self, run: Run, answer: NDArray[np.float32]) -> None:
        self.mixture.add(run, answer)
        if run.precision == EXACT:
            self.exact[run] = answer
            self.votes += self._shares[run.member] * answer.astype(np.float64)
            self.to_come -= self._shares[run.member]

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        self.photos = [photo for photo, stays in zip(self.photos, chosen, strict=True) if stays]
        self.mixture.keep(chosen)
        self.votes = self.votes[chosen]
        self.exact = {run: answer[chosen] for run, answer in self.exact.items()}
