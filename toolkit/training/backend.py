"""Which framework Keras computes with, and what that one can do here."""

from __future__ import annotations

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


def sixteen_bit_policy() -> str:
    """Return the policy for mixed precision.

    Raises:
        ToolkitError: There is no GPU to gain by it.
    """
    import keras

    if not gpu_is_visible():
        raise ToolkitError(
            f"--mixed-precision: no GPU is visible to Keras's backend "
            f"'{keras.backend.backend()}' (see 'toolkit doctor'); leave the option out."
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
