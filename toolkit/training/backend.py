"""Which framework Keras computes with, and what that one can do here."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    import keras

BACKENDS = ("tensorflow", "jax", "torch")

_MALLOC_TRIM_THRESHOLD, _MALLOC_MMAP_MAX = -1, -4
"""Numbers of options in glibc's malloc.h."""


def choose_backend() -> str:
    """Find Keras's backend without importing Keras.

    Returns:
        What `KERAS_BACKEND` says, else what `~/.keras/keras.json` says where it is installed, else
        the first of TensorFlow, JAX and PyTorch that is.

    Raises:
        ToolkitError: None is installed, or the one that was asked for is not.
    """
    installed = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
    asked = os.environ.get("KERAS_BACKEND")
    if asked and asked not in installed:
        raise ToolkitError(f"KERAS_BACKEND={asked}: is not installed here.")
    chosen = asked or _configured()
    if chosen in installed:
        return chosen
    if not installed:
        raise ToolkitError(
            "Training needs TensorFlow, JAX or PyTorch: pip install 'toolkit[train]'."
        )
    return installed[0]


def framework_settings(backend: str, threads: int, *, shared: bool) -> dict[str, str]:
    """Return the environment variables for a process that is to compute with a backend.

    Args:
        backend: One of `BACKENDS`.
        threads: How many to compute with; see `set_threads` for what is no variable.
        shared: Whether other processes compute at the same time, perhaps on the same GPU.
    """
    settings = {
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": str(threads),
        "NPROC": str(threads),  # XLA's pool of threads, of which JAX has no other setting.
    }
    if shared:  # Each would take all of a GPU's memory.
        settings |= {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return settings


def set_threads(threads: int) -> None:
    """Let Keras's backend compute with so many threads; before it computes anything.

    The environment of `framework_settings` is needed too.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(threads)


def keep_freed_memory() -> None:
    """Let this process use memory again that it freed; before the framework is imported.

    The C library of Linux gives large blocks back to the system at once, so that each training step
    maps and clears the same pages again: a quarter of the time of ResNet101V2 at 32 px. Other C
    libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for option, value in ((_MALLOC_TRIM_THRESHOLD, 2**31 - 1), (_MALLOC_MMAP_MAX, 0)):
            mallopt(option, value)


def sixteen_bit_policy() -> str:
    """Return the policy for mixed precision.

    Raises:
        ToolkitError: There is no GPU to gain by it.
    """
    import keras

    if not gpu_is_visible():
        raise ToolkitError(
            f"`mixed_precision=True`: no GPU is visible to Keras's backend "
            f"'{keras.backend.backend()}' (see `doctor()`); leave it out."
        )
    return "mixed_float16"


def jit_compile() -> bool | str:
    """Return what to pass as `jit_compile` to `compile`.

    Keras would use XLA on a CPU too, where TensorFlow's own kernels start in a third of the time
    and run several times faster on busy cores.
    """
    import keras

    if keras.backend.backend() == "tensorflow" and not gpu_is_visible():
        return False
    return "auto"


def set_jit_compile(model: keras.Model) -> None:
    """Make a model that was not compiled predict in the way that `jit_compile` chooses."""
    if jit_compile() is False:
        model.jit_compile = False


def gpu_is_visible() -> bool:
    """Return whether Keras's backend sees a GPU."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() in ("gpu", "tpu")
    import torch

    return bool(torch.cuda.is_available())


def may_have_gpu() -> bool:
    """Return False where no device is there that `gpu_is_visible` could find.

    That one has to import the backend, which takes seconds.
    """
    if sys.platform != "linux":
        return True
    devices = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/accel0", "/dev/vfio")
    return any(Path(device).exists() for device in devices)


def _configured() -> str:
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        content = json.loads((home / "keras.json").read_text(encoding="utf-8"))
        return str(content.get("backend", ""))
    except (OSError, ValueError, AttributeError):
        return ""
