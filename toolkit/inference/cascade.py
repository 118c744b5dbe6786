"""Carries out a plan: photos in windows, the undecided ones regrouped into full batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import BrokenPhotoError, Pixels, decode, from_array, resize
from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Bundle, Member
from toolkit.inference.devices import Device
from toolkit.inference.engine import Source
from toolkit.inference.plan import (
    BATCHES_A_WINDOW,
    EXACT,
    Mixture,
    Plan,
    Run,
    exact_runs,
    margins,
)
from toolkit.inference.sessions import Session, Threads, open_session
from toolkit.inference.timing import Timings, milliseconds_since
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import soften, vote

BROKEN = -1


@dataclass(frozen=True)
class Window:
    """What is known of the photos of one window.

    Attributes:
        probabilities: By candidate plan, shape (candidates, photos, classes); a broken photo's rows
            are NaN.
        left: Step after which each photo left, shape (candidates, photos); the number of steps
            where the exact ensemble answered it, `BROKEN` where it could not be read.
        broken: Why a photo could not be read, by its number in the window.
    """

    probabilities: NDArray[np.float64]
    left: NDArray[np.int64]
    broken: Mapping[int, BrokenPhotoError]


class Cascade:
    """The members of a bundle, ready to carry out a plan."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        thresholds: Sequence[Sequence[float]],
        *,
        exact: bool,
        device: Device,
        threads: Threads,
        batch: int,
        decoders: int,
        timings: Timings,
    ) -> None:
        """Load the networks of all steps.

        Args:
            bundle: The bundle.
            plan: Its steps are carried out.
            thresholds: By candidate, one a step. With several, photos go on until they have left
                under each.
            exact: Whether photos that never leave are answered by the exact ensemble; else their
                rows stay NaN.
            device: Where to compute.
            threads: Of sessions on the CPU.
            batch: Images a run; every run of lower precision has exactly this many.
            decoders: Threads that decode photos and make views.
            timings: Where times are kept.

        Raises:
            ToolkitError: A file of the bundle was changed, or cannot be loaded here.
        """
        self._plan, self._thresholds, self._exact = plan, np.array(thresholds), exact
        self._batch, self._decoders, self._timings = batch, decoders, timings
        self._classes = len(bundle.classes)
        self._weights = {name: w for name, w in plan.voting["weights"].items() if w > 0}
        self._members: dict[str, Member] = {member.name: member for member in bundle.members}
        self._rest = [
            run
            for run in exact_runs(self._weights, plan.views)
            if not any(run in step for step in plan.steps)
        ]
        runs = [run for step in plan.steps for run in step] + (self._rest if exact else [])
        # Variants' files are checked only with all others.
        lower = any(run.precision != EXACT for run in runs)
        bundle.check_files(
            None if lower else [self._members[name] for name in {run.member for run in runs}]
        )
        self._sessions: dict[tuple[str, str], Session] = {}
        for run in runs:
            key = (run.member, run.precision)
            if key not in self._sessions:
                started = perf_counter()
                self._sessions[key] = open_session(
                    bundle.folder, self._members[run.member], run.precision, device, threads, batch
                )
                timings.load[" ".join(key)] = milliseconds_since(started)

    @property
    def providers(self) -> list[str]:
        """What the sessions say they run on."""
        return sorted({session.provider for session in self._sessions.values()})

    def predict(self, photos: Sequence[Source]) -> Iterator[Window]:
        """Predict photos window by window, in memory that does not grow with their number.

        Args:
            photos: Files or decoded pixels.

        Yields:
            One answer a window, in order.
        """
        if not photos:
            return
        first = self._sizes(self._plan.steps[:1]) if self._plan.steps else self._sizes([self._rest])
        length = BATCHES_A_WINDOW * self._batch
        windows = (photos[start : start + length] for start in range(0, len(photos), length))
        # Views have threads of their own: they would wait until all of the next window is decoded.
        with (
            ThreadPoolExecutor(self._decoders, "decode") as pool,
            ThreadPoolExecutor(self._decoders, "view") as viewers,
        ):

            def submitted(window: Sequence[Source]) -> list[Future[dict[int, Pixels]]]:
                return [pool.submit(self._look, photo, first) for photo in window]

            ahead: list[Future[dict[int, Pixels]]] = []
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

    def _look(self, photo: Source, sizes: frozenset[int]) -> dict[int, Pixels]:
        started = perf_counter()
        image = decode(photo) if isinstance(photo, Path) else from_array(photo)
        seen = {size: resize(image, size) for size in sizes}
        self._timings.add("decode", milliseconds_since(started))
        return seen

    def _sizes(self, steps: Sequence[Sequence[Run]]) -> frozenset[int]:
        return frozenset(self._members[run.member].image_size for step in steps for run in step)

    def _answer(
        self,
        photos: Sequence[Source],
        waiting: Sequence[Future[dict[int, Pixels]]],
        pool: ThreadPoolExecutor,
    ) -> Window:
        seen: list[dict[int, Pixels]] = []
        broken: dict[int, BrokenPhotoError] = {}
        for number, future in enumerate(waiting):
            try:
                seen.append(future.result())
            except BrokenPhotoError as error:
                broken[number] = error
        sound = np.array([number for number in range(len(photos)) if number not in broken], int)
        shape = (len(self._thresholds), len(photos))
        left = np.full(shape, BROKEN, dtype=np.int64)
        left[:, sound] = len(self._plan.steps)
        probabilities = np.full((*shape, self._classes), np.nan)
        staying, kept = sound, _Seen(self._weights, seen, self._classes)
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
                undecided = left[candidate, staying] == len(self._plan.steps)
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
            for run in self._rest:
                kept.add(run, self._run(run, kept, pool))
            exact = self._vote(kept)
            for candidate in range(len(self._thresholds)):
                undecided = left[candidate, staying] == len(self._plan.steps)
                probabilities[candidate, staying[undecided]] = exact[undecided]
        return Window(probabilities, left, broken)

    def _complete(
        self, kept: _Seen, photos: Sequence[Source], number: int, pool: ThreadPoolExecutor
    ) -> None:
        """Bring photos to the sizes of all steps to come, when they come to the second one.

        Decoding again the few that are left costs less than bringing all to every size.
        """
        here = [*self._plan.steps, self._rest][number]
        if self._sizes([here]) <= kept.sizes:
            return
        rest = self._sizes([*self._plan.steps[number:], *([self._rest] if self._exact else [])])
        missing = rest - kept.sizes
        for known, more in zip(
            kept.photos, pool.map(lambda photo: self._look(photo, missing), photos), strict=True
        ):
            known.update(more)

    def _run(self, run: Run, kept: _Seen, pool: ThreadPoolExecutor) -> NDArray[np.float32]:
        size = self._members[run.member].image_size
        started = perf_counter()
        views = list(pool.map(VIEWS[run.view], [photo[size] for photo in kept.photos]))
        images = np.stack(views)
        self._timings.add("view", milliseconds_since(started) / len(images))
        session = self._sessions[run.member, run.precision]
        work = f"model {run.member} {run.precision}"
        started = perf_counter()
        answer = session.run(session.place(images), len(images))
        taken = milliseconds_since(started)
        self._timings.inference_ms += taken
        self._timings.runs += len(images)
        self._timings.add(work, taken / len(images))
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


class _Seen:
    """The photos of a window that are still undecided, and what was said of them."""

    def __init__(
        self, weights: Mapping[str, float], photos: list[dict[int, Pixels]], classes: int
    ) -> None:
        self.photos = photos
        self.mixture = Mixture(weights, len(photos), classes)
        self.exact: dict[Run, NDArray[np.float32]] = {}

    @property
    def sizes(self) -> frozenset[int]:
        return frozenset(self.photos[0])

    def add(self, run: Run, answer: NDArray[np.float32]) -> None:
        self.mixture.add(run, answer)
        if run.precision == EXACT:
            self.exact[run] = answer

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        self.photos = [photo for photo, stays in zip(self.photos, chosen, strict=True) if stays]
        self.mixture.keep(chosen)
        self.exact = {run: answer[chosen] for run, answer in self.exact.items()}
