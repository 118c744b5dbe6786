"""How the cores are used and what members cost: measured once, and taken up again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.data.pixels import BrokenPhotoError
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file
from toolkit.inference import measured as kept_measurements
from toolkit.inference import sessions as sessions_module
from toolkit.inference import tuning
from toolkit.inference.bundle import Bundle, Variant, load_bundle
from toolkit.inference.costs import Costs, measure_costs, pairs_of
from toolkit.inference.devices import Device
from toolkit.inference.engine import Engine
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.sessions import MemberSession, Sessions
from toolkit.inference.threads import Threads, describe
from toolkit.inference.timing import Timings
from toolkit.inference.tuning import ThreadPlan, candidates, measure_threads, saved_threads
from toolkit.inference.voting import Voting

CPU, CUDA = Device("cpu", "processor"), Device("cuda", "pretended GPU")
CORES = 4
UNIFORM = Voting("uniform", (1 / 3, 1 / 3, 1 / 3))
WAYS = candidates(CORES, 3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is found here shall not be taken up by other tests, and every machine has four cores."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    for module in (tuning, kept_measurements):
        monkeypatch.setattr(module, "usable_cores", lambda: CORES)
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle: Any) -> Bundle:
    return load_bundle(tiny_bundle.folder)


def fastest(threads: Threads) -> Callable[[Engine, Any], float]:
    """A clock by which one way to use the cores takes half the time of the others."""
    return lambda engine, images: len(images) * (10.0 if engine.threads == threads else 20.0)


def measured(bundle: Bundle, photos: list[Path], best: Threads, **changes: Any) -> ThreadPlan:
    settings = {"views": 2, "device": CPU, "batch": 4, "timed": fastest(best), **changes}
    voting = settings.pop("voting", UNIFORM)
    return measure_threads(bundle, voting, photos, **settings)


class TestCandidates:
    @pytest.mark.parametrize(
        ("cores", "members"), [(2, 1), (2, 4), (3, 2), (4, 4), (16, 4), (4, 9)]
    )
    def test_none_wants_more_cores_than_there_are(self, cores: int, members: int) -> None:
        ways = candidates(cores, members)
        assert ways[0] == Threads(cores)
        assert len(set(ways)) == len(ways)
        for way in ways:
            assert 1 <= way.intra_op * way.parallel <= cores
            assert way.parallel <= members

    def test_two_cores_and_four_members_have_three(self) -> None:
        assert candidates(2, 4) == [
            Threads(2),
            Threads(2, spinning=False),
            Threads(1, spinning=False, parallel=2),
        ]

    def test_half_and_half_needs_a_larger_machine(self) -> None:
        assert Threads(4, spinning=False, parallel=2) in candidates(8, 4)
        assert Threads(2, spinning=False, parallel=4) in candidates(8, 4)

    def test_one_core_leaves_no_choice(self) -> None:
        assert candidates(1, 4) == [Threads(1)]

    @pytest.mark.parametrize("way", WAYS)
    def test_each_is_told_in_other_words(self, way: Threads) -> None:
        assert len({describe(each) for each in WAYS}) == len(WAYS)
        assert describe(way).startswith(f"{way.intra_op} thread")


class TestMeasureThreads:
    @pytest.mark.parametrize("best", WAYS)
    def test_what_was_measured_fastest_is_chosen_with_all_samples(
        self, bundle: Bundle, photos: list[Path], best: Threads
    ) -> None:
        plan = measured(bundle, photos, best, rounds=3)
        assert plan.threads == best
        assert plan.photos == 4, "one batch"
        assert {each.threads: each.samples for each in plan.tried} == {
            way: (10.0,) * 3 if way == best else (20.0,) * 3 for way in WAYS
        }

    def test_the_median_decides_and_the_first_run_does_not_count(
        self, bundle: Bundle, photos: list[Path]
    ) -> None:
        seen: dict[Threads, int] = {}

        def timed(engine: Engine, images: Any) -> float:
            turn = seen[engine.threads] = seen.get(engine.threads, -1) + 1
            chosen = engine.threads == WAYS[1]
            return float((1000 if turn == 0 else [5, 6, 90][turn - 1]) if chosen else 7)

        plan = measured(bundle, photos, WAYS[1], timed=timed, rounds=3)
        assert plan.threads == WAYS[1]
        assert [round(4 * each.ms) for each in plan.tried] == [7, 6, 7, 7]

    def test_of_equals_the_default_is_taken(self, bundle: Bundle, photos: list[Path]) -> None:
        plan = measured(bundle, photos, WAYS[0], timed=lambda engine, images: 1.0)
        assert plan.threads == Threads(CORES)

    def test_the_real_clock_gives_positive_times(self, bundle: Bundle, photos: list[Path]) -> None:
        plan = measured(bundle, photos, WAYS[0], timed=tuning.run_ms, rounds=2)
        assert all(ms > 0 for each in plan.tried for ms in each.samples)

    def test_broken_photos_are_left_out(
        self, bundle: Bundle, photos: list[Path], hostile_photos: Path
    ) -> None:
        bad = hostile_photos / "text.jpg"
        assert measured(bundle, [bad, *photos], WAYS[0]).photos == 3
        with pytest.raises(BrokenPhotoError, match=r"text\.jpg"):
            measured(bundle, [bad], WAYS[0])

    def test_no_photos_are_refused(self, bundle: Bundle) -> None:
        with pytest.raises(ToolkitError, match="at least one photo"):
            measured(bundle, [], WAYS[0])

    def test_on_a_gpu_the_members_are_loaded_and_there_is_no_plan(
        self,
        bundle: Bundle,
        photos: list[Path],
        cache: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        loaded: list[Device] = []
        monkeypatch.setattr(
            tuning, "Engine", lambda sessions, *_, **__: loaded.append(sessions.device)
        )
        plan = measured(bundle, photos, WAYS[1], device=CUDA)
        assert loaded == [CUDA]
        assert (plan.threads, plan.tried) == (Threads(CORES), ())
        assert "the members run on pretended GPU" in plan.note
        assert not cache.exists()


class TestSavedThreads:
    def test_it_is_what_was_measured(self, bundle: Bundle, photos: list[Path]) -> None:
        assert saved(bundle) is None
        plan = measured(bundle, photos, WAYS[2])
        assert saved(bundle) == plan

    @pytest.mark.parametrize(
        "change",
        [
            {"views": 3},
            {"batch": 5},
            {"voting": Voting("custom", (0.5, 0.5, 0.0))},
            {"device": CUDA},
        ],
    )
    def test_of_something_else_it_is_none(
        self, bundle: Bundle, photos: list[Path], change: dict[str, Any]
    ) -> None:
        measured(bundle, photos, WAYS[2])
        assert saved(bundle, **change) is None

    def test_of_other_weights_for_the_same_members_it_is_the_same(
        self, bundle: Bundle, photos: list[Path]
    ) -> None:
        plan = measured(bundle, photos, WAYS[2])
        assert saved(bundle, voting=Voting("custom", (0.2, 0.2, 0.6))) == plan

    def test_of_another_bundle_it_is_none(self, bundle: Bundle, photos: list[Path]) -> None:
        measured(bundle, photos, WAYS[2])
        assert saved(replace(bundle, created="later")) is None

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("processor_name", "another"),
            ("usable_cores", 2),
            ("package_versions", {"onnxruntime": "9.9"}),
        ],
    )
    def test_of_another_machine_it_is_none(
        self,
        bundle: Bundle,
        photos: list[Path],
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        value: Any,
    ) -> None:
        measured(bundle, photos, WAYS[2])
        monkeypatch.setattr(kept_measurements, name, lambda *_: value)
        assert saved(bundle) is None

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda content: "{",
            lambda content: "[]",
            lambda content: json.dumps({"threads": {"intra_op": 1}}),
            lambda content: json.dumps({**content, "key": {**content["key"], "views": 7}}),
            lambda content: json.dumps({**content, "tried": []}),
            lambda content: json.dumps({**content, "threads": {"intra_op": "two"}}),
            lambda content: json.dumps({**content, "threads": {"intra_op": 0, "spinning": True}}),
            lambda content: json.dumps({**content, "tried": [{"threads": 3, "samples": None}]}),
        ],
    )
    def test_a_spoilt_file_is_ignored_and_written_anew(
        self, bundle: Bundle, photos: list[Path], cache: Path, spoil: Callable[[Any], str]
    ) -> None:
        plan = measured(bundle, photos, WAYS[2])
        (file,) = (cache / "tuning").iterdir()
        file.write_text(spoil(json.loads(file.read_text(encoding="utf-8"))), encoding="utf-8")
        assert saved(bundle) is None
        assert Ensemble.load(bundle, tta=2, device="cpu", batch=4).threads_measured is False
        measured(bundle, photos, WAYS[2])
        assert saved(bundle) == plan


class TestEnsemble:
    """What was measured is taken up by whoever loads the bundle the same way."""

    def loaded(self, bundle: Bundle, **options: Any) -> Ensemble:
        settings = {"tta": 2, "voting": "uniform", "device": "cpu", "batch": 4, **options}
        return Ensemble.load(bundle, **settings)

    def test_the_measured_threads_are_taken(self, bundle: Bundle, photos: list[Path]) -> None:
        assert not self.loaded(bundle).threads_measured
        measured(bundle, photos, WAYS[2])
        ensemble = self.loaded(bundle)
        assert ensemble.threads == WAYS[2]
        assert ensemble.thread_plan == {
            "intra_op": WAYS[2].intra_op,
            "spinning": False,
            "parallel": WAYS[2].parallel,
            "measured": True,
        }

    def test_explicit_threads_win(self, bundle: Bundle, photos: list[Path]) -> None:
        measured(bundle, photos, WAYS[2])
        ensemble = self.loaded(bundle, threads=3)
        assert ensemble.threads == Threads(3)
        assert not ensemble.threads_measured

    def test_other_views_do_not_take_them(self, bundle: Bundle, photos: list[Path]) -> None:
        measured(bundle, photos, WAYS[2])
        assert not self.loaded(bundle, tta=4).threads_measured


class TestAnswers:
    """Every way to use the cores gives the same bits, in the same order."""

    def answers(self, bundle: Bundle, photos: list[Path], **changes: Any) -> list[Any]:
        settings = {"threads": Threads(1), "views": 3, "batch": 4, **changes}
        views = settings.pop("views")
        sessions = Sessions(bundle, device=CPU, timings=Timings(), **settings)
        engine = Engine(sessions, UNIFORM, views=views, random_views=False, decoders=2, seed=0)
        found = list(engine.predict(photos))
        assert {work: len(of) for work, of in engine.timings.samples.items()}[
            "model beta fp32"
        ] == (len(found) - 1)
        return found

    @pytest.mark.parametrize("way", [*WAYS, Threads(1, parallel=9)])
    def test_they_are_equal(self, bundle: Bundle, photos: list[Path], way: Threads) -> None:
        expected = self.answers(bundle, photos)
        for one, other in zip(self.answers(bundle, photos, threads=way), expected, strict=True):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
            assert list(one.members) == list(other.members)
            for name, probabilities in one.members.items():
                np.testing.assert_array_equal(probabilities, other.members[name])

    @pytest.mark.parametrize(("threads", "batch", "most"), [(2, 4, 20), (2, 22, 22), (1, 4, 4)])
    def test_threads_that_share_an_operation_get_larger_runs_while_memory_allows(
        self,
        bundle: Bundle,
        photos: list[Path],
        monkeypatch: pytest.MonkeyPatch,
        threads: int,
        batch: int,
        most: int,
    ) -> None:
        """And give the same bits."""
        expected = self.answers(bundle, photos * 3, batch=batch)
        largest = max(member.image_size for member in bundle.members)
        monkeypatch.setattr(sessions_module, "RUN_PIXELS", 20 * largest**2)
        sizes: list[int] = []
        real = MemberSession.__init__

        def init(session: Any, path: Path, device: Any, threads: Any, images: int) -> None:
            sizes.append(images)
            real(session, path, device, threads, images)

        monkeypatch.setattr(MemberSession, "__init__", init)
        found = self.answers(bundle, photos * 3, batch=batch, threads=Threads(threads))
        assert min(sizes) == most  # Of the largest images; smaller ones may be more.
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)

    def test_members_that_run_at_once_still_complain_by_name(
        self, bundle: Bundle, photos: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = MemberSession.run

        def run(session: Any, placed: Any, count: int) -> Any:
            answer = real(session, placed, count)
            answer[0, 0] = np.inf
            return answer

        monkeypatch.setattr(MemberSession, "run", run)
        with pytest.raises(ToolkitError, match=r"'alpha' .* not finite"):
            self.answers(bundle, photos, threads=Threads(1, parallel=2))


class TestMeasureCosts:
    @pytest.fixture
    def own_bundle(self, bundle: Bundle, tmp_path: Path) -> Bundle:
        """One whose files a test may change."""
        return load_bundle(Path(shutil.copytree(bundle.folder, tmp_path / "bundle")))

    def test_members_are_there_or_it_is_said_why_not(self, own_bundle: Bundle) -> None:
        """gamma has an int8 of its own; what alpha shall be run by OpenVINO is no network."""
        costs = self.costs(with_variant(own_bundle, "bf16", "openvino"))
        assert set(costs.ms) == {("alpha", "fp32"), ("beta", "fp32"), ("gamma", "int8")}
        assert all(ms > 0 for ms in costs.ms.values())
        assert set(costs.skipped) == {("alpha", "bf16")}
        assert "alpha-bf16" in costs.skipped["alpha", "bf16"]
        assert {len(own) for own in costs.samples.values()} == {2}

    def test_what_was_not_loaded_before_is_not_afterwards(self, own_bundle: Bundle) -> None:
        sessions = Sessions(own_bundle, device=CPU, threads=Threads(1), batch=2, timings=Timings())
        sessions.load([("beta", "fp32")])
        measure_costs(sessions, [("alpha", "fp32"), ("beta", "fp32")], rounds=1)
        assert list(sessions) == [("beta", "fp32")]
        assert list(sessions.timings.load) == ["beta fp32"]

    def test_a_member_that_cannot_be_opened_is_an_error(self, own_bundle: Bundle) -> None:
        alpha, *others = own_bundle.members
        (own_bundle.folder / alpha.file).write_bytes(b"no network")
        alpha = replace(alpha, sha256=sha256_file(own_bundle.folder / alpha.file))
        with pytest.raises(ToolkitError, match=r"alpha\.onnx: onnxruntime cannot load it"):
            self.costs(replace(own_bundle, members=(alpha, *others)))

    def test_a_changed_variant_is_an_error(self, own_bundle: Bundle) -> None:
        changed = with_variant(own_bundle, "bf16", "openvino")
        (own_bundle.folder / "alpha-bf16.onnx").write_bytes(b"something else")
        with pytest.raises(ToolkitError, match=r"alpha-bf16\.onnx"):
            self.costs(changed)

    @pytest.mark.parametrize(("threads", "images"), [(1, 4), (2, 20)])
    def test_an_image_costs_the_median_run_by_its_images(
        self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, threads: int, images: int
    ) -> None:
        """alpha's runs are larger where threads share an operation."""
        monkeypatch.setattr(
            sessions_module, "RUN_PIXELS", 20 * own_bundle.members[0].image_size ** 2
        )
        ticks = iter(np.cumsum([0, *[0.5, 0.3] * 40]).tolist())
        costs = self.costs(own_bundle, batch=4, threads=Threads(threads), clock=lambda: next(ticks))
        assert costs.ms["alpha", "fp32"] == pytest.approx(500 / images)

    def test_what_does_not_fit_the_device_is_not_measured(self, own_bundle: Bundle) -> None:
        costs = self.costs(with_variant(own_bundle, "fp16", "onnxruntime"))
        assert "'alpha' in fp16 is for a GPU, not the CPU." in costs.skipped["alpha", "fp16"]

    def test_they_are_measured_once(self, own_bundle: Bundle, cache: Path) -> None:
        first = self.costs(own_bundle)
        again = self.costs(own_bundle, clock=lambda: pytest.fail("measured"))
        assert again == first
        ticks = iter(range(1000))
        anew = self.costs(own_bundle, clock=lambda: next(ticks), fresh=True)
        assert set(anew.ms.values()) == {500.0}
        assert self.costs(own_bundle) == anew

    @pytest.mark.parametrize("change", [{"batch": 3}, {"threads": Threads(2)}])
    def test_of_something_else_they_are_measured_anew(
        self, own_bundle: Bundle, change: dict[str, Any]
    ) -> None:
        clock = [iter(range(1000)) for _ in range(2)]
        self.costs(own_bundle, clock=lambda: next(clock[0]))
        self.costs(own_bundle, clock=lambda: next(clock[1]), **change)
        assert next(clock[1]) > 0

    def test_what_is_wanted_beside_them_takes_turns_with_them(self, own_bundle: Bundle) -> None:
        first = self.costs(own_bundle, pairs=[("beta", "fp32")])
        assert set(first.ms) == {("beta", "fp32")}
        ticks = iter(range(1000))
        both = self.costs(own_bundle, pairs=[("alpha", "fp32")], clock=lambda: next(ticks))
        assert both.ms == {("alpha", "fp32"): 500.0, ("beta", "fp32"): 500.0}
        again = self.costs(own_bundle, pairs=[("beta", "fp32")], clock=lambda: pytest.fail("anew"))
        assert again == both

    def test_interrupted_while_measuring_anew_leaves_none_of_the_old(
        self, own_bundle: Bundle
    ) -> None:
        def killed() -> float:
            raise KeyboardInterrupt

        self.costs(own_bundle)
        with pytest.raises(KeyboardInterrupt):
            self.costs(own_bundle, clock=killed, fresh=True)
        ticks = iter(range(1000))
        assert set(self.costs(own_bundle, clock=lambda: next(ticks)).ms.values()) == {500.0}

    def test_a_spoilt_file_is_ignored(self, own_bundle: Bundle, cache: Path) -> None:
        self.costs(own_bundle)
        (file,) = (cache / "tuning").iterdir()
        file.write_text(file.read_text(encoding="utf-8")[:-30], encoding="utf-8")
        assert len(self.costs(own_bundle).ms) == 3

    @staticmethod
    def costs(bundle: Bundle, **changes: Any) -> Costs:
        settings = {"device": CPU, "threads": Threads(1), "batch": 2, "timings": Timings()}
        own = {key: changes.pop(key) for key in settings if key in changes}
        sessions = Sessions(bundle, **{**settings, **own})
        pairs = changes.pop("pairs", pairs_of(bundle, [each.name for each in bundle.members]))
        return measure_costs(sessions, pairs, **{"rounds": 2, **changes})


def saved(bundle: Bundle, **changes: Any) -> ThreadPlan | None:
    settings = {"views": 2, "device": CPU, "batch": 4, **changes}
    return saved_threads(bundle, settings.pop("voting", UNIFORM), **settings)


def with_variant(bundle: Bundle, precision: str, runtime: str) -> Bundle:
    """alpha with a variant whose file holds no network."""
    path = bundle.folder / f"alpha-{precision}.onnx"
    path.write_bytes(b"no network")
    variant = Variant(precision, runtime, {path.name: sha256_file(path)}, {})
    alpha, *others = bundle.members
    return replace(bundle, members=(replace(alpha, variants=(variant,)), *others))
