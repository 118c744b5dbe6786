"""Where to compute: each thing that can be missing is found out, and said, without a GPU."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from toolkit.errors import ToolkitError, UsageError
from toolkit.inference import devices
from toolkit.inference.devices import Device, choose_device, obstacle
from toolkit.machine import processor_name

CUDA, TENSORRT, CPU = (
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
    "CPUExecutionProvider",
)
CANNOT_OPEN = "cannot open shared object file: No such file or directory"


@dataclass
class Machine:
    """A machine as the loader and the driver show it; as it stands here, all is well."""

    providers: tuple[str, ...] = (TENSORRT, CUDA, CPU)
    has_driver: bool = True
    driver_works: bool = True
    gpus: int = 1
    missing: tuple[tuple[str, str], ...] = ()

    def load(self, path: str, **_: Any) -> Any:
        """Stand in for `ctypes.CDLL`."""
        if path in ("libcuda.so.1", "nvcuda.dll"):
            if not self.has_driver:
                raise OSError(f"{path}: {CANNOT_OPEN}")
            return self._driver()
        for library, needs in self.missing:
            if f"providers_{library}" in path:
                raise OSError(f"{needs}: {CANNOT_OPEN}")
        return None

    def _driver(self) -> Any:
        def count(reference: Any) -> int:
            reference._obj.value = self.gpus
            return 0

        def name(buffer: Any, length: int, handle: Any) -> int:
            buffer.value = b"Tesla of tests"
            return 0

        return SimpleNamespace(
            cuInit=lambda flags: 0 if self.driver_works else 999,
            cuDeviceGetCount=count,
            cuDeviceGet=lambda handle, index: 0,
            cuDeviceGetName=name,
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    pretended = Machine()
    loader = SimpleNamespace(**{**vars(ctypes), "CDLL": pretended.load})
    monkeypatch.setattr(devices, "ctypes", loader)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(pretended.providers))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load nothing"))
    return pretended


def test_all_that_is_needed_is_no_obstacle(machine: Machine) -> None:
    assert obstacle("cuda") == obstacle("tensorrt") == ""


@pytest.mark.parametrize(
    ("kind", "wrong", "reason"),
    [
        ("cuda", {"providers": (CPU,)}, r"has no cuda \(onnxruntime-gpu has\)"),
        ("tensorrt", {"providers": (CUDA, CPU)}, r"has no tensorrt"),
        ("cuda", {"has_driver": False}, "no NVIDIA driver is installed"),
        ("cuda", {"driver_works": False}, "the NVIDIA driver sees no GPU"),
        ("cuda", {"gpus": 0}, "the NVIDIA driver sees no GPU"),
        (
            "cuda",
            {"missing": (("cuda", "libcudnn.so.9"),)},
            r"^libcudnn\.so\.9 cannot be loaded \(pip install 'toolkit\[cuda\]'",
        ),
        (
            "tensorrt",
            {"missing": (("cuda", "libcublas.so.13"),)},
            r"^libcublas\.so\.13 cannot be loaded \(pip install 'toolkit\[cuda\]'",
        ),
        (
            "tensorrt",
            {"missing": (("tensorrt", "libnvinfer.so.10"),)},
            r"^libnvinfer\.so\.10 cannot be loaded \(install TensorRT",
        ),
    ],
)
def test_what_is_missing_is_said(
    machine: Machine, kind: str, wrong: dict[str, Any], reason: str
) -> None:
    vars(machine).update(wrong)
    assert re.search(reason, obstacle(kind))


def test_cuda_does_not_need_tensorrt(machine: Machine) -> None:
    machine.missing = (("tensorrt", "libnvinfer.so.10"),)
    assert obstacle("cuda") == ""


def test_looking_prints_nothing(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    obstacle("tensorrt")
    assert capfd.readouterr() == ("", "")


class TestChooseDevice:
    def test_auto_takes_the_gpu_where_it_loads(self, machine: Machine) -> None:
        assert choose_device("auto") == Device("cuda", "Tesla of tests")

    def test_auto_falls_to_the_processor_and_says_why(self, machine: Machine) -> None:
        machine.has_driver = False
        chosen = choose_device("auto")
        assert (chosen.kind, chosen.name) == ("cpu", processor_name())
        assert chosen.note == "CUDA is unavailable: no NVIDIA driver is installed"

    def test_auto_does_not_ask_for_tensorrt(self, machine: Machine) -> None:
        machine.missing = (("tensorrt", "libnvinfer.so.10"),)
        assert choose_device("auto").kind == "cuda"

    @pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
    def test_an_explicit_gpu_is_taken(self, machine: Machine, kind: str) -> None:
        assert choose_device(kind) == Device(kind, "Tesla of tests")

    @pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
    def test_an_explicit_gpu_that_is_not_there_is_refused(
        self, machine: Machine, kind: str
    ) -> None:
        machine.gpus = 0
        with pytest.raises(
            ToolkitError, match=rf"`device='{kind}'`: .*sees no GPU.*`device='cpu'`"
        ):
            choose_device(kind)

    def test_the_processor_is_taken_without_looking_for_a_gpu(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(devices, "obstacle", lambda kind: pytest.fail("looked"))
        assert choose_device("cpu") == Device("cpu", processor_name())

    def test_an_unknown_device_is_named(self) -> None:
        with pytest.raises(UsageError, match=r"auto, cpu, cuda, tensorrt, received 'gpu'"):
            choose_device("gpu")


class TestProviderList:
    def test_the_wanted_provider_comes_first_and_the_processor_last(self) -> None:
        for kind, provider in {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}.items():
            asked = [
                each if isinstance(each, str) else each[0]
                for each in Device(kind, "").provider_list()
            ]
            assert asked[0] == provider == Device(kind, "").provider
            assert asked[-1] == CPU

    def test_fp32_on_cuda_is_fp32(self) -> None:
        ((_, options), _) = Device("cuda", "").provider_list()
        assert options["use_tf32"] == "0"


def test_auto_on_this_machine_prints_no_native_lines(tiny_bundle) -> None:
    """onnxruntime writes its complaints past Python, so only another process shows them."""
    program = (
        "import sys; from toolkit import Ensemble\n"
        f"print(Ensemble.load({str(tiny_bundle.folder)!r}, device='auto').provider)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stderr == ""
    assert found.stdout.strip() in (CPU, CUDA)
