"""One member's network: what it answers, and how its images reach a GPU."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from toolkit.data.pixels import Square, load
from toolkit.errors import ToolkitError
from toolkit.inference import devices, sessions
from toolkit.inference.bundle import Judged, Variant, load_bundle
from toolkit.inference.devices import Device, DeviceError, choose_device, obstacle
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.openvino_session import OpenVinoSession
from toolkit.inference.sessions import MemberSession, Sessions, open_session
from toolkit.inference.timing import Timings
from toolkit.inference.voting import Voting

CPU = Device("cpu", "processor")
CUDA = Device("cuda", "pretended GPU")
TO_CPU = {"cuda": "cpu"}


def noise(count: int, size: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 4, 9])
@pytest.mark.parametrize("member", ["alpha", "gamma"])
def test_probabilities_are_those_of_the_network(tiny_bundle, member: str, count: int) -> None:
    images = noise(count, 48 if member == "gamma" else 32)
    session = MemberSession(tiny_bundle.folder / f"{member}.onnx", CPU, 1, batch=4)
    answer = session.run(session.place(images), count)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, tiny_bundle.reference(member, images), atol=1e-5)


def test_a_file_that_is_no_network_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("no network", encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"text\.onnx: is no ONNX file") as told:
        MemberSession(path, CPU, 1, batch=1)
    assert "\n" not in str(told.value)


class PretendedCuda:
    """onnxruntime as it is on a GPU machine, with the processor in the GPU's place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uploads: list[tuple[int, ...]] = []
        self.runs: list[tuple[int, ...]] = []
        self.provider = "CUDAExecutionProvider"
        self.memory = 1000  # Images.
        real_session, real_value = onnxruntime.InferenceSession, onnxruntime.OrtValue
        pretended = self

        class Session:
            def __init__(self, path: Path, options: Any, providers: list[Any]) -> None:
                self._asked = providers[0] if isinstance(providers[0], str) else providers[0][0]
                self._real = real_session(path, options, providers=["CPUExecutionProvider"])

            def get_inputs(self) -> list[Any]:
                inputs: list[Any] = self._real.get_inputs()
                return inputs

            def get_outputs(self) -> list[Any]:
                outputs: list[Any] = self._real.get_outputs()
                return outputs

            def disable_fallback(self) -> None:
                self._real.disable_fallback()

            def get_providers(self) -> list[str]:
                is_gpu = self._asked == "CUDAExecutionProvider"
                return [*([pretended.provider] if is_gpu else []), "CPUExecutionProvider"]

            def io_binding(self) -> Binding:
                return Binding(self._real.io_binding())

            def run_with_iobinding(self, binding: Binding) -> None:
                if pretended.memory < pretended.uploads[-1][0]:
                    raise RuntimeError("Failed to allocate memory\nfor the output")
                self._real.run_with_iobinding(binding.real)

        class Binding:
            def __init__(self, real: Any) -> None:
                self.real = real

            def bind_ortvalue_input(self, name: str, value: Any) -> None:
                pretended.runs.append(tuple(value.shape()))
                self.real.bind_ortvalue_input(name, value)

            def bind_output(self, name: str, device: str) -> None:
                self.real.bind_output(name, TO_CPU[device])

            def copy_outputs_to_cpu(self) -> list[Any]:
                copied: list[Any] = self.real.copy_outputs_to_cpu()
                return copied

        class Value:
            @staticmethod
            def ortvalue_from_numpy(array: Any, device: str, number: int) -> Any:
                pretended.uploads.append(array.shape)
                assert array.dtype == np.uint8
                return real_value.ortvalue_from_numpy(array, TO_CPU[device], number)

        monkeypatch.setattr(sessions.onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(sessions.onnxruntime, "OrtValue", Value)

    def forget(self) -> None:
        """Forget what was seen so far."""
        self.uploads.clear()
        self.runs.clear()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> PretendedCuda:
    return PretendedCuda(monkeypatch)


def test_an_openvino_that_cannot_be_imported_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ToolkitError, match=r"m\.onnx: OpenVINO cannot load it \(import of"):
        OpenVinoSession(tmp_path / "m.onnx", "bf16", 1, 1)


class TestGpu:
    def test_every_run_has_the_same_shape_and_answers_are_cut(
        self, tiny_bundle, cuda: PretendedCuda
    ) -> None:
        session = MemberSession(tiny_bundle.folder / "alpha.onnx", CUDA, 1, batch=4)
        cuda.forget()
        images = noise(10)
        answer = session.run(session.place(images), 10)
        assert cuda.uploads == cuda.runs == [(4, 32, 32, 3)] * 3
        np.testing.assert_allclose(answer, tiny_bundle.reference("alpha", images), atol=1e-5)

    def test_members_of_one_size_share_one_upload_a_batch(
        self, tiny_bundle, cuda: PretendedCuda, photos: list[Path]
    ) -> None:
        ensemble = self.ensemble(tiny_bundle.folder, batch=4)
        cuda.forget()
        answers = list(ensemble.answers(photos[:6]))
        assert cuda.uploads == [(4, 32, 32, 3), (4, 48, 48, 3)] * 2
        assert cuda.runs == [(4, 32, 32, 3), (4, 32, 32, 3), (4, 48, 48, 3)] * 2
        for name, size in {"alpha": 32, "beta": 32, "gamma": 48}.items():
            seen = np.stack([load(photo, Square(size)) for photo in photos[:6]])
            answered = np.concatenate([answer.members[name][:, 0] for answer in answers])
            np.testing.assert_allclose(answered, tiny_bundle.reference(name, seen), atol=1e-5)

    def test_a_session_that_fell_back_in_silence_is_refused(
        self, tiny_bundle, cuda: PretendedCuda
    ) -> None:
        cuda.provider = "CPUExecutionProvider"
        with pytest.raises(
            ToolkitError,
            match=r"Expected CUDAExecutionProvider, but .* runs on CPUExecutionProvider.*doctor",
        ):
            MemberSession(tiny_bundle.folder / "alpha.onnx", CUDA, 1, batch=1)

    def test_auto_goes_on_with_the_processor_and_says_why(
        self, tiny_bundle, cuda: PretendedCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(devices, "obstacle", lambda kind: "")
        monkeypatch.setattr(devices, "gpu_name", lambda: "pretended GPU")
        cuda.provider = "CPUExecutionProvider"
        ensemble = Ensemble.load(tiny_bundle.folder, device="auto")
        assert (ensemble.device.kind, ensemble.provider) == ("cpu", "CPUExecutionProvider")
        (note,) = ensemble.notes
        assert note.startswith("CUDA is unavailable: ")
        assert "Expected CUDAExecutionProvider, but the session runs on CPU" in note
        with pytest.raises(DeviceError, match=r"pass .device='cpu'."):
            Ensemble.load(tiny_bundle.folder, device="cuda")

    def test_a_batch_too_large_for_its_memory_is_known_before_the_first_photo(
        self, tiny_bundle, cuda: PretendedCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(devices, "obstacle", lambda kind: "")
        monkeypatch.setattr(devices, "gpu_name", lambda: "pretended GPU")
        cuda.memory = 8
        assert Ensemble.load(tiny_bundle.folder, device="cuda", batch=8).device.is_gpu
        with pytest.raises(
            DeviceError,
            match=r"alpha\.onnx: the GPU cannot run 9 images .*Choose a smaller `batch`",
        ) as told:
            Ensemble.load(tiny_bundle.folder, device="cuda", batch=9)
        assert "\n" not in str(told.value)
        ensemble = Ensemble.load(tiny_bundle.folder, device="auto", batch=9)
        assert ensemble.provider == "CPUExecutionProvider"
        assert "Failed to allocate" in ensemble.notes[0]

    @pytest.mark.parametrize(
        ("precision", "runtime", "complaint"),
        [
            ("bf16", "openvino", "bf16 by OpenVINO is for the CPU, not cuda"),
            ("int8", "onnxruntime", "int8 is for the CPU, not cuda"),
        ],
    )
    def test_a_processors_precision_is_not_run_in_silence_beside_it(
        self, tiny_bundle, precision: str, runtime: str, complaint: str
    ) -> None:
        """Nor fp16 on the processor."""
        whole = load_bundle(tiny_bundle.folder).members[0]
        files = {whole.file: whole.sha256}
        member = replace(
            whole,
            variants=(
                Variant(precision, runtime, files, Judged("")),
                Variant("fp16", "onnxruntime", files, Judged("")),
            ),
        )
        with pytest.raises(ToolkitError, match=f"'alpha' in {complaint}. Choose `device='cpu'`"):
            open_session(tiny_bundle.folder, member, precision, CUDA, 1, 4)
        with pytest.raises(ToolkitError, match="'alpha' in fp16 is for a GPU, not the CPU"):
            open_session(tiny_bundle.folder, member, "fp16", CPU, 1, 4)

    @staticmethod
    def ensemble(folder: Path, batch: int) -> Ensemble:
        bundle = load_bundle(folder)
        sessions = Sessions(bundle, device=CUDA, threads=1, batch=batch, timings=Timings())
        return Ensemble(sessions, Voting("uniform", (1 / 3, 1 / 3, 1 / 3)), views=1)


@pytest.mark.skipif(bool(obstacle("cuda")), reason=f"no CUDA session loads: {obstacle('cuda')}")
def test_a_real_gpu_answers_as_the_processor_does(tiny_bundle, photos: list[Path]) -> None:
    on_gpu, on_cpu = (
        Ensemble.load(tiny_bundle.folder, tta=4, voting="uniform", device=device, batch=4)
        for device in ("cuda", "cpu")
    )
    assert on_gpu.provider == "CUDAExecutionProvider"
    assert on_gpu.device.kind == choose_device("auto").kind == "cuda"
    np.testing.assert_allclose(on_gpu.predict(photos), on_cpu.predict(photos), atol=1e-5)
