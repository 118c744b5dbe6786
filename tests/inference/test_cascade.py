"""The cascade: the exact ensemble's bits where nobody leaves, and the plan's answers elsewhere."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.data.pixels import Square, from_array
from toolkit.errors import ToolkitError
from toolkit.inference import cascade as module
from toolkit.inference import engine
from toolkit.inference.bundle import Bundle, load_bundle, load_validation
from toolkit.inference.cascade import BROKEN, Cascade, Window
from toolkit.inference.devices import Device
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.evidence import carry_out, gather
from toolkit.inference.plan import EXACT, Plan, Run, described
from toolkit.inference.planner import find_candidates
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import Timings
from toolkit.inference.voting import choose_voting, soften

VIEWS = 2
STEPS = (
    (Run("alpha", "int8", 0),),
    (Run("gamma", EXACT, 0), Run("alpha", EXACT, 1)),
    (Run("beta", EXACT, 1),),
)
"""Sizes and precisions mix, and members come in another order than in the bundle."""

NEVER, AT_ONCE = (inf, inf, inf), (0.0, inf, inf)
SOME = (1.0, 0.5, 0.3)
COSTS = {
    ("alpha", "fp32"): 1.0,
    ("alpha", "int8"): 0.3,
    ("beta", "fp32"): 4.0,
    ("gamma", "fp32"): 4.0,
}


@pytest.fixture
def bundle(plannable: Path) -> Bundle:
    return load_bundle(plannable)


@pytest.fixture(scope="session")
def held_out(draw_photo: Any) -> list[NDArray[np.uint8]]:
    """The held-out photos of the bundle."""
    return [np.asarray(draw_photo(5000 + number, (40, 30))) for number in range(160)]


def plan_for(bundle: Bundle, steps: Sequence[tuple[Run, ...]] = STEPS, views: int = VIEWS) -> Plan:
    return Plan(
        bundle=bundle.sha256,
        views=views,
        voting=described(bundle, choose_voting(bundle, views, "auto")),
        device={},
        tolerance=0.01,
        confidence=0.95,
        photos=160,
        exact_ms=18.0,
        settled_ms=18.0,
        costs={f"{name} {precision}": ms for (name, precision), ms in COSTS.items()},
        steps=tuple(steps),
        candidates=(),
        table=(),
    )


def cascade(
    bundle: Bundle,
    *thresholds: tuple[float, ...],
    plan: Plan | None = None,
    exact: bool = True,
    batch: int = 4,
) -> Cascade:
    sessions = Sessions(
        bundle,
        device=Device("cpu", "processor"),
        threads=1,
        batch=batch,
        timings=Timings(),
    )
    return Cascade(sessions, plan or plan_for(bundle), thresholds, exact=exact)


def together(windows: Iterator[Window]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities and steps left of all windows."""
    found = list(windows)
    return (
        np.concatenate([window.probabilities for window in found], axis=1),
        np.concatenate([window.left for window in found], axis=1),
    )


class TestAnswers:
    @pytest.mark.parametrize("steps", [STEPS, STEPS[:1], ((Run("gamma", EXACT, 1),),), ()])
    @pytest.mark.parametrize("views", [2, 3])
    def test_where_nobody_leaves_all_labels_are_the_exact_ensembles(
        self, bundle: Bundle, held_out: list[Any], steps: Any, views: int
    ) -> None:
        """And where every run was needed, its answer to the bit."""
        never = (inf,) * len(steps)
        plan = plan_for(bundle, steps, views)
        made = cascade(bundle, never, plan=plan)
        found, left = together(made.predict(held_out))
        ensemble = Ensemble.load(bundle, tta=views, device="cpu", batch=4)
        expected = ensemble.predict(held_out)
        np.testing.assert_array_equal(found[0].argmax(axis=1), expected.argmax(axis=1))
        assert (left == len(steps)).all()
        whole = (found[0] == expected).all(axis=1)
        assert 0 < whole.sum() < len(whole)
        lower = sum(run.precision != EXACT for step in steps for run in step)
        most = len(held_out) * (3 * views + lower)
        assert most / 2 < made._timings.runs < most

    def test_runs_are_made_until_the_label_is_certain(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        """By a loop over photos and runs."""
        voting = choose_voting(bundle, VIEWS, "auto")
        names = [member.name for member in bundle.members]
        weights = dict(zip(names, voting.weights, strict=True))
        seen = dict(zip(names, load_validation(bundle).probabilities, strict=True))
        order = [(name, view) for name in ("alpha", "beta", "gamma") for view in range(VIEWS)]
        order.sort(key=lambda run: COSTS[run[0], "fp32"] / weights[run[0]])
        made = cascade(bundle, (), plan=plan_for(bundle, ()))
        found, _ = together(made.predict(held_out))
        runs = 0
        for photo in range(len(held_out)):
            votes, share = np.zeros(3), 0.0
            for name, view in order:
                votes += weights[name] / VIEWS * seen[name][photo, view]
                share += weights[name] / VIEWS
                runs += 1
                second, first = np.sort(votes)[-2:]
                if first - second > 1 - share + 1e-5:
                    break
            expected = soften(votes[None] / share, voting.temperature)[0]
            np.testing.assert_allclose(found[0, photo], expected, rtol=1e-6)
        assert made._timings.runs == runs

    def test_where_all_leave_at_once_they_are_the_first_steps(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        found, left = together(cascade(bundle, AT_ONCE).predict(held_out))
        alone = load_validation(bundle).variants["alpha", "int8"][:, 0]
        np.testing.assert_array_equal(found[0], soften(alone.astype(float), 1.5))
        assert (left == 0).all()

    def test_they_are_the_planners_on_the_held_out_photos(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        voting = choose_voting(bundle, VIEWS, "auto")
        evidence = gather(bundle, load_validation(bundle), voting, VIEWS, COSTS)
        candidates = [each.thresholds for each in find_candidates(evidence, STEPS)]
        assert len(candidates) > 3
        found, left = together(cascade(bundle, *candidates).predict(held_out))
        used = set()
        for number, thresholds in enumerate(candidates):
            done = carry_out(evidence, STEPS, thresholds)
            np.testing.assert_array_equal(left[number], done.left)
            np.testing.assert_array_equal(found[number].argmax(axis=1), done.answers.argmax(axis=1))
            used |= set(done.left.tolist())
        assert used == {0, 1, 2, 3}

    @pytest.mark.parametrize(
        ("batch", "decoders", "window"), [(1, 1, 16), (4, 3, 1), (16, 2, 16), (5, 1, 2), (1, 2, 1)]
    )
    def test_batch_decoders_and_window_change_no_bit(
        self,
        bundle: Bundle,
        held_out: list[Any],
        monkeypatch: pytest.MonkeyPatch,
        batch: int,
        decoders: int,
        window: int,
    ) -> None:
        photos = held_out[:37]
        expected, expected_left = together(cascade(bundle, SOME).predict(photos))
        assert set(expected_left[0].tolist()) == {0, 1, 2, 3}
        monkeypatch.setattr(module, "BATCHES_A_WINDOW", window)
        monkeypatch.setattr(module, "usable_cores", lambda: decoders)
        windows = list(cascade(bundle, SOME, batch=batch).predict(photos))
        assert sum(seen.left.shape[1] for seen in windows) == 37
        found, left = together(iter(windows))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(left, expected_left)

    def test_large_batches_do_not_make_windows_of_any_length(
        self, bundle: Bundle, held_out: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_PHOTOS_A_WINDOW", 12)
        for batch, most in ((1, 12), (5, 10), (16, 16)):
            windows = cascade(bundle, SOME, batch=batch).predict(held_out[:60])
            assert max(len(window) for window in windows) == most

    @pytest.mark.parametrize("exact", [True, False])
    def test_several_candidates_at_once_are_each_alone(
        self, bundle: Bundle, held_out: list[Any], exact: bool
    ) -> None:
        candidates = [NEVER, SOME, AT_ONCE, (inf, 0.1, inf), (2.0, inf, 0.0)]
        photos = held_out[:40]
        found, left = together(cascade(bundle, *candidates, exact=exact).predict(photos))
        for number, each in enumerate(candidates):
            alone, alone_left = together(cascade(bundle, each, exact=exact).predict(photos))
            np.testing.assert_array_equal(found[number], alone[0])
            np.testing.assert_array_equal(left[number], alone_left[0])

    def test_without_the_exact_ensemble_its_photos_have_no_answer(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        found, left = together(cascade(bundle, SOME, exact=False).predict(held_out))
        stayed = left[0] == len(STEPS)
        assert 0 < stayed.sum() < len(stayed)
        np.testing.assert_array_equal(np.isnan(found[0]).all(axis=1), stayed)
        np.testing.assert_array_equal(np.isnan(found[0]).any(axis=1), stayed)

    def test_no_photos_have_no_windows(self, bundle: Bundle) -> None:
        assert list(cascade(bundle, SOME).predict([])) == []

    def test_only_what_is_undecided_is_run(self, bundle: Bundle, held_out: list[Any]) -> None:
        made = cascade(bundle, SOME, exact=False)
        _, left = together(made.predict(held_out))
        reached = [int((left[0] >= step).sum()) for step in range(3)]
        assert made._timings.runs == np.dot(reached, [1, 2, 1])


class TestBrokenPhotos:
    def test_it_is_told_in_its_window_and_hurts_no_other(
        self,
        bundle: Bundle,
        photos: list[Path],
        hostile_photos: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "BATCHES_A_WINDOW", 1)
        bad = {name: hostile_photos / name for name in ("text.jpg", "missing.jpg")}
        mixed = [bad["text.jpg"], *photos[:6], bad["missing.jpg"], *photos[6:]]
        windows = list(cascade(bundle, SOME, NEVER).predict(mixed))
        assert [sorted(window.broken) for window in windows] == [[0], [3], [], []]
        assert windows[0].broken[0].reason == "not a photo in a known format"
        found, left = together(iter(windows))
        assert (left[:, [0, 7]] == BROKEN).all()
        assert np.isnan(found[:, [0, 7]]).all()
        expected, expected_left = together(cascade(bundle, SOME, NEVER).predict(photos))
        np.testing.assert_array_equal(np.delete(found, [0, 7], axis=1), expected)
        np.testing.assert_array_equal(np.delete(left, [0, 7], axis=1), expected_left)

    @pytest.mark.parametrize("exact", [True, False])
    def test_a_window_of_nothing_else_is_answered_too(
        self, bundle: Bundle, hostile_photos: Path, exact: bool
    ) -> None:
        (window,) = cascade(bundle, SOME, exact=exact).predict([hostile_photos / "text.jpg"] * 3)
        assert sorted(window.broken) == [0, 1, 2]
        assert np.isnan(window.probabilities).all()
        assert (window.left == BROKEN).all()


class TestRefusals:
    def test_a_network_whose_answer_is_not_finite_is_named(
        self, bundle: Bundle, photos: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = cascade(bundle, NEVER)
        spoilt = made._sessions["gamma", EXACT]
        real = spoilt.run

        def run(placed: Any, count: int) -> NDArray[np.float32]:
            answer = real(placed, count).copy()
            answer[-1, 0] = np.nan
            return answer

        monkeypatch.setattr(spoilt, "run", run)
        with pytest.raises(
            ToolkitError, match=r"'gamma' in fp32 gave .* not finite.* --plan exact"
        ):
            list(made.predict(photos))

    @pytest.mark.parametrize("name", ["gamma.onnx", "alpha.int8.onnx"])
    def test_a_changed_file_is_refused(self, plannable: Path, tmp_path: Path, name: str) -> None:
        """Also one of a lower precision."""
        folder = Path(shutil.copytree(plannable, tmp_path / "bundle"))
        with (folder / name).open("ab") as file:
            file.write(b"more")
        with pytest.raises(ToolkitError, match=f"{name}: the file was changed after the export"):
            cascade(load_bundle(folder), NEVER)

    def test_a_precision_that_the_member_does_not_have(self, bundle: Bundle) -> None:
        plan = plan_for(bundle, ((Run("beta", "int8", 0),),))
        with pytest.raises(ToolkitError, match="'beta' has no int8"):
            cascade(bundle, (inf,), plan=plan)


def test_a_member_that_is_not_needed_is_not_loaded(bundle: Bundle) -> None:
    made = cascade(bundle, AT_ONCE, exact=False, plan=plan_for(bundle, STEPS[:2]))
    assert set(made._sessions) == {("alpha", "int8"), ("gamma", EXACT), ("alpha", EXACT)}
    assert made._sessions.providers == ["CPUExecutionProvider"]
    voting = {"name": "pair", "weights": {"alpha": 0.75, "beta": 0.25, "gamma": 0.0}}
    plan = replace(plan_for(bundle, STEPS[:1]), voting={**voting, "temperature": 1.0})
    made = cascade(bundle, (inf,), plan=plan)
    assert {member for member, _ in made._sessions} == {"alpha", "beta"}


class TestWindows:
    BATCH = 2
    LENGTH = 3 * BATCH

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "BATCHES_A_WINDOW", self.LENGTH // self.BATCH)

    def test_no_more_than_two_are_asked_for_at_once(
        self, bundle: Bundle, held_out: list[Any]
    ) -> None:
        asked: list[int] = []

        class Photos(list[Any]):
            def __getitem__(self, key: Any) -> Any:
                asked.append(key.stop)
                return super().__getitem__(key)

        photos = Photos(held_out[:40])
        lengths: list[int] = []
        for window in cascade(bundle, SOME, batch=2).predict(photos):
            assert max(asked) <= sum(lengths) + 2 * self.LENGTH
            lengths.append(window.left.shape[1])
        assert lengths == [self.BATCH, *[self.LENGTH] * 6, 2], "the first is short"

    def test_pixels_of_no_more_than_two_are_in_memory(
        self, bundle: Bundle, held_out: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock = threading.Lock()
        alive = most = 0

        def gone() -> None:
            nonlocal alive
            with lock:
                alive -= 1

        made = Square.__call__

        def counted(square: Square, image: Any) -> Any:
            nonlocal alive, most
            pixels = made(square, image)
            if square.size == 32:  # The first step's; larger ones are made for few.
                with lock:
                    alive += 1
                    most = max(most, alive)
                weakref.finalize(pixels, gone)
            return pixels

        monkeypatch.setattr(Square, "__call__", counted)
        for _ in cascade(bundle, SOME, batch=self.BATCH).predict(held_out[:60]):
            pass
        assert self.LENGTH < most <= 2 * self.LENGTH

    def test_one_is_answered_while_the_next_is_still_being_decoded(
        self, bundle: Bundle, held_out: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answered = threading.Event()
        late = {id(photo) for photo in held_out[self.BATCH :]}
        waited: list[bool] = []

        def look(photo: Any) -> Any:
            if id(photo) in late:
                waited.append(answered.wait(timeout=5))
            return from_array(photo)

        monkeypatch.setattr(engine, "from_array", look)
        windows = cascade(bundle, SOME, batch=self.BATCH).predict(
            held_out[: self.BATCH + self.LENGTH]
        )
        next(windows)
        answered.set()
        assert len(list(windows)) == 1
        assert len(waited) >= self.LENGTH
        assert all(waited)

    def test_what_is_not_wanted_any_more_is_not_decoded(
        self, bundle: Bundle, held_out: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded: list[int] = []

        def look(photo: Any) -> Any:
            decoded.append(1)
            return from_array(photo)

        monkeypatch.setattr(engine, "from_array", look)
        windows = cascade(bundle, SOME, batch=self.BATCH).predict(held_out)
        next(windows)
        windows.close()  # type: ignore[attr-defined]
        # Two windows, and the larger sizes of the first one's photos.
        assert len(decoded) <= 3 * self.LENGTH
