"""What this machine can run: tried, with the reason where something cannot."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from typing import Any

import onnxruntime
import psutil

import toolkit
from toolkit.files import cache_folder
from toolkit.inference.devices import obstacle
from toolkit.machine import package_versions, processor_name, usable_cores

PACKAGES = (
    "tensorflow",
    "keras",
    "jax",
    "torch",
    "tf2onnx",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "albumentations",
    "albucore",
    "opencv-python-headless",
    "pillow",
    "numpy",
    "pandas",
    "scipy",
    "click",
)

NVIDIA_TIMEOUT_S, TENSORFLOW_TIMEOUT_S = 30.0, 180.0

_TENSORFLOW_DEVICES = """
import tensorflow
print(", ".join(device.device_type for device in tensorflow.config.list_physical_devices()))
"""


def diagnose() -> dict[str, Any]:
    """Look at the machine.

    Returns:
        `machine`, `gpus`, `providers` (empty string: it loads; else why not), `tensorflow`
        (devices, or why there are none), `cache`, `packages` and `warnings`.
    """
    packages = package_versions(PACKAGES)
    return {
        "machine": _machine(),
        "gpus": _gpus(),
        "providers": {
            "CPUExecutionProvider": "",
            "CUDAExecutionProvider": obstacle("cuda"),
            "TensorrtExecutionProvider": obstacle("tensorrt"),
        },
        "onnxruntime": onnxruntime.__version__,
        "tensorflow": _tensorflow_devices(),
        "cache": _cache(),
        "packages": packages,
        "warnings": _warnings(packages),
    }


def _machine() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "toolkit": toolkit.__version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": f"{usable_cores()} usable of {os.cpu_count()}",
        "memory": f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}",
    }


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(
            query, capture_output=True, text=True, timeout=NVIDIA_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return []
    return found.stdout.strip().splitlines() if found.returncode == 0 else []


def _tensorflow_devices() -> str:
    if importlib.util.find_spec("tensorflow") is None:
        return "not installed (pip install 'toolkit[train]'); needed for training and export only"
    # In a process of its own: TensorFlow would take the GPU's memory and never give it back.
    try:
        found = subprocess.run(
            [sys.executable, "-c", _TENSORFLOW_DEVICES],
            capture_output=True,
            text=True,
            timeout=TENSORFLOW_TIMEOUT_S,
            check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    except subprocess.TimeoutExpired:
        return f"does not answer within {TENSORFLOW_TIMEOUT_S:g} s"
    if found.returncode:
        # Native code that does not fit the processor ends without a word.
        complaint = found.stderr.strip() or f"it ended with code {found.returncode}"
        return f"cannot be imported: {complaint.splitlines()[-1]}"
    return (found.stdout.strip() or "none").splitlines()[-1]


def _cache() -> str:
    folder = cache_folder()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder} ({size / 2**20:.0f} MiB; can be deleted at any time)"


def _warnings(packages: dict[str, str]) -> list[str]:
    if "onnxruntime" in packages and "onnxruntime-gpu" in packages:
        return [
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "uninstall both, then install one."
        ]
    return []
