"""Train, export and run an ensemble of image classifiers, and know what it costs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from toolkit.errors import (
    BundleError,
    DataError,
    ParityError,
    RecipeError,
    ResourceError,
    RunError,
    ToolkitError,
    UsageError,
)

if TYPE_CHECKING:
    from toolkit.api.build import export, fuse, train
    from toolkit.api.use import plan, predict, reproduce
    from toolkit.data.photo_file import BrokenPhotoError
    from toolkit.inference.bundle import Bundle
    from toolkit.inference.devices import DeviceError
    from toolkit.inference.ensemble import Ensemble
    from toolkit.progress import Reporter
    from toolkit.reporting.answers import compare_submissions
    from toolkit.reporting.comparison import compare
    from toolkit.reporting.doctor import doctor
    from toolkit.reporting.evaluation import evaluate
    from toolkit.training.run import Run

__version__ = "0.1.0"
__all__ = [
    "BrokenPhotoError",
    "Bundle",
    "BundleError",
    "DataError",
    "DeviceError",
    "Ensemble",
    "ParityError",
    "RecipeError",
    "Reporter",
    "ResourceError",
    "Run",
    "RunError",
    "ToolkitError",
    "UsageError",
    "__version__",
    "compare",
    "compare_submissions",
    "doctor",
    "evaluate",
    "export",
    "fuse",
    "plan",
    "predict",
    "reproduce",
    "train",
]

_HOMES = {
    "BrokenPhotoError": "toolkit.data.photo_file",
    "Bundle": "toolkit.inference.bundle",
    "DeviceError": "toolkit.inference.devices",
    "Ensemble": "toolkit.inference.ensemble",
    "Reporter": "toolkit.progress",
    "Run": "toolkit.training.run",
    "compare": "toolkit.reporting.comparison",
    "compare_submissions": "toolkit.reporting.answers",
    "doctor": "toolkit.reporting.doctor",
    "evaluate": "toolkit.reporting.evaluation",
    "export": "toolkit.api.build",
    "fuse": "toolkit.api.build",
    "plan": "toolkit.api.use",
    "predict": "toolkit.api.use",
    "reproduce": "toolkit.api.use",
    "train": "toolkit.api.build",
}


def __getattr__(name: str) -> Any:
    # The rooms import onnxruntime and pandas; a program that only wants the version does not wait.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'toolkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, *globals()]
