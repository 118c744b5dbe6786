"""The executor: a plan's answers to the bit, by no more work or memory than needed."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels, Square, from_array, load
from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Bundle, load_bundle, load_validation
from toolkit.inference.calls import ModelCall, ModelKey, full_calls
from toolkit.inference.devices import Device
from toolkit.inference.evidence import carry_out, gather
from toolkit.inference.executor import BROKEN, Executor, Window, Windows, open_photo
from toolkit.inference.exits import settling_steps
from toolkit.inference.plan import (
    CascadePlan,
    PlanDevice,
    PlanSearch,
    PlanVoting,
    ThresholdSet,
    measured_costs,
)
from toolkit.inference.planner import find_threshold_sets
from toolkit.inference.sessions import Sessions, open_session
from toolkit.inference.timing import Timings
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import choose_voting, soften

VIEWS_USED = 2
FP32 = "fp32"
STEPS = (
    (ModelCall("alpha", "int8", 0),),
    (ModelCall("gamma", FP32, 0), ModelCall("alpha", FP32, 1)),
    (ModelCall("beta", FP32, 1),),
)
"""Sizes and precisions mix, and members come in another order than in the bundle."""

NEVER, AT_ONCE = (inf, inf, inf), (0.0, inf, inf)
SOME = (1.0, 0.5, 0.3)
COSTS = {
    ModelKey("alpha", FP32): 1.0,
    ModelKey("alpha", "int8"): 0.3,
    ModelKey("beta", FP32): 4.0,
    ModelKey("gamma", FP32): 4.0,
}


@pytest.fixture
def bundle(plannable: Path) -> Bundle:
    return load_bundle(plannable)


@pytest.fixture(scope="session")
def held_out(draw_photo: Any) -> list[NDArray[np.uint8]]:
    """The held-out photos of the bundle."""
    return [np.asarray(draw_photo(5000 + number, (40, 30))) for number in range(160)]


def threshold_set(thresholds: Sequence[float]) -> ThresholdSet:
    figures = {"ms": 1.0, "calls": 1.0, "agreement": 1.0, "accuracy": 1.0, "risk": 0.0}
    exits = (0.0,) * len(thresholds)
    return ThresholdSet(thresholds=tuple(thresholds), exits=exits, **figures)


def full_plan(bundle: Bundle, views: int = VIEWS_USED) -> CascadePlan:
    return CascadePlan.full(bundle, choose_voting(bundle, views, "auto"), views)


def label_exact(bundle: Bundle, views: int = VIEWS_USED) -> CascadePlan:
    return CascadePlan.label_exact(bundle, choose_voting(bundle, views, "auto"), views, COSTS)


def cascade(
    bundle: Bundle,
    *thresholds: Sequence[float],
    steps: Sequence[tuple[ModelCall, ...]] = STEPS,
    views: int = VIEWS_USED,
) -> CascadePlan:
    voting = PlanVoting.of(bundle, choose_voting(bundle, views, "auto"))
    done = [call for step in steps for call in step]
    search = PlanSearch(
        device=PlanDevice(kind="cpu", name="processor"),
        tolerance=0.01,
        confidence=0.95,
        photos=160,
        full_ms=18.0,
        settled_ms=18.0,
        costs=measured_costs(COSTS),
        table=(),
    )
    return CascadePlan(
        bundle=bundle.sha256,
        views=views,
        voting=voting,
        steps=tuple(steps),
        threshold_sets=tuple(threshold_set(each) for each in thresholds),
        rest=settling_steps(done, voting.weights, views, COSTS),
        search=search,
    )


def ready(
    bundle: Bundle,
    plan: CascadePlan,
    *,
    batch: int = 4,
    threads: int = 1,
    tried: bool = False,
    opener: Any = open_session,
    photo_opener: Any = open_photo,
    **options: Any,
) -> tuple[Executor, Timings]:
    """Prepare a plan, with its first threshold set if it has one."""
    timings = Timings()
    sessions = Sessions(
        bundle,
        device=Device("cpu", "processor"),
        threads=threads,
        batch=batch,
        timings=timings,
        opener=opener,
    )
    first = plan.threshold_sets[0] if plan.threshold_sets and not tried else None
    return Executor(sessions, plan, first, tried=tried, opener=photo_opener, **options), timings


def together(windows: Iterator[Window]) -> Window:
    found = list(windows)
    return Window(
        *(
            np.concatenate([getattr(window, name) for window in found])
            for name in ("probabilities", "exit_step", "differs")
        ),
        broken={},
        notes={},
    )


def predicted(bundle: Bundle, plan: CascadePlan, photos: Sequence[Any], **options: Any) -> Window:
    return together(ready(bundle, plan, **options)[0].predict(photos))


def by_onnxruntime(
    bundle: Bundle, photos: Sequence[Path], views: int
) -> tuple[NDArray[np.float64], dict[ModelCall, NDArray[np.float32]]]:
    """The full ensemble by a plain loop over files, photos and views, one image a run."""
    voting = choose_voting(bundle, views, "auto")
    said: dict[ModelCall, list[NDArray[np.float32]]] = {}
    for member in bundle.members:
        session = onnxruntime.InferenceSession(
            bundle.folder / member.file, providers=["CPUExecutionProvider"]
        )
        for photo in photos:
            pixels = load(photo, Square(member.image_size))
            for number in range(views):
                image = VIEWS[number](pixels)[None]
                (row,) = session.run(["probabilities"], {"images": image})
                said.setdefault(ModelCall(member.name, FP32, number), []).append(row[0])
    mixed = np.zeros((len(photos), len(bundle.classes)))
    for member, weight in zip(bundle.members, voting.weights, strict=True):
        total = np.zeros_like(mixed)
        for number in range(views):
            total += np.array(said[ModelCall(member.name, FP32, number)], dtype=np.float64)
        mixed += weight * (total / views)
    powers = mixed ** (1 / voting.temperature)
    by_call = {call: np.array(rows) for call, rows in said.items()}
    return powers / powers.sum(axis=1, keepdims=True), by_call


class TestFull:
    @pytest.mark.parametrize("views", [1, 2, 5, 8])
    def test_it_is_a_plain_loop_over_the_files(
        self, bundle: Bundle, photos: list[Path], views: int
    ) -> None:
        """To the last bit."""
        expected, by_call = by_onnxruntime(bundle, photos, views)
        executor, timings = ready(bundle, full_plan(bundle, views))
        windows = list(executor.predict(photos))
        np.testing.assert_array_equal(together(iter(windows)).probabilities, expected)
        for call, rows in by_call.items():
            seen = np.concatenate([window.members[call.member] for window in windows])
            np.testing.assert_array_equal(seen[:, call.view], rows)
        assert timings.calls == 3 * views * len(photos)
        assert timings.inference_ms > 0

    def test_all_views_of_a_member_are_one_run_and_shared_by_members_of_one_input(
        self, bundle: Bundle, photos: list[Path]
    ) -> None:
        spy = Spy()
        executor, _ = ready(bundle, full_plan(bundle, 4), batch=16, opener=spy.open)
        list(executor.predict(photos[:4]))
        assert spy.runs == [("alpha", 16), ("beta", 16), ("gamma", 16)]
        assert spy.placed == [("alpha", 16), ("gamma", 16)]

    def test_a_member_without_a_vote_is_neither_loaded_nor_run(
        self, bundle: Bundle, photos: list[Path]
    ) -> None:
        plan = CascadePlan.full(bundle, choose_voting(bundle, 2, "pair"), 2)
        spy = Spy()
        list(ready(bundle, plan, opener=spy.open)[0].predict(photos))
        assert {name for name, _ in spy.runs} == {"alpha", "beta"} == set(spy.opened)


class TestLabelExact:
    @pytest.mark.parametrize("views", [1, 2, 3])
    def test_all_labels_are_the_full_ensembles(
        self, bundle: Bundle, held_out: list[Any], views: int
    ) -> None:
        """And where every call was needed, its answer to the bit."""
        expected = predicted(bundle, full_plan(bundle, views), held_out).probabilities
        executor, timings = ready(bundle, label_exact(bundle, views))
        found = together(executor.predict(held_out))
        np.testing.assert_array_equal(found.probabilities.argmax(axis=1), expected.argmax(axis=1))
        assert (found.exit_step == 0).all()
        whole = (found.probabilities == expected).all(axis=1)
        assert 0 < whole.sum() < len(whole)
        most = len(held_out) * 3 * views
        assert most / 2 < timings.calls < most

    def test_calls_are_made_until_the_label_is_settled(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        """By a loop over photos and calls."""
        voting = choose_voting(bundle, VIEWS_USED, "auto")
        names = [member.name for member in bundle.members]
        weights = dict(zip(names, voting.weights, strict=True))
        seen = dict(zip(names, load_validation(bundle).probabilities, strict=True))
        order = [(name, view) for name in names for view in range(VIEWS_USED)]
        order.sort(key=lambda call: COSTS[ModelKey(call[0], FP32)] / weights[call[0]])
        executor, timings = ready(bundle, label_exact(bundle))
        found = together(executor.predict(held_out)).probabilities
        calls = 0
        for photo in range(len(held_out)):
            votes, share = np.zeros(3), 0.0
            for name, view in order:
                votes += weights[name] / VIEWS_USED * seen[name][photo, view]
                share += weights[name] / VIEWS_USED
                calls += 1
                second, first = np.sort(votes)[-2:]
                if first - second > 1 - share + 1e-5:
                    break
            expected = soften(votes[None] / share, voting.temperature)[0]
            np.testing.assert_allclose(found[photo], expected, rtol=1e-6)
        assert timings.calls == calls


class TestCascade:
    @pytest.mark.parametrize("steps", [STEPS, STEPS[:1], ((ModelCall("gamma", FP32, 1),),)])
    @pytest.mark.parametrize("views", [2, 3])
    def test_where_none_exits_all_labels_are_the_full_ensembles(
        self, bundle: Bundle, held_out: list[Any], steps: Any, views: int
    ) -> None:
        plan = cascade(bundle, (inf,) * len(steps), steps=steps, views=views)
        found = predicted(bundle, plan, held_out)
        expected = predicted(bundle, full_plan(bundle, views), held_out).probabilities
        np.testing.assert_array_equal(found.probabilities.argmax(axis=1), expected.argmax(axis=1))
        assert (found.exit_step == len(steps)).all()

    def test_where_all_exit_at_once_the_first_step_answers(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        found = predicted(bundle, cascade(bundle, AT_ONCE), held_out)
        alone = load_validation(bundle).variants[ModelKey("alpha", "int8")][:, 0]
        np.testing.assert_array_equal(found.probabilities, soften(alone.astype(float), 1.5))
        assert (found.exit_step == 0).all()

    def test_it_is_what_was_planned_on_the_held_out_photos(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        voting = choose_voting(bundle, VIEWS_USED, "auto")
        evidence = gather(bundle, load_validation(bundle), voting, VIEWS_USED, COSTS)
        sets = [each.thresholds for each in find_threshold_sets(evidence, STEPS)]
        assert len(sets) > 3
        used = set()
        for thresholds in sets:
            found = predicted(bundle, cascade(bundle, thresholds), held_out)
            done = carry_out(evidence, STEPS, thresholds)
            np.testing.assert_array_equal(found.exit_step, done.exit_step)
            labels = found.probabilities.argmax(axis=1)
            np.testing.assert_array_equal(labels, done.answers.argmax(axis=1))
            used |= set(done.exit_step.tolist())
        assert used == {0, 1, 2, 3}

    def test_only_what_is_undecided_is_called(self, bundle: Bundle, held_out: list[Any]) -> None:
        plan = cascade(bundle, (1.0, 0.5, 0.0))
        executor, timings = ready(bundle, plan)
        found = together(executor.predict(held_out))
        reached = [int((found.exit_step >= step).sum()) for step in range(4)]
        assert reached[2] > reached[3] == 0
        assert timings.calls == np.dot(reached[:3], [1, 2, 1])

    def test_without_a_threshold_set_no_step_is_made(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        """Labels are then the full ensemble's, by as few calls as label-exact needs."""
        plan = cascade(bundle, SOME)
        timings = Timings()
        device = Device("cpu", "processor")
        loaded = Sessions(bundle, device=device, threads=1, batch=4, timings=timings)
        found = together(Executor(loaded, plan).predict(held_out))
        expected = predicted(bundle, label_exact(bundle), held_out)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        assert (found.exit_step == len(STEPS)).all()
        assert set(loaded) == set(plan.weights)


class TestTried:
    """What is certified is the label that would be written, whatever the exit."""

    SETS = (NEVER, SOME, AT_ONCE, (inf, 0.1, inf), (2.0, inf, 0.0))

    def test_a_bit_tells_where_a_set_would_write_another_label(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        plan = cascade(bundle, *self.SETS)
        found = predicted(bundle, plan, held_out, tried=True)
        full = predicted(bundle, full_plan(bundle), held_out).probabilities
        np.testing.assert_array_equal(found.probabilities, full)
        assert (found.exit_step == len(STEPS)).all()
        counts = []
        for number, thresholds in enumerate(self.SETS):
            alone = predicted(bundle, cascade(bundle, thresholds), held_out).probabilities
            other = alone.argmax(axis=1) != full.argmax(axis=1)
            np.testing.assert_array_equal(found.differs >> number & 1, other)
            counts.append(int(other.sum()))
        assert counts[0] == 0 < min(counts[2:])

    def test_no_call_is_made_twice(self, bundle: Bundle, held_out: list[Any]) -> None:
        executor, timings = ready(bundle, cascade(bundle, NEVER, AT_ONCE), tried=True)
        list(executor.predict(held_out))
        assert timings.calls == len(held_out) * (3 * VIEWS_USED + 1)


PLANS = {
    "full": lambda bundle: full_plan(bundle, 3),
    "label-exact": label_exact,
    "cascade": lambda bundle: cascade(bundle, SOME),
}


class TestSameBits:
    @pytest.mark.parametrize(
        ("batch", "threads", "decoders", "batches"),
        [(1, 1, 1, 16), (4, 2, 3, 1), (16, 1, 2, 16), (5, 2, 1, 2), (1, 1, 2, 1)],
    )
    @pytest.mark.parametrize("kind", list(PLANS))
    def test_for_any_batch_threads_decoders_and_window(
        self,
        bundle: Bundle,
        held_out: list[Any],
        kind: str,
        batch: int,
        threads: int,
        decoders: int,
        batches: int,
    ) -> None:
        photos, plan = held_out[:37], PLANS[kind](bundle)
        expected = predicted(bundle, plan, photos)
        if kind == "cascade":
            assert set(expected.exit_step.tolist()) == {0, 1, 2, 3}
        found = predicted(
            bundle,
            plan,
            photos,
            batch=batch,
            threads=threads,
            decoders=decoders,
            windows=Windows(batches=batches),
        )
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        np.testing.assert_array_equal(found.exit_step, expected.exit_step)

    @pytest.mark.parametrize("kind", list(PLANS))
    def test_no_photos_have_no_windows(self, bundle: Bundle, kind: str) -> None:
        assert list(ready(bundle, PLANS[kind](bundle))[0].predict([])) == []


class TestBrokenPhotos:
    @pytest.mark.parametrize("kind", list(PLANS))
    def test_it_is_reported_in_its_window_and_hurts_no_other(
        self, bundle: Bundle, photos: list[Path], hostile_photos: Path, kind: str
    ) -> None:
        bad = {name: hostile_photos / name for name in ("text.jpg", "missing.jpg")}
        mixed = [bad["text.jpg"], *photos[:6], bad["missing.jpg"], *photos[6:]]
        plan = PLANS[kind](bundle)
        windows = list(ready(bundle, plan, windows=Windows(batches=1))[0].predict(mixed))
        assert [sorted(window.broken) for window in windows] == [[0], [3], [], []]
        assert windows[0].broken[0].reason == "not a photo in a known format"
        found, expected = together(iter(windows)), predicted(bundle, plan, photos)
        assert (found.exit_step[[0, 7]] == BROKEN).all()
        assert np.isnan(found.probabilities[[0, 7]]).all()
        np.testing.assert_array_equal(
            np.delete(found.probabilities, [0, 7], axis=0), expected.probabilities
        )
        np.testing.assert_array_equal(np.delete(found.exit_step, [0, 7]), expected.exit_step)

    @pytest.mark.parametrize("tried", [False, True])
    def test_a_window_of_nothing_else_is_answered_too(
        self, bundle: Bundle, hostile_photos: Path, tried: bool
    ) -> None:
        executor, _ = ready(bundle, cascade(bundle, SOME), tried=tried)
        (window,) = executor.predict([hostile_photos / "text.jpg"] * 3)
        assert sorted(window.broken) == [0, 1, 2]
        assert np.isnan(window.probabilities).all()
        assert (window.exit_step == BROKEN).all()
        assert (window.differs == 0).all()


class TestRefusals:
    @pytest.mark.parametrize("kind", list(PLANS))
    def test_a_network_whose_answer_is_not_finite_is_named(
        self, bundle: Bundle, photos: list[Path], kind: str
    ) -> None:
        """Otherwise its photos would pass for broken ones."""
        executor, _ = ready(bundle, PLANS[kind](bundle), opener=Spy(breaks="gamma").open)
        with pytest.raises(ToolkitError, match=r"'gamma' in fp32: its .* not finite"):
            list(executor.predict(photos))

    @pytest.mark.parametrize("name", ["gamma.onnx", "alpha.int8.onnx"])
    def test_a_changed_file_is_refused(self, plannable: Path, tmp_path: Path, name: str) -> None:
        """Also one of a lower precision."""
        folder = Path(shutil.copytree(plannable, tmp_path / "bundle"))
        with (folder / name).open("ab") as file:
            file.write(b"more")
        changed = load_bundle(folder)
        with pytest.raises(ToolkitError, match=f"{name}: the file was changed after the export"):
            ready(changed, cascade(changed, NEVER))


class TestMemory:
    BATCH, LENGTH = 2, 6

    def executor(self, bundle: Bundle, **options: Any) -> Executor:
        windows = Windows(batches=self.LENGTH // self.BATCH)
        plan = cascade(bundle, SOME)
        return ready(bundle, plan, batch=self.BATCH, windows=windows, **options)[0]

    def test_each_photo_is_decoded_once_for_all_sizes_views_and_steps(
        self, bundle: Bundle, photos: list[Path]
    ) -> None:
        decoded: Counter[Any] = Counter()

        def opener(photo: Any, ranges: Any) -> Any:
            decoded[photo] += 1
            return open_photo(photo, ranges)

        list(self.executor(bundle, photo_opener=opener).predict(photos))
        assert decoded == dict.fromkeys(photos, 1)

    def test_no_more_than_two_windows_are_taken_at_once(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        taken: list[int] = []

        class Photos(list[Any]):
            def __getitem__(self, key: Any) -> Any:
                taken.append(key.stop)
                return super().__getitem__(key)

        lengths: list[int] = []
        for window in self.executor(bundle).predict(Photos(held_out[:40])):
            assert max(taken) <= sum(lengths) + 2 * self.LENGTH
            lengths.append(len(window))
        assert lengths == [self.BATCH, *[self.LENGTH] * 6, 2], "the first is short"

    @pytest.mark.parametrize(("batch", "most"), [(1, 12), (5, 10), (16, 16)])
    def test_large_photos_do_not_make_windows_of_any_length(
        self, bundle: Bundle, held_out: list[Any], batch: int, most: int
    ) -> None:
        a_photo = 3 * (32**2 + 48**2)
        windows = Windows(bytes=12 * a_photo, growth=100)
        executor, _ = ready(bundle, cascade(bundle, SOME), batch=batch, windows=windows)
        assert max(len(window) for window in executor.predict(held_out[:60])) == most

    @pytest.mark.parametrize(
        ("kind", "most"),
        [("full", 3 * BATCH), ("label-exact", 2 * LENGTH), ("cascade", 2 * LENGTH)],
    )
    def test_pixels_of_no_more_than_that_are_in_memory(
        self,
        bundle: Bundle,
        held_out: list[Any],
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
        most: int,
    ) -> None:
        alive = Alive()
        made = Square.__call__

        def counted(square: Square, image: Any) -> Any:
            pixels = made(square, image)
            if square.size == 32:
                alive.born(pixels)
            return pixels

        monkeypatch.setattr(Square, "__call__", counted)
        windows = Windows(batches=self.LENGTH // self.BATCH)
        plan = PLANS[kind](bundle)
        executor, _ = ready(bundle, plan, batch=self.BATCH, windows=windows)
        for _ in executor.predict(held_out[:60]):
            sleep(0.002)  # A slow reader: decoding has all the time to run ahead.
        assert most / 2 < alive.most <= most

    def test_one_window_is_answered_while_the_next_is_still_being_decoded(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        answered = threading.Event()
        late = {id(photo) for photo in held_out[self.BATCH :]}
        waited: list[bool] = []

        def opener(photo: Any, ranges: Any) -> Any:
            if id(photo) in late:
                waited.append(answered.wait(timeout=5))
            return from_array(photo), ()

        windows = self.executor(bundle, photo_opener=opener).predict(
            held_out[: self.BATCH + self.LENGTH]
        )
        next(windows)
        answered.set()
        assert len(list(windows)) == 1
        assert len(waited) == self.LENGTH
        assert all(waited)

    def test_what_is_not_wanted_any_more_is_not_decoded(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        decoded: list[int] = []

        def opener(photo: Any, ranges: Any) -> Any:
            decoded.append(1)
            return from_array(photo), ()

        windows = self.executor(bundle, photo_opener=opener).predict(held_out)
        next(windows)
        windows.close()  # type: ignore[attr-defined]
        assert len(decoded) <= 2 * self.LENGTH
        assert not [t for t in threading.enumerate() if t.name.startswith(("decode", "view"))]


@dataclass
class Alive:
    """How many arrays there are, and the most there ever were."""

    now: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def born(self, pixels: Pixels) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        weakref.finalize(pixels, self._died)

    def _died(self) -> None:
        with self._lock:
            self.now -= 1


class Spy:
    """Opens sessions that say what they do, and that may be made to fail."""

    def __init__(self, breaks: str = "") -> None:
        self.opened: list[str] = []
        self.runs: list[tuple[str, int]] = []
        self.placed: list[tuple[str, int]] = []
        self._breaks = breaks

    def open(self, folder: Path, member: Any, *more: Any) -> Any:
        real, spy = open_session(folder, member, *more), self
        self.opened.append(member.name)

        class Watched:
            provider, batch, signature = real.provider, real.batch, real.signature

            def place(self, images: Pixels) -> Any:
                spy.placed.append((member.name, len(images)))
                return real.place(images)

            def run(self, placed: Any, count: int) -> NDArray[np.float32]:
                spy.runs.append((member.name, count))
                answer = real.run(placed, count).copy()
                if member.name == spy._breaks:
                    answer[-1, 0] = np.nan
                return answer

        return Watched()


def test_the_full_ensemble_calls_all_views_of_the_members_that_vote() -> None:
    weights = {ModelKey("a", FP32): 0.5, ModelKey("c", "int8"): 0.5}
    assert full_calls(weights, 2) == [
        ModelCall("a", FP32, 0),
        ModelCall("a", FP32, 1),
        ModelCall("c", "int8", 0),
        ModelCall("c", "int8", 1),
    ]
