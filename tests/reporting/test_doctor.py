"""The doctor says what really loads, and never falls ill itself."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import toolkit
from toolkit.inference.devices import obstacle
from toolkit.reporting import doctor

REAL_VERSION = importlib.metadata.version


@pytest.fixture(autouse=True)
def tensorflow_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that answers at once stands for the import of TensorFlow."""
    monkeypatch.setattr(doctor, "_TENSORFLOW_DEVICES", "print('CPU, GPU')")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Let packages have these versions, or not be there; the others are as they are."""

    def version(name: str, real: Any = REAL_VERSION) -> str:
        found = versions.get(name, "")
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found or str(real(name))

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_everything_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.doctor()
    content = dataclasses.asdict(found)
    assert json.loads(json.dumps(content))["packages"] == found.packages
    assert found.machine["toolkit"] == toolkit.__version__
    assert found.onnxruntime == onnxruntime.__version__
    assert found.packages["numpy"] == np.__version__
    assert found.tensorflow == "CPU, GPU"


def test_providers_were_tried_not_listed() -> None:
    providers = doctor.doctor().providers
    assert providers == {
        "CPUExecutionProvider": "",
        "CUDAExecutionProvider": obstacle("cuda"),
        "TensorrtExecutionProvider": obstacle("tensorrt"),
    }


def test_a_provider_that_cannot_load_comes_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "obstacle", lambda kind: f"{kind} is broken")
    assert doctor.doctor().providers["CUDAExecutionProvider"] == "cuda is broken"


class TestOpenVino:
    def test_without_it_the_way_to_it_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        installed(monkeypatch, openvino=None)
        assert "pip install 'toolkit[openvino]'" in doctor.doctor().openvino

    def test_what_it_computes_in_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("openvino")
        installed(monkeypatch, openvino="2026", nncf=None)
        found = doctor.doctor().openvino
        assert found.startswith("runs on the CPU: bf16 ")
        assert "nncf is missing" in found
        installed(monkeypatch, openvino="2026", nncf="3")
        assert "nncf is missing" not in doctor.doctor().openvino


class TestTensorFlow:
    def test_without_it_the_way_to_it_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        told = doctor.doctor().tensorflow
        assert "not installed (pip install 'toolkit[train]')" in told

    @pytest.mark.parametrize(
        ("script", "told"),
        [
            ("raise ImportError('no libfoo.so')", "cannot be imported: ImportError: no libfoo.so"),
            ("import os; os.kill(os.getpid(), 9)", "cannot be imported: it ended with code -9"),
            ("print()", "none"),
            ("import time; time.sleep(60)", "does not answer within 0.5 s"),
        ],
    )
    def test_an_import_that_fails_is_described(
        self, monkeypatch: pytest.MonkeyPatch, script: str, told: str
    ) -> None:
        monkeypatch.setattr(doctor, "_TENSORFLOW_DEVICES", script)
        if "sleep" in script:
            monkeypatch.setattr(doctor, "TENSORFLOW_TIMEOUT_S", 0.5)
        assert doctor.doctor().tensorflow == told


class TestGpus:
    def test_each_gpu_is_a_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program(tmp_path, "nvidia-smi", "echo 'Tesla T4, 15360 MiB, 580.65'; echo 'Second, 1, 2'")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert doctor.doctor().gpus == ["Tesla T4, 15360 MiB, 580.65", "Second, 1, 2"]

    @pytest.mark.parametrize(
        ("script", "why"),
        [
            ("echo 'No driver.'; exit 9", "nvidia-smi ended with code 9 No driver."),
            ("/bin/sleep 60", "nvidia-smi does not answer within 0.5 s"),
            ("true", "none seen by nvidia-smi"),
        ],
    )
    def test_where_there_is_none_it_is_told_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
    ) -> None:
        program(tmp_path, "nvidia-smi", f"exec {script}" if "sleep" in script else script)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(doctor, "NVIDIA_TIMEOUT_S", 0.5)
        found = doctor.doctor()
        assert (found.gpus, found.no_gpu) == ([], why)

    def test_without_a_driver_there_are_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        found = doctor.doctor()
        assert (found.gpus, found.no_gpu) == ([], "nvidia-smi is not installed")


def test_two_runtimes_in_one_environment_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, **{"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"})
    (warning,) = doctor.doctor().warnings
    assert "onnxruntime and onnxruntime-gpu are both installed" in warning


def test_one_runtime_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, **{"onnxruntime": None, "onnxruntime-gpu": "1.31.1"})
    assert doctor.doctor().warnings == []


def test_the_cache_is_where_it_was_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.npy").write_bytes(bytes(3 * 2**20))
    assert doctor.doctor().cache.startswith(f"{tmp_path} (3 MiB")
