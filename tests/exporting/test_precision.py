"""Lower precisions: only what keeps the labels and is faster gets into a bundle, with evidence."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from toolkit.errors import ToolkitError, UsageError
from toolkit.exporting import candidates, members, precision, quantize
from toolkit.exporting.export import ExportOptions, export
from toolkit.files import sha256_file
from toolkit.inference import sessions
from toolkit.inference.bundle import Bundle, Judged, QuantizationTrial, load_bundle, load_validation
from toolkit.inference.calls import ModelKey
from toolkit.inference.devices import choose_device
from toolkit.inference.sessions import MemberSession, open_session
from toolkit.inference.views import VIEWS, FixedViews

if TYPE_CHECKING:
    from tests.conftest import Trained

SMALL = "mobilenetv3small"

HAS_OPENVINO = all(importlib.util.find_spec(name) for name in ("openvino", "nncf"))


class Killed(BaseException):
    """As a SIGKILL: no handler of ours looks at it."""


def measured(ours: dict[str, float]) -> Callable[..., list[float]]:
    """Stands for the clock: fp32 takes 10 ms, the others by the first word of their provider."""

    def look(sessions: Sequence[Any], _: Any) -> list[float]:
        return [ours[sessions[0].provider.split()[0]], 10.0]

    return look


FAST = measured({"CPUExecutionProvider": 3.0, "OpenVINO": 2.0})
SLOW = measured({"CPUExecutionProvider": 10.5, "OpenVINO": 10.5})


def prepare(patched: pytest.MonkeyPatch, exported: Bundle) -> None:
    """Take the converted files as they are, stay in this process, and stop the clock."""
    files = {member.model_sha256: member for member in exported.members}

    def place(_: Callable[..., Any], model: Path, target: Path, *__: Any, **___: Any) -> Any:
        member = files[sha256_file(model)]
        shutil.copy(exported.folder / member.file, target)
        return member.parity

    def here(function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        return function(*arguments)

    patched.setattr(members, "in_own_process", place)
    patched.setattr(precision, "in_own_process", here)
    patched.setattr(candidates, "interleaved_ms", FAST)
    patched.setattr(candidates, "obstacle", lambda _: "no NVIDIA driver is installed")


@pytest.fixture
def ready(exported: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without OpenVINO, which is the quicker one."""
    prepare(monkeypatch, exported)
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.fixture
def lenient(ready: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six epochs on sixty photos leave no margins for INT8 to be judged by."""
    monkeypatch.setattr(candidates, "LEAST_AGREEMENT", 0.0)


@pytest.fixture(scope="module")
def lowered(
    trained: Trained,
    exported: Bundle,
    _cache_of_the_session: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """A bundle with INT8 of one member, tried with OpenVINO where it is installed.

    Tests must not change what lies in its folder.
    """
    folder = tmp_path_factory.mktemp("lowered") / "bundle"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        prepare(patched, exported)
        patched.setattr(candidates, "LEAST_AGREEMENT", 0.0)
        return export(
            trained.runs[:1],
            ExportOptions(
                folder,
                precisions=(
                    "int8",
                    "fp32",
                ),
            ),
        )


def rows(bundle: Bundle, wanted: str) -> list[QuantizationTrial]:
    return [row for row in bundle.precisions if row.precision == wanted]


class TestWhatIsAccepted:
    def test_is_in_the_bundle_beside_fp32(self, lowered: Bundle) -> None:
        assert load_bundle(lowered.folder) == lowered
        lowered.check_files()
        (member,) = lowered.members
        (variant,) = member.variants
        assert variant.precision == "int8"
        assert {path.name for path in lowered.folder.iterdir()} == {
            "bundle.json",
            "validation.npz",
            member.file,
            *variant.files,
        }

    def test_is_the_fastest_of_the_ways_that_were_tried(self, lowered: Bundle) -> None:
        tried = rows(lowered, "int8")
        accepted = [row for row in tried if row.accepted]
        assert [row.reason for row in accepted] == [""]
        assert accepted[0].figures.ms == min(row.figures.ms for row in tried if row.figures.ms)
        assert all(row.reason for row in tried if not row.accepted)
        if HAS_OPENVINO:
            assert [row.runtime for row in tried] == ["onnxruntime", "openvino"]
            assert accepted[0].runtime == "openvino"
            assert tried[0].reason == "another way to int8 is faster"

    def test_agrees_as_its_row_says(self, lowered: Bundle) -> None:
        (member,) = lowered.members
        held_out = load_validation(lowered)
        said, expected = held_out.variants[ModelKey(member.name, "int8")], held_out.probabilities[0]
        assert said.shape == expected.shape == (10, len(VIEWS), 8)
        (row,) = (row for row in lowered.precisions if row.accepted)
        labels, kept = expected[:, 0].argmax(axis=1), said[:, 0].argmax(axis=1)
        assert row.figures.photos == 10
        assert row.figures.agreement == pytest.approx((labels == kept).mean())
        difference = np.abs(said[:, 0] - expected[:, 0]).max()
        assert row.figures.largest_difference == pytest.approx(difference, abs=1e-6)
        assert difference > 0

    def test_says_to_the_views_what_its_validation_holds(
        self, lowered: Bundle, trained: Trained, draw_photo: Callable[..., Any]
    ) -> None:
        (member,) = lowered.members
        session = open_session(lowered.folder, member, "int8", choose_device("cpu"), 1, len(VIEWS))
        validation = trained.runs[0].validation
        assert validation is not None
        (path,) = (trained.data / "train").rglob(str(validation.ids[3]))
        from toolkit.data.pixels import load

        views = FixedViews()(load(path, member.square), 3, range(len(VIEWS)))
        np.testing.assert_allclose(
            session.run(session.place(views), len(VIEWS)),
            load_validation(lowered).variants[ModelKey(member.name, "int8")][3],
            atol=1e-5,
        )

    def test_is_among_the_files_whose_bytes_are_checked(
        self, lowered: Bundle, tmp_path: Path
    ) -> None:
        for name in lowered.members[0].variants[0].files:
            folder = Path(shutil.copytree(lowered.folder, tmp_path / name))
            with (folder / name).open("ab") as file:
                file.write(b"\n")
            with pytest.raises(ToolkitError, match=rf"{name}: the file was changed"):
                load_bundle(folder).check_files()

    def test_is_told(self, lowered: Bundle, trained: Trained) -> None:
        from toolkit.cli.export import command

        # The bundle stands there already, so the command has only to tell about it.
        asked = ["--bundle", lowered.folder, "--member", trained.runs[0].folder]
        asked += ["--precision", "int8", "--quiet"]
        told = CliRunner().invoke(command, [*map(str, asked), "--json"], catch_exceptions=False)
        assert json.loads(told.stdout)["precisions"] == [asdict(row) for row in lowered.precisions]
        table = CliRunner().invoke(command, [*map(str, asked)], catch_exceptions=False).stdout
        assert "Lower precisions, on the held-out photos" in table
        assert table.count("int8") >= len(lowered.precisions)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("figures", "reason"),
        [
            ({}, ""),
            ({"agreement": 0.9}, ""),
            ({"agreement": 0.899}, "keeps 89.9 % of the labels, at least 90 % are wanted"),
            ({"ms": 10.0}, "not faster than fp32 on this machine"),
            ({"agreement": 1.0, "ms": 25.0}, "not faster than fp32 on this machine"),
            ({"largest_difference": None}, "its outputs are not finite"),
        ],
    )
    def test_is_what_is_worse_or_no_faster(self, figures: dict[str, Any], reason: str) -> None:
        good = Judged("", 12, agreement=0.99, largest_difference=0.02, ms=5.0, fp32_ms=10.0)
        assert candidates.refusal(replace(good, **figures)) == reason

    def test_a_spoilt_variant_is_named_with_its_reason_and_its_file_is_gone(
        self, trained: Trained, ready: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calibrate = quantize.calibrate

        def clipped(*arguments: Any) -> quantize.Ranges:
            found = calibrate(*arguments)
            return {name: (low / 50, high / 50) for name, (low, high) in found.items()}

        monkeypatch.setattr(quantize, "calibrate", clipped)
        made = export(trained.runs[:1], ExportOptions(tmp_path / "bundle", precisions=("int8",)))
        assert made.members[0].variants == ()
        assert {path.name for path in made.folder.iterdir()} == {
            "bundle.json",
            "validation.npz",
            f"{SMALL}.onnx",
        }
        everything, less, by_openvino = rows(made, "int8")
        for row in (everything, less):
            assert not row.accepted
            assert row.figures.agreement < 0.9
            assert "% of the labels" in row.reason
        assert everything.figures.how != less.figures.how
        assert by_openvino.reason.startswith("OpenVINO is not installed")

    def test_a_variant_that_is_not_faster_is_not_taken(
        self, trained: Trained, lenient: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(candidates, "interleaved_ms", SLOW)
        made = export(trained.runs[:1], ExportOptions(tmp_path / "bundle", precisions=("int8",)))
        assert made.members[0].variants == ()
        # More of it in fp32 would be slower still.
        by_onnxruntime, _ = rows(made, "int8")
        assert by_onnxruntime.reason == "not faster than fp32 on this machine"
        assert (by_onnxruntime.figures.ms, by_onnxruntime.figures.fp32_ms) == (10.5, 10.0)

    def test_what_cannot_run_here_says_what_is_missing(
        self, trained: Trained, ready: None, tmp_path: Path
    ) -> None:
        made = export(
            trained.runs[:1],
            ExportOptions(
                tmp_path / "bundle",
                precisions=(
                    "bf16",
                    "fp16",
                ),
            ),
        )
        (bf16,), (fp16,) = rows(made, "bf16"), rows(made, "fp16")
        assert bf16.reason == "OpenVINO is not installed: pip install 'toolkit[openvino]'"
        assert fp16.reason == "no CUDA device to measure it on"
        assert not bf16.accepted
        assert not fp16.accepted

    def test_bf16_needs_a_processor_that_has_it(
        self,
        trained: Trained,
        exported: Bundle,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pytest.importorskip("openvino")

        def refused(path: Path, *_: Any) -> Any:
            raise ToolkitError(f"{path}: Expected OpenVINO to compute in bf16, but it takes f32.")

        prepare(monkeypatch, exported)
        monkeypatch.setattr(sessions, "OpenVinoSession", refused)
        made = export(trained.runs[:1], ExportOptions(tmp_path / "bundle", precisions=("bf16",)))
        (row,) = rows(made, "bf16")
        assert row.reason == "Expected OpenVINO to compute in bf16, but it takes f32."
        assert made.members[0].variants == ()

    def test_members_that_trained_on_all_photos_have_nothing_to_be_judged_by(
        self, trained: Trained, ready: None, tmp_path: Path
    ) -> None:
        seen = dataclasses.replace(trained.runs[0].data, validation_photos=0)
        run = dataclasses.replace(trained.runs[0], data=seen)
        with pytest.raises(UsageError, match=r"`precisions=\('int8',\)`: .* trained on all"):
            export([run], ExportOptions(tmp_path / "bundle", precisions=("int8",)))
        assert not (tmp_path / "bundle").exists()

    @pytest.mark.parametrize("wanted", [("int4",), ("fp32", "", "int8"), ("",)])
    def test_an_unknown_precision_is_refused_before_any_work(
        self, wanted: tuple[str, ...], trained: Trained, ready: None, tmp_path: Path
    ) -> None:
        message = "Expected fp32, fp16, bf16, int8 or several"
        with pytest.raises(UsageError, match=message) as refused:
            export(trained.runs, ExportOptions(tmp_path / "bundle", precisions=wanted))
        assert (refused.value.argument, refused.value.value) == ("precisions", wanted)
        assert list(tmp_path.iterdir()) == []


class TestASecondExport:
    def test_finds_the_bundle_that_was_made_with_the_same_precisions(
        self, trained: Trained, lowered: Bundle
    ) -> None:
        again = ExportOptions(lowered.folder, precisions=("int8",))
        assert export(trained.runs[:1], again) == lowered

    @pytest.mark.parametrize("other", [("fp32",), ("int8", "bf16")])
    def test_refuses_one_that_was_made_with_others(
        self, other: tuple[str, ...], trained: Trained, lowered: Bundle
    ) -> None:
        with pytest.raises(ToolkitError, match=r"or other precisions: .*requested: .*Pass `fresh"):
            export(trained.runs[:1], ExportOptions(lowered.folder, precisions=other))

    def test_goes_on_with_the_members_whose_precisions_were_not_tried(
        self, trained: Trained, lenient: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here, tried = precision.in_own_process, []

        def note(
            function: Callable[..., Any], bench: candidates.Bench, *more: Any, **_: Any
        ) -> Any:
            if bench.member.name.endswith("second") and not tried[1:]:
                tried.append("killed")
                raise Killed
            tried.append(bench.member.name)
            return here(function, bench, *more)

        monkeypatch.setattr(precision, "in_own_process", note)
        wanted = ExportOptions(tmp_path / "bundle", precisions=("int8",))
        with pytest.raises(Killed):
            export(trained.runs, wanted)
        made = export(trained.runs, wanted)
        assert tried == [SMALL, "killed", f"{SMALL}-second"]
        made.check_files()
        assert [len(member.variants) for member in made.members] == [1, 1]
        assert set(load_validation(made).variants) == {
            ModelKey(SMALL, "int8"),
            ModelKey(f"{SMALL}-second", "int8"),
        }
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_fp16_computes_what_fp32_computes(exported: Bundle, tmp_path: Path) -> None:
    import onnx

    file, target = exported.folder / exported.members[0].file, tmp_path / "fp16.onnx"
    quantize.write_fp16(file, target)
    assert target.stat().st_size < 0.7 * file.stat().st_size
    kept = {node.op_type for node in onnx.load(target).graph.node}
    assert "Cast" in kept
    images = np.random.default_rng(3).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    whole, half = (
        MemberSession(path, choose_device("cpu"), 1, 16).run(images, 16) for path in (file, target)
    )
    assert half.dtype == np.float32
    assert np.isfinite(half).all()
    # How far single probabilities move depends on the network; a wrong conversion moves them all.
    assert np.abs(half - whole).mean() < 1e-2
    best_two = np.sort(whole, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > 0.1
    assert clear.any()
    np.testing.assert_array_equal(half.argmax(axis=1)[clear], whole.argmax(axis=1)[clear])
    assert not np.array_equal(half, whole)


def test_calibration_finds_the_range_of_a_layer(exported: Bundle) -> None:
    file = exported.folder / exported.members[0].file
    images = np.random.default_rng(5).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    ranges = quantize.calibrate(file, images)
    assert len(ranges) > 50
    for low, high in ranges.values():
        assert np.isfinite([low, high]).all()
        assert low <= high


def test_what_int8_breaks_first_is_found(exported: Bundle) -> None:
    import onnx

    file = exported.folder / exported.members[0].file
    nodes = {node.name: node for node in onnx.load(file).graph.node}
    found = set(quantize.sensitive_nodes(file))
    depthwise = [
        name
        for name in found
        if any(each.name == "group" and each.i > 1 for each in nodes[name].attribute)
    ]
    squeezing = {
        name
        for name, node in nodes.items()
        if node.op_type == "Conv" and "squeeze_excite" in node.name
    }
    # MobileNetV3Small has eleven blocks, each with one; nine have squeeze-excite, of two layers.
    assert len(depthwise) == 11
    assert len(squeezing) == 2 * 9
    assert squeezing < found


def test_libraries_are_silenced_and_we_are_heard_afterwards(
    capfd: pytest.CaptureFixture[str],
) -> None:
    import os

    with quantize.silenced():
        print("a library")
        os.write(1, b"its native code")
        os.write(2, b"and its errors")
    print("we")
    told = capfd.readouterr()
    assert (told.out, told.err) == ("we\n", "")
