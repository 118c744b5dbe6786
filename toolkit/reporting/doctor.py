"""What this machine can run: tried, with the reason where something cannot."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import psutil

import toolkit
from toolkit.capacity import Capacity, available_memory
from toolkit.data.formats import DECODER_VERSION, FORMATS
from toolkit.errors import ToolkitError
from toolkit.files import cache_folder, written_whole
from toolkit.inference.devices import obstacle
from toolkit.machine import package_versions, processor_name, usable_cores
from toolkit.reporting.fitting import SetFit, fit_of_set
from toolkit.training.recipe_files import load_set

PACKAGES = (
    "tensorflow",
    "keras",
    "jax",
    "torch",
    "tf2onnx",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "nncf",
    "albumentations",
    "albucore",
    "opencv-python-headless",
    "pillow",
    "numpy",
    "pandas",
    "scipy",
    "click",
)

LOWER_PRECISIONS = {"bf16": "BF16", "int8": "INT8"}
"""What OpenVINO computes in, and how it calls it."""

NVIDIA_TIMEOUT_S, TENSORFLOW_TIMEOUT_S = 30.0, 180.0

_TENSORFLOW_DEVICES = """
import tensorflow
print(", ".join(device.device_type for device in tensorflow.config.list_physical_devices()))
"""


@dataclass(frozen=True)
class Diagnosis:
    """What this machine can run, and what fits.

    Attributes:
        machine: Versions, processor, cores and memory, in words, by what they are of.
        gpus: What nvidia-smi lists: name, memory, driver.
        no_gpu: Why there is none; empty where there is.
        providers: By provider of onnxruntime, why it does not load; empty where it does.
        onnxruntime: Its version.
        tensorflow: TensorFlow's devices, or why there are none.
        openvino: What it can compute in here, or why it cannot be used.
        cache: The folder of the cache and its size, or why it is unusable.
        packages: Versions by package.
        warnings: What is wrong with the installation.
        fit: What a recipe set needs of memory and disk.
    """

    machine: Mapping[str, str]
    gpus: Sequence[str]
    no_gpu: str
    providers: Mapping[str, str]
    onnxruntime: str
    tensorflow: str
    openvino: str
    cache: str
    packages: Mapping[str, str]
    warnings: Sequence[str]
    fit: SetFit


def doctor(
    *,
    recipes: str | Path = "improved",
    data: Path | str = "data",
    runs: Path | str = "runs",
    bundle: Path | str = "bundle",
) -> Diagnosis:
    """Find out what this machine can run, and whether a recipe set fits into it.

    Providers and frameworks are tried, TensorFlow in a process of its own.

    Args:
        recipes: A recipe set: one that comes with the toolkit, or a folder.
        data: The data folder, for the number of photos; where it is missing, 1,000 are assumed.
        runs: Where run folders would be made.
        bundle: Where the bundle would be made.

    Returns:
        What was found, in words, and the estimates of memory and disk in bytes.

    Raises:
        RecipeError: The recipe set is not valid.

    Example:
        >>> found = doctor()
        >>> found.providers["CUDAExecutionProvider"]
        'no GPU: nvidia-smi is not installed'
        >>> found.fit.members[0].training.needed / 2**30
        3.1
    """
    places = Path(data), Path(runs), Path(bundle)
    fit = fit_of_set(load_set(str(recipes)), *places, Capacity.here())
    packages = package_versions(PACKAGES)
    gpus, no_gpu = _gpus()
    return Diagnosis(
        machine=_machine(),
        gpus=gpus,
        no_gpu=no_gpu,
        providers={
            "CPUExecutionProvider": "",
            "CUDAExecutionProvider": obstacle("cuda"),
            "TensorrtExecutionProvider": obstacle("tensorrt"),
        },
        onnxruntime=onnxruntime.__version__,
        tensorflow=_tensorflow_devices(),
        openvino=_openvino(packages),
        cache=_cache(),
        packages=packages,
        warnings=_warnings(packages),
        fit=fit,
    )


def _machine() -> dict[str, str]:
    total = psutil.virtual_memory().total
    return {
        "toolkit": toolkit.__version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": f"{usable_cores()} usable of {os.cpu_count()}",
        "photos": f"{DECODER_VERSION} reads {', '.join(FORMATS)}",
        "memory": f"{available_memory() / 2**30:.1f} GiB free of {total / 2**30:.1f}",
    }


def _gpus() -> tuple[list[str], str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], "nvidia-smi is not installed"
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(
            query, capture_output=True, text=True, timeout=NVIDIA_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi does not answer within {NVIDIA_TIMEOUT_S:g} s"
    if found.returncode:
        complaint = [*(found.stdout + found.stderr).strip().splitlines(), ""][0]
        return [], f"nvidia-smi ended with code {found.returncode} {complaint}".rstrip()
    gpus = found.stdout.strip().splitlines()
    return gpus, "" if gpus else "none seen by nvidia-smi"


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


def _openvino(packages: dict[str, str]) -> str:
    if "openvino" not in packages:
        return "not installed (pip install 'toolkit[openvino]'); needed for bf16 and its INT8 only"
    try:
        import openvino

        able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (ImportError, OSError, RuntimeError) as error:
        return f"cannot be used: {' '.join(str(error).split())[:300]}"
    runs = [f"{name} {'yes' if key in able else 'no'}" for name, key in LOWER_PRECISIONS.items()]
    quantizes = "" if "nncf" in packages else "; nncf is missing, so its INT8 cannot be exported"
    return f"runs on the CPU: {', '.join(runs)}{quantizes}"


def _cache() -> str:
    try:
        folder = cache_folder()
        with written_whole(folder / "doctor.txt") as temporary:
            temporary.write_bytes(b"written by doctor")
        (folder / "doctor.txt").unlink()
    except ToolkitError as error:
        return f"unusable: {error}"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder} ({size / 2**20:.0f} MiB; can be deleted at any time)"


def _warnings(packages: dict[str, str]) -> list[str]:
    if "onnxruntime" in packages and "onnxruntime-gpu" in packages:
        return [
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "uninstall both, then install one."
        ]
    return []
