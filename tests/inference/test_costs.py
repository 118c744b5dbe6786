"""How many threads change no answer, and what members cost: measured once, and taken up again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.files import sha256_file
from toolkit.inference import sessions as sessions_module
from toolkit.inference.bundle import Bundle, Judged, Variant, load_bundle
from toolkit.inference.calls import ModelKey
from toolkit.inference.costs import Costs, keys_of, measure_costs
from toolkit.inference.devices import Device
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.sessions import MemberSession, Sessions
from toolkit.inference.timing import Timings
from toolkit.inference.voting import Voting

CPU = Device("cpu", "processor")
UNIFORM = Voting("uniform", (1 / 3, 1 / 3, 1 / 3))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is found here shall not be taken up by other tests."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle: Any) -> Bundle:
    return load_bundle(tiny_bundle.folder)


class TestAnswers:
    """Any number of threads gives the same bits, in the same order."""

    def answers(self, bundle: Bundle, photos: list[Path], **changes: Any) -> list[Any]:
        settings = {"threads": 1, "views": 3, "batch": 4, **changes}
        views = settings.pop("views")
        sessions = Sessions(bundle, device=CPU, timings=Timings(), **settings)
        return list(Ensemble(sessions, UNIFORM, views=views).answers(photos))

    @pytest.mark.parametrize("threads", [2, 3, 4])
    def test_they_are_equal(self, bundle: Bundle, photos: list[Path], threads: int) -> None:
        expected = self.answers(bundle, photos)
        found = self.answers(bundle, photos, threads=threads)
        for one, other in zip(found, expected, strict=True):
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
        found = self.answers(bundle, photos * 3, batch=batch, threads=threads)
        assert min(sizes) == most  # Of the largest images; smaller ones may be more.
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)


class TestMeasureCosts:
    @pytest.fixture
    def own_bundle(self, bundle: Bundle, tmp_path: Path) -> Bundle:
        """One whose files a test may change."""
        return load_bundle(Path(shutil.copytree(bundle.folder, tmp_path / "bundle")))

    def test_members_are_there_or_it_is_said_why_not(self, own_bundle: Bundle) -> None:
        """gamma has an int8 of its own; what alpha shall be run by OpenVINO is no network."""
        costs = self.costs(with_variant(own_bundle, "bf16", "openvino"))
        assert set(costs.ms) == {
            ModelKey("alpha", "fp32"),
            ModelKey("beta", "fp32"),
            ModelKey("gamma", "int8"),
        }
        assert all(ms > 0 for ms in costs.ms.values())
        assert set(costs.skipped) == {ModelKey("alpha", "bf16")}
        assert "alpha-bf16" in costs.skipped[ModelKey("alpha", "bf16")]
        assert {len(own) for own in costs.samples.values()} == {2}

    def test_what_was_not_loaded_before_is_not_afterwards(self, own_bundle: Bundle) -> None:
        sessions = Sessions(own_bundle, device=CPU, threads=1, batch=2, timings=Timings())
        sessions.load([ModelKey("beta", "fp32")])
        measure_costs(sessions, [ModelKey("alpha", "fp32"), ModelKey("beta", "fp32")], rounds=1)
        assert list(sessions) == [ModelKey("beta", "fp32")]
        assert list(sessions.timings.load) == [ModelKey("beta", "fp32")]

    def test_a_member_that_cannot_be_opened_is_an_error(self, own_bundle: Bundle) -> None:
        alpha, *others = own_bundle.members
        (own_bundle.folder / alpha.file).write_bytes(b"no network")
        alpha = replace(alpha, sha256=sha256_file(own_bundle.folder / alpha.file))
        with pytest.raises(ToolkitError, match=r"alpha\.onnx: is no ONNX file"):
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
        costs = self.costs(own_bundle, batch=4, threads=threads, clock=lambda: next(ticks))
        assert costs.ms[ModelKey("alpha", "fp32")] == pytest.approx(500 / images)

    def test_what_does_not_fit_the_device_is_not_measured(self, own_bundle: Bundle) -> None:
        costs = self.costs(with_variant(own_bundle, "fp16", "onnxruntime"))
        assert (
            "'alpha' in fp16 is for a GPU, not the CPU." in costs.skipped[ModelKey("alpha", "fp16")]
        )

    def test_they_are_measured_once(self, own_bundle: Bundle, cache: Path) -> None:
        first = self.costs(own_bundle)
        again = self.costs(own_bundle, clock=lambda: pytest.fail("measured"))
        assert again == first
        ticks = iter(range(1000))
        anew = self.costs(own_bundle, clock=lambda: next(ticks), fresh=True)
        assert set(anew.ms.values()) == {500.0}
        assert self.costs(own_bundle) == anew

    @pytest.mark.parametrize("change", [{"batch": 3}, {"threads": 2}])
    def test_of_something_else_they_are_measured_anew(
        self, own_bundle: Bundle, change: dict[str, Any]
    ) -> None:
        clock = [iter(range(1000)) for _ in range(2)]
        self.costs(own_bundle, clock=lambda: next(clock[0]))
        self.costs(own_bundle, clock=lambda: next(clock[1]), **change)
        assert next(clock[1]) > 0

    def test_what_is_wanted_beside_them_takes_turns_with_them(self, own_bundle: Bundle) -> None:
        first = self.costs(own_bundle, keys=[ModelKey("beta", "fp32")])
        assert set(first.ms) == {ModelKey("beta", "fp32")}
        ticks = iter(range(1000))
        both = self.costs(own_bundle, keys=[ModelKey("alpha", "fp32")], clock=lambda: next(ticks))
        assert both.ms == {ModelKey("alpha", "fp32"): 500.0, ModelKey("beta", "fp32"): 500.0}
        again = self.costs(
            own_bundle, keys=[ModelKey("beta", "fp32")], clock=lambda: pytest.fail("anew")
        )
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
        (file,) = (cache / "costs").iterdir()
        file.write_text(file.read_text(encoding="utf-8")[:-30], encoding="utf-8")
        assert len(self.costs(own_bundle).ms) == 3

    @staticmethod
    def costs(bundle: Bundle, **changes: Any) -> Costs:
        settings = {"device": CPU, "threads": 1, "batch": 2, "timings": Timings()}
        own = {key: changes.pop(key) for key in settings if key in changes}
        sessions = Sessions(bundle, **{**settings, **own})
        keys = changes.pop("keys", keys_of(bundle, [each.name for each in bundle.members]))
        return measure_costs(sessions, keys, **{"rounds": 2, **changes})


def with_variant(bundle: Bundle, precision: str, runtime: str) -> Bundle:
    """alpha with a variant whose file holds no network."""
    path = bundle.folder / f"alpha-{precision}.onnx"
    path.write_bytes(b"no network")
    variant = Variant(precision, runtime, {path.name: sha256_file(path)}, Judged(""))
    alpha, *others = bundle.members
    return replace(bundle, members=(replace(alpha, variants=(variant,)), *others))
