"""Which device really computes: tried, not read from a list."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import onnxruntime

from toolkit.errors import ToolkitError, UsageError, argument
from toolkit.machine import processor_name

Started = TypeVar("Started")

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class DeviceError(ToolkitError):
    """A GPU that was found cannot run a network.

    Attributes:
        reason: Why, without the advice that the message gives.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}. See 'toolkit doctor', or pass `device='cpu'`.")
        self.reason = reason


@dataclass(frozen=True)
class Device:
    """Where sessions compute.

    Attributes:
        kind: `cpu`, `cuda` or `tensorrt`.
        name: The processor's or GPU's model name.
        note: Why `auto` did not take a GPU; empty where it did, or where it was not asked.
    """

    kind: str
    name: str
    note: str = ""

    @property
    def provider(self) -> str:
        """onnxruntime's name of the provider."""
        return PROVIDERS[self.kind]

    @property
    def is_gpu(self) -> bool:
        """Whether batches have to be brought to the device."""
        return self.kind != "cpu"

    def provider_list(self) -> list[Any]:
        """Return what a session is asked for, the wanted provider first."""
        cuda_options = {
            "device_id": "0",
            "use_tf32": "0",  # fp32 means fp32, as on the CPU
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        wanted: dict[str, list[Any]] = {
            "cpu": [],
            "cuda": [(PROVIDERS["cuda"], cuda_options)],
            "tensorrt": [PROVIDERS["tensorrt"], (PROVIDERS["cuda"], cuda_options)],
        }
        return [*wanted[self.kind], PROVIDERS["cpu"]]


def choose_device(wanted: str) -> Device:
    """Find the device to compute on.

    Args:
        wanted: `auto` takes CUDA where it loads, else the CPU; any other is taken or refused.

    Returns:
        The device.

    Raises:
        ToolkitError: `cuda` or `tensorrt` was asked for and cannot be had; says why, and what to
            do.
    """
    if wanted not in ("auto", *PROVIDERS):
        raise UsageError(f"device: Expected auto, {', '.join(PROVIDERS)}, received '{wanted}'.")
    if wanted == "cpu":
        return Device("cpu", processor_name())
    kind = "cuda" if wanted == "auto" else wanted
    reason = obstacle(kind)
    if not reason:
        return Device(kind, gpu_name())
    if wanted == "auto":
        return without_gpu(reason)
    raise ToolkitError(
        f"{argument('device', wanted)}: {reason}. See 'toolkit doctor', or pass `device='cpu'`."
    )


def on_device(wanted: str, start: Callable[[Device], Started]) -> Started:
    """Start something on a device; for `auto`, on the CPU where a GPU that was found cannot run it.

    Args:
        wanted: As `choose_device` takes it.
        start: Starts it on a device; raises `DeviceError` where that cannot run it.

    Returns:
        What it returns.

    Raises:
        ToolkitError: The device that was asked for cannot be had, or cannot run it.
    """
    where = choose_device(wanted)
    try:
        return start(where)
    except DeviceError as error:
        if wanted != "auto" or not where.is_gpu:
            raise
        return start(without_gpu(error.reason))


def without_gpu(reason: str) -> Device:
    """Return the CPU as what `auto` takes where CUDA is unavailable for a reason."""
    return Device("cpu", processor_name(), f"CUDA is unavailable: {reason}")


def obstacle(kind: str) -> str:
    """Say why a GPU provider cannot load, or return an empty string where it can.

    onnxruntime lists providers whose libraries are missing, and prints native errors when asked
    for them; so their libraries are loaded here first, one by one.

    Args:
        kind: `cuda` or `tensorrt`.
    """
    if PROVIDERS[kind] not in onnxruntime.get_available_providers():
        return f"this onnxruntime {onnxruntime.__version__} has no {kind} (onnxruntime-gpu has)"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed"
    count = ctypes.c_int(0)
    if (
        driver.cuInit(0) != 0
        or driver.cuDeviceGetCount(ctypes.byref(count)) != 0
        or not count.value
    ):
        return "the NVIDIA driver sees no GPU"
    if kind == "tensorrt":
        # Else it computes fp32 in TF32; it has no option for that, and looks here when it loads.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    # Finds the libraries that pip or PyTorch installed; it prints what it does not find.
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()
    missing = _missing_library("cuda")
    if missing:
        return f"{missing} (pip install 'toolkit[cuda]' brings CUDA 13 and cuDNN 9)"
    if kind == "tensorrt":
        missing = _missing_library("tensorrt")
        if missing:
            return f"{missing} (install TensorRT 10 for CUDA 13)"
    return ""


def gpu_name() -> str:
    """Return the first GPU's model name by the CUDA driver."""
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    driver.cuInit(0)
    handle, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(handle), 0)
    driver.cuDeviceGetName(name, len(name), handle)
    return name.value.decode(errors="replace") or "GPU"


def _missing_library(provider: str) -> str:
    """Load a provider's library and return the loader's complaint, or an empty string."""
    folder = Path(str(onnxruntime.__file__)).parent / "capi"
    prefix, suffix = ("", ".dll") if os.name == "nt" else ("lib", ".so")
    names = [f"{prefix}onnxruntime_providers_{part}{suffix}" for part in ("shared", provider)]
    try:
        for name in names:
            # Global, because the providers find one another's symbols through the process.
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        complaint = str(error).removesuffix(
            ": cannot open shared object file: No such file or directory"
        )
        return f"{complaint} cannot be loaded"
    return ""
